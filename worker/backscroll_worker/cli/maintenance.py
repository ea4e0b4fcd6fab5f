"""The command `compact`, and how a command asks the worker for maintenance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import click
from rich.console import Console

from backscroll import Producer
from backscroll_worker.cli.access import open_producer
from backscroll_worker.cli.arguments import Seconds
from backscroll_worker.cli.output import counted, json_option, note, print_json, size
from backscroll_worker.settings import Settings

T = TypeVar("T")

timeout_option = click.option(
    "--timeout-seconds", type=Seconds(), default=600.0, show_default=True,
    help="Maximum time to wait for the worker, which continues in any case.",
)  # fmt: skip


@click.command()
@timeout_option
@json_option
@click.pass_obj
def compact(settings: Settings, timeout_seconds: float, as_json: bool) -> None:
    """Compact the store.

    The worker merges the search index and returns free space to the file system.

    \b
    Example:
      backscroll compact
    """
    report = ask_worker(settings, timeout_seconds, "compacting", lambda p: p.compact())
    if as_json:
        print_json(report)
    else:
        click.echo(
            f"compacted in {report.seconds:.1f} s: {size(report.bytes_before)} before, "
            f"{size(report.bytes_after)} after; {counted(report.op_ids_purged, 'op id')} dropped, "
            f"{counted(report.corrupt_lines, 'corrupt line')} moved aside"
        )
    if report.log_is_held:
        note(
            "another program reads the store and keeps SQLite's log, so little space was freed; "
            "stop it ('backscroll check' on the store's host names it), then run "
            "'backscroll compact' again"
        )


COMMANDS = (compact,)


def ask_worker(
    settings: Settings, timeout_seconds: float, doing: str, call: Callable[[Producer], T]
) -> T:
    """The worker's answer to `call`; raises `NoWorkerError` when no worker is there to ask."""
    with (
        open_producer(settings, needs_worker=True, timeout_seconds=timeout_seconds) as producer,
        Console(stderr=True).status(doing),
    ):
        return call(producer)
