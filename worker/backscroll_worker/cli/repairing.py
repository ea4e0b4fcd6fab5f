"""`backscroll check --repair`, and the bar that shows how far a long look has come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import Progress as ProgressBar

from backscroll.contract.errors import StoreUnavailableError
from backscroll_worker.cli.output import note, one_line, print_json
from backscroll_worker.contract.pacing import Progress, unobserved
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.stores import Store, store_at


@contextmanager
def progress_bar(doing: str, *, is_shown: bool = True) -> Iterator[Progress]:
    """On a terminal, a bar that goes away at the end."""
    errors = Console(stderr=True)
    if not is_shown or not errors.is_terminal:
        yield unobserved
        return
    with ProgressBar(console=errors, transient=True) as bar:
        task = bar.add_task(doing, total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def repair_store(settings: Settings, deep: bool, as_json: bool) -> None:
    """Mend the store and look at it again; ends with FAILED when something is left."""
    store = store_at(settings.store)
    if not store.exists():
        raise StoreUnavailableError(f"there is no {settings.store} on this machine")
    with store, progress_bar("looking and repairing") as progress:
        _acquire(store)
        found = store.verify(deep=deep, progress=progress)
        done = store.repair(found, progress=progress) if found else []
        left = store.verify(deep=deep, progress=progress) if found else []
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


def _acquire(store: Store) -> None:
    try:
        store.acquire()
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            f"{error}; stop the worker, repair, and start it again. Jobs wait in the queue"
        ) from None


def _verdict(was_damaged: bool, left: int) -> str:
    if left:
        return "not all could be repaired; the lines with 'left' say what to do"
    return "repaired; the store is sound" if was_damaged else "the store is sound, nothing was done"
