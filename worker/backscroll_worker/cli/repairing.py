"""`backscroll check --repair`."""

from __future__ import annotations

from contextlib import closing

import click

from backscroll.contract.errors import StoreUnavailableError
from backscroll_worker.cli.output import note, one_line, print_json, progress_bar
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_backend, store_lock, store_path
from backscroll_worker.stores.lock import StoreLock


def repair_store(settings: Settings, deep: bool, as_json: bool) -> None:
    """Repair the store and verify it again; ends with FAILED when something is left."""
    if not store_path(settings.store).exists():
        raise StoreUnavailableError(f"there is no {settings.store} on this machine")
    with (
        closing(store_lock(settings.store)) as lock,
        progress_bar("looking and repairing") as bar,
    ):
        _acquire(lock)
        with open_backend(settings.store) as store:
            found = store.verify(deep=deep, progress=bar.show)
            done = store.repair(found, progress=bar.show) if found else []
            left = store.verify(deep=deep, progress=bar.show) if found else []
    if as_json:
        print_json({"found": found, "done": done, "left": left})
    else:
        for finding in found:
            click.echo(f"found  {one_line(finding.where)}: {one_line(finding.problem)}")
        for line in done:
            click.echo(f"done   {one_line(line)}")
        for finding in left:
            where, problem = one_line(finding.where), one_line(finding.problem)
            click.echo(f"left   {where}: {problem}; {one_line(finding.advice)}")
        note(_verdict(bool(found), len(left)))
    if left:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _acquire(lock: StoreLock) -> None:
    try:
        lock.acquire()
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{error}; stop the worker, repair, and start it again. Jobs wait in the queue"
        ) from None


def _verdict(was_damaged: bool, left: int) -> str:
    if left:
        return "not all could be repaired; the lines with 'left' say what to do"
    return "repaired; the store is sound" if was_damaged else "the store is sound, nothing was done"
