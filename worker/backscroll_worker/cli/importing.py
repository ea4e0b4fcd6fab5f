"""The commands that import sessions: import, migrate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from backscroll_worker.cli.access import open_producer
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
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files, look_through
from backscroll_worker.transfer.queue_import import import_through_queue, look_through_queue
from backscroll_worker.transfer.source import Advance, Total


class ZoneName(click.ParamType[tzinfo]):
    """A time zone by its name."""

    name = "zone"

    def convert(self, value: Any, param: Any, ctx: Any) -> tzinfo:
        """The zone; fails with a message where there is no such zone."""
        if isinstance(value, tzinfo):
            return value
        try:
            return ZoneInfo(value)
        except (ValueError, OSError, KeyError):
            self.fail(f"{value!r} is not a valid time zone, such as Europe/Berlin", param, ctx)


@click.command("import")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--key-prefix", metavar="TEXT",
    help="Keys are TEXT and the conversation's id, or the line number in an openai file.",
)  # fmt: skip
@click.option(
    "--me", metavar="NAME", multiple=True,
    help="Who wrote as NAME (or with that id) is the assistant; all others are users.",
)  # fmt: skip
@click.option(
    "--zone", metavar="ZONE", type=ZoneName(), default=None,
    help="Where times without a zone are from, such as Europe/Berlin; this host's zone if absent.",
)  # fmt: skip
@click.option(
    "--dates", type=click.Choice(("dmy", "mdy", "ymd")),
    help="The order of day and month in a chat of WhatsApp, where its dates do not say.",
)  # fmt: skip
@click.option(
    "--through-queue",
    is_flag=True,
    help="Append through the queue, beside a running worker, instead of writing the store.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be imported, and what not.")
@json_option
@click.pass_obj
def import_(
    settings: Settings,
    files: tuple[Path, ...],
    key_prefix: str | None,
    me: tuple[str, ...],
    zone: tzinfo | None,
    dates: str | None,
    through_queue: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Import the sessions in FILEs.

    A FILE is an export (jsonl or openai), the original's sessions.db, or the history of another
    program; - is standard input. Stop the worker first, or give --through-queue. What the store
    already has is not changed, so it is safe to repeat. docs/imports.md lists the programs.

    \b
    Example:
      backscroll import backup.jsonl
      backscroll import ./workspace/sessions/sessions.db
      backscroll import --dry-run chatgpt-export.zip
      backscroll import --me "Kitchen Bot" result.json
      backscroll import --key-prefix examples_ training.jsonl
    """
    options = Options(key_prefix, frozenset(me), zone, dates)
    with progress_bar("reading" if dry_run else "importing") as bar:

        def observe(each: Total | Advance) -> None:
            (bar.expect if isinstance(each, Total) else bar.advance)(each.amount)

        if dry_run:
            look = look_through_queue if through_queue else look_through
            report = look(files, options, observe)
        elif through_queue:
            with open_producer(settings, needs_worker=True) as producer:
                report = import_through_queue(files, producer, options, observe)
        else:
            report = import_files(files, settings.store, options, observe)
    if as_json:
        print_json(report)
    else:
        _say(report, len(files), "would be imported" if dry_run else "imported")
    if me and not report.assistants:
        note(f"nobody wrote as {' or '.join(map(repr, me))}: all messages are those of users")
    if report.refused:
        raise click.exceptions.Exit(ExitCode.FAILED)


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@click.pass_obj
def migrate(settings: Settings, directory: Path, as_json: bool) -> None:
    """Import the original's JSONL sessions in DIR.

    Stop the worker first. It is safe to repeat after a crash: no message is stored twice.

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
            note(f"skipped: {line}")
        for line in report.reports:
            note(f"skipped lines, and why: {line}")
        for line in report.refused:
            note(f"refused: {line}")
    if (directory / "sessions.db").exists():
        note(f"{directory / 'sessions.db'} was not read: 'backscroll import' imports it")
    if report.refused or report.corrupt_lines:
        raise click.exceptions.Exit(ExitCode.FAILED)


COMMANDS = (import_, migrate)


def _say(report: ImportReport, files: int, title: str) -> None:
    is_one_refusal = files == len(report.refused) == 1
    if not is_one_refusal or report != ImportReport(refused=report.refused):
        _show(report, title)
    if report.known and not (report.sessions or report.extended or report.refused):
        note("nothing is new: the store has all of it")
    for what, count in report.not_kept.items():
        note(f"not kept: {what} ({count:,})")
    for line in report.left_out:
        note(f"skipped: {line}")
    for line in report.refused:
        note(f"refused: {line}")
    for name, count in report.unlisted.items():
        note(f"and {count:,} more {'refused' if name == 'refused' else 'skipped'}")


def _show(report: ImportReport, title: str) -> None:
    counts = (
        ("sessions", report.sessions),
        ("messages", report.messages),
        *([("sessions added to", report.extended)] if report.extended else []),
        ("sessions already there", report.known),
        ("sessions refused", report.total("refused")),
        ("rows skipped", report.total("left_out")),
    )
    rows = [(name, f"{count:,}") for name, count in counts]
    console().print(table((title, "count"), rows, right=("count",)))
