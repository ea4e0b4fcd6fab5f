"""The commands that keep a store in shape: cleanup, compact, migrate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.console import Console

from producer import Producer
from worker.cli.access import open_producer
from worker.cli.exit_codes import ExitCode
from worker.cli.output import counted, json_option, one_line, print_json, size
from worker.cli.sending import confirm, yes_option
from worker.settings import Settings

T = TypeVar("T")

_timeout_option = click.option(
    "--timeout-seconds", type=click.FloatRange(min=0), default=600.0, show_default=True,
    help="Wait for the worker at most so long; it goes on without us.",
)  # fmt: skip


@click.command()
@click.option("--ttl-hours", type=float, help="Idle for longer than this; else the worker's own.")
@click.option("--dry-run", is_flag=True, help="Delete nothing, only say what would go.")
@yes_option
@_timeout_option
@json_option
@click.pass_obj
def cleanup(
    settings: Settings,
    ttl_hours: float | None,
    dry_run: bool,
    yes: bool,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Delete sessions that have been idle for too long.

    The worker does it. Pinned sessions stay.

    \b
    Example:
      backscroll cleanup --ttl-hours 720 --dry-run
    """
    if ttl_hours == 0 and not dry_run:  # elsewhere 0 means "for ever"
        confirm("Delete every session that is not pinned?", yes)
    report = _ask(
        settings, timeout_seconds, "cleaning up", lambda p: p.cleanup(ttl_hours, dry_run=dry_run)
    )
    if as_json:
        print_json(report)
        return
    verb = "would delete" if dry_run else "deleted"
    click.echo(
        f"{verb} {counted(report.sessions, 'session')} with "
        f"{counted(report.messages, 'message')}, idle for over {report.ttl_hours:g} h, "
        f"in {report.seconds:.1f} s"
    )
    for key in report.keys:
        click.echo(f"  {one_line(key)}")
    if len(report.keys) < report.sessions:
        click.echo(f"  … and {report.sessions - len(report.keys):,} more")


@click.command()
@_timeout_option
@json_option
@click.pass_obj
def compact(settings: Settings, timeout_seconds: float, as_json: bool) -> None:
    """Compact the store.

    The worker does it: merges the search index and gives free space back.

    \b
    Example:
      backscroll compact
    """
    report = _ask(settings, timeout_seconds, "compacting", lambda p: p.compact())
    if as_json:
        print_json(report)
        return
    click.echo(
        f"compacted in {report.seconds:.1f} s: {size(report.bytes_before)} before, "
        f"{size(report.bytes_after)} after; {counted(report.op_ids_purged, 'op id')} and "
        f"{counted(report.corrupt_lines, 'corrupt line')} dropped"
    )


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.pass_obj
def migrate(settings: Settings, directory: Path) -> None:
    """Take over the JSONL sessions in DIR.

    Stop the worker first. It is safe to run again after a crash: no message is stored twice.

    \b
    Example:
      backscroll migrate ./old-sessions
    """
    from worker.migration import run_migrate  # noqa: PLC0415 - no other command needs it

    if not run_migrate(directory, settings, Console()):
        raise click.exceptions.Exit(ExitCode.FAILED)


COMMANDS = (cleanup, compact, migrate)


def _ask(
    settings: Settings, timeout_seconds: float, doing: str, call: Callable[[Producer], T]
) -> T:
    with (
        open_producer(settings, needs_worker=True, timeout_seconds=timeout_seconds) as producer,
        Console(stderr=True).status(doing),
    ):
        return call(producer)
