"""The commands that take sessions in: import, migrate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from backscroll_worker.cli.output import (
    console,
    counted,
    json_option,
    note,
    print_json,
    progress_bar,
    table,
)
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.transfer import migrate as migration
from backscroll_worker.transfer.import_files import ImportReport, import_files
from backscroll_worker.transfer.source import Advance, Total


@click.command("import")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--key-prefix", metavar="TEXT",
    help="For openai files, which have no keys: TEXT and the line's number is the key.",
)  # fmt: skip
@json_option
@click.pass_obj
def import_(
    settings: Settings, files: tuple[Path, ...], key_prefix: str | None, as_json: bool
) -> None:
    """Take over the sessions in FILEs.

    They may be exports (jsonl or openai) or the original's sessions.db; - is standard input. Stop
    the worker first. What the store has already is left as it is, so it is safe to run again.

    \b
    Example:
      backscroll import backup.jsonl
      backscroll import ./workspace/sessions/sessions.db
      backscroll import --key-prefix examples_ training.jsonl
    """
    with progress_bar("importing") as bar:

        def observe(each: Total | Advance) -> None:
            (bar.expect if isinstance(each, Total) else bar.advance)(each.amount)

        report = import_files(files, settings.store, key_prefix, observe)
    if as_json:
        print_json(report)
    else:
        is_one_refusal = len(files) == len(report.refused) == 1
        if not is_one_refusal or report != ImportReport(refused=report.refused):
            _show(report)
        for line in report.left_out:
            note(f"left out: {line}")
        for line in report.refused:
            note(f"refused: {line}")
    if report.refused:
        raise click.exceptions.Exit(ExitCode.FAILED)


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def migrate(settings: Settings, directory: Path, as_json: bool) -> None:
    """Take over the JSONL sessions in DIR.

    Stop the worker first. It is safe to run again after a crash: no message is stored twice.

    \b
    Example:
      backscroll migrate ./old-sessions
    """

    def with_bar(paths: list[Path]) -> Iterator[Path]:
        with progress_bar("migrating", len(paths)) as bar:
            for path in paths:
                yield path
                bar.advance(1)

    report = migration.migrate(directory, settings.store, with_bar)
    if as_json:
        print_json(report)
    else:
        sessions = counted(report.sessions, "session")
        click.echo(f"migrated {sessions} with {counted(report.messages, 'message')}")
        for line in report.corrupt_lines:
            note(f"left out: {line}")
        for line in report.reports:
            note(f"what was left out, and why: {line}")
        for line in report.refused:
            note(f"refused: {line}")
    if (directory / "sessions.db").exists():
        note(f"{directory / 'sessions.db'} is not looked at: 'backscroll import' takes it over")
    if report.refused or report.corrupt_lines:
        raise click.exceptions.Exit(ExitCode.FAILED)


COMMANDS = (import_, migrate)


def _show(report: ImportReport) -> None:
    counts = (
        ("sessions", report.sessions),
        ("messages", report.messages),
        ("sessions there already", report.known),
        ("sessions refused", len(report.refused)),
        ("rows left out", len(report.left_out)),
    )
    rows = [(name, f"{count:,}") for name, count in counts]
    console().print(table(("imported", "count"), rows, right=("count",)))
