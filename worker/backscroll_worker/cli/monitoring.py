"""The commands that show the state of the system: stats and check."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Final

import click
import redis
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from backscroll.contract.errors import ServerUnavailableError
from backscroll.spool.queue import SpoolStats, read_spool
from backscroll_worker.cli.access import open_running, server_url
from backscroll_worker.cli.arguments import Seconds
from backscroll_worker.cli.output import (
    Row,
    cell,
    console,
    counted,
    duration,
    json_option,
    local_time,
    note,
    one_line,
    print_json,
    progress_bar,
    table,
)
from backscroll_worker.cli.repairing import repair_store
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.health import Check, check_quickly
from backscroll_worker.ops.health import check as check_health
from backscroll_worker.ops.stats import (
    QueueStats,
    StoreReader,
    StoreStats,
    WorkerStats,
    read_queue,
    size,
)
from backscroll_worker.settings import Settings

_MARKS: Final = {
    "ok": ("✓", "green"),
    "warning": ("!", "bold yellow"),
    "problem": ("✗", "bold red"),
}


@click.command()
@click.option(
    "--watch",
    type=Seconds(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Refresh every SECONDS (default: 2) until Ctrl-C.",
)
@click.option(
    "--spool",
    "spools",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A producer's spool on this host; can be given several times.",
)
@json_option
@click.pass_obj
def stats(settings: Settings, watch: float | None, spools: tuple[Path, ...], as_json: bool) -> None:
    """Show figures of queue, workers, scheduler and store.

    With --spool also a producer's spool. If the server is unreachable, spool and store are shown
    nevertheless; the exit code is 3.

    \b
    Example:
      backscroll stats
      backscroll stats --watch 5
    """
    if watch is not None and as_json:
        raise click.UsageError("--json prints one document; it cannot be used with --watch")
    kept = [read_spool(path) for path in spools]
    if kept and not as_json:  # first, as the server may be unreachable
        console().print(_spools(kept))
    with StoreReader(settings.store) as reader:
        try:
            with open_running(settings) as connection:
                if watch is not None:
                    _watch(connection, settings, reader, watch)
                    return
                queue = read_queue(connection, settings.queue)
        except ServerUnavailableError:
            if not as_json and (store := reader.read()) is not None:
                console().print(_store_table(store))
            raise
        store = reader.read()
    if as_json:
        print_json({**asdict(queue), "store": store, "spools": kept})
    else:
        console().print(_rendered(queue, store))


@click.command()
@click.option("--skip-verify", is_flag=True, help="Do not read the whole store; for large stores.")
@click.option("--quick", is_flag=True, help="Check only that all parts respond; for polling.")
@click.option("--deep", is_flag=True, help="Compare the index with all messages, not a sample.")
@click.option("--repair", is_flag=True, help="Repair the store; its worker must be stopped.")
@json_option
@click.pass_obj
def check(
    settings: Settings, skip_verify: bool, quick: bool, deep: bool, repair: bool, as_json: bool
) -> None:
    """Check every part, and say what to do about each finding.

    It checks server, queue, worker, scheduler and store, and changes nothing. The exit code is 1
    when there is a problem; warnings do not count.

    With --quick it checks only that the server answers, a worker is alive and the store opens,
    which is as fast for a large store as for a small one.

    With --repair it checks only the store and repairs what it can: indexes and counts are rebuilt,
    unreadable data is moved aside. No message is discarded.

    \b
    Example:
      backscroll check
      backscroll check --quick
      backscroll check --skip-verify --json
      backscroll check --repair --deep
    """
    if skip_verify and (deep or repair):
        raise click.UsageError("--skip-verify cannot be used with --deep or --repair")
    if quick and (skip_verify or deep or repair):
        raise click.UsageError("--quick can only be used with --json")
    if repair:
        repair_store(settings, deep, as_json)
        return
    with progress_bar("verifying", is_shown=deep) as bar:
        url = server_url(settings)
        checks = (
            check_quickly(settings, url)
            if quick
            else check_health(settings, url, skip_verify=skip_verify, deep=deep, progress=bar.show)
        )
    problems = sum(check.level == "problem" for check in checks)
    warnings = sum(check.level == "warning" for check in checks)
    if as_json:
        print_json(checks)
    else:
        for one in checks:
            _show_check(one)
        note(f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}")
    if problems:
        raise click.exceptions.Exit(ExitCode.FAILED)


COMMANDS = (stats, check)


def _show_check(check: Check) -> None:
    mark, style = _MARKS[check.level]
    row = Table.grid(padding=(0, 1))
    row.add_column(width=1)
    row.add_column(width=9)
    row.add_column(min_width=16, overflow="fold")
    row.add_column(overflow="fold")
    row.add_row(Text(mark, style=style), check.area, cell(check.name), one_line(check.detail))
    if check.advice:
        row.add_row("", "", "", cell(check.advice, "italic"))
    console().print(row)


def _watch(
    connection: redis.Redis, settings: Settings, reader: StoreReader, seconds: float
) -> None:
    try:
        with Live(console=console(), auto_refresh=False) as live:
            while True:
                queue = read_queue(connection, settings.queue)
                live.update(_rendered(queue, reader.read()), refresh=True)
                time.sleep(seconds)
    except KeyboardInterrupt:
        return


def _rendered(queue: QueueStats, store: StoreStats | None) -> Group:
    facts = _facts()
    facts.add_row("queue", cell(queue.queue))
    facts.add_row("waiting", f"{queue.depth:,}")
    facts.add_row("in flight", f"{queue.in_flight:,}")
    facts.add_row("failed", Text(f"{queue.failed:,}", style="bold red" if queue.failed else ""))
    facts.add_row("oldest job", duration(queue.oldest_job_seconds) or "none")
    for scheduler in queue.schedulers:
        seen = f"{scheduler.name}, last heartbeat {duration(scheduler.heartbeat_age_seconds)} ago"
        facts.add_row("scheduler", cell(seen))
    for kind, tick in queue.last_ticks.items():
        facts.add_row(f"last {kind}", local_time(tick))
    if store is None:
        facts.add_row("store", "not on this machine")
        return Group(facts, _workers_table(queue))
    return Group(facts, _store_table(store), _workers_table(queue))


def _store_table(store: StoreStats) -> Table:
    facts = _facts()
    facts.add_row("store", cell(store.url))
    facts.add_row("size", size(store.size_bytes))
    facts.add_row("sessions", f"{store.sessions:,}")
    facts.add_row("messages", f"{store.messages:,}")
    if store.blobs:
        facts.add_row("attachments", f"{counted(store.blobs, 'file')}, {size(store.blob_bytes)}")
    if store.waiting_changes:
        facts.add_row("early changes", f"{store.waiting_changes:,}")
    return facts


def _facts() -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(min_width=len("last compact"))  # the same in every table of facts
    return facts


def _spools(kept: list[SpoolStats]) -> Table:
    rows = Table.grid(padding=(0, 2))
    for spool in kept:
        waiting = f"{counted(spool.operations, 'operation')}, {size(spool.data_bytes)}"
        rows.add_row("spool", cell(spool.path), waiting)
        if spool.set_aside:
            refused = f"{counted(spool.set_aside, 'operation')} that the server refuses permanently"
            rows.add_row("", "set aside", refused)
    return rows


def _workers_table(queue: QueueStats) -> Table | Text:
    if not queue.workers:
        return Text("no workers", style="bold red")
    columns = ("worker", "state", "done", "failed", "heartbeat")
    rows = list(map(_worker_row, queue.workers))
    return table(columns, rows, right=("done", "failed"), folded=("worker",))


def _worker_row(worker: WorkerStats) -> Row:
    state = "store fails" if worker.store_error else worker.state
    return (
        cell(worker.name),
        cell(state if worker.is_alive else "no heartbeat", "" if worker.is_alive else "red"),
        f"{worker.jobs_done:,}",
        f"{worker.jobs_failed:,}",
        f"{duration(worker.heartbeat_age_seconds)} ago",
    )
