"""The command that copies a store beside its worker."""

from __future__ import annotations

import signal
from pathlib import Path

import click
from rich.console import Console

from backscroll_worker.cli.output import json_option, one_line, print_json, size
from backscroll_worker.ops import interrupts
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.backup import back_up


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


COMMANDS = (backup,)
