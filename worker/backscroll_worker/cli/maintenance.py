"""The commands that look after the store: compact, backup."""

from __future__ import annotations

import signal
from pathlib import Path

import click
from rich.console import Console

from backscroll_worker.cli.output import counted, json_option, note, one_line, print_json
from backscroll_worker.cli.sending import ask_worker, timeout_option
from backscroll_worker.ops import interrupts
from backscroll_worker.ops.stats import size
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.backup import back_up


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


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--replace", is_flag=True, help="Replace an existing backup once the new one is good."
)
@click.option("--skip-verify", is_flag=True, help="Do not verify the copy; for large stores.")
@json_option
@click.pass_obj
def backup(settings: Settings, file: Path, replace: bool, skip_verify: bool, as_json: bool) -> None:
    """Copy the store to FILE while its worker runs.

    FILE appears when the copy is complete, verified and synced to the disk. A SQLite store becomes
    one file, a JSONL store a directory; both are stores that a worker can open.

    \b
    Example:
      backscroll backup /var/backups/backscroll.db
      backscroll backup --replace /var/backups/backscroll.db
    """
    with (
        Console(stderr=True).status("copying"),
        interrupts.ended_by(signal.SIGTERM, signal.SIGHUP),
    ):
        report = back_up(settings.store, file, replace=replace, skip_verify=skip_verify)
    if as_json:
        print_json(report)
    else:
        verified = "verified" if report.is_verified else "not verified"
        place = one_line(report.path)
        click.echo(f"{place}: {size(report.size_bytes)}, {verified}, {report.seconds:.1f} s")


COMMANDS = (compact, backup)
