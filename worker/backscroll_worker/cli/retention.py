"""The commands cleanup, and restore from the archive."""

from __future__ import annotations

from typing import Any

import click

from backscroll.contract.messages import from_micros
from backscroll.contract.results import CleanedSession, CleanupReport, RestoreReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.archive.file import ArchiveFile
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.output import (
    Row,
    cell,
    counted,
    duration,
    json_option,
    local_time,
    note,
    one_line,
    print_json,
    show_table,
)
from backscroll_worker.cli.sending import ask_worker, confirm, timeout_option, yes_option
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.stats import size
from backscroll_worker.settings import Settings


@click.command()
@click.option(
    "--ttl-hours", type=float, help="The TTL where no rule has one; default: the worker's setting."
)
@click.option("--dry-run", is_flag=True, help="Show what would be deleted and why; delete nothing.")
@yes_option
@timeout_option
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
    """Delete expired sessions and messages.

    The worker deletes them by its retention rules and the sessions' own TTLs. Pinned sessions are
    kept. With --ttl-hours it asks first.

    \b
    Example:
      backscroll cleanup --dry-run
      backscroll cleanup --ttl-hours 720
    """
    if ttl_hours is not None and not dry_run:  # typed in haste, unlike a setting
        confirm(_cleanup_question(settings, ttl_hours), yes)
    report = ask_worker(
        settings, timeout_seconds, "cleaning up", lambda p: p.cleanup(ttl_hours, dry_run=dry_run)
    )
    if as_json:
        print_json(report)
    else:
        _show_cleanup(report)


@click.command(cls=TextCommand)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Only list the archive's contents.")
@click.option("--from", "file", metavar="FILE", help="Restore from this file, as listed by --list.")
@click.option("--as", "into", metavar="NEWKEY", help="Restore it under another key.")
@click.option("--pin", is_flag=True, help="Pin it; otherwise the next cleanup deletes it again.")
@timeout_option
@json_option
@click.pass_obj
def restore(
    settings: Settings,
    keys: tuple[str, ...],
    only_list: bool,
    file: str | None,
    into: str | None,
    pin: bool,
    timeout_seconds: float,
    as_json: bool,
) -> None:
    """Restore sessions that cleanup deleted.

    The worker restores them from the archive it writes (BACKSCROLL_ARCHIVE). Restored messages
    precede those that the session has by now, and no message is stored twice.

    \b
    Example:
      backscroll restore --list
      backscroll restore telegram_user123 --pin
    """
    if only_list:
        _list_archive(settings, keys, file, as_json)
        return
    if not keys:
        raise click.UsageError("name the sessions to restore, or give --list")
    if into is not None and len(keys) > 1:
        raise click.UsageError("--as takes one session")
    reports = [
        ask_worker(
            settings,
            timeout_seconds,
            "restoring",
            lambda p, key=key: p.restore(key, into=into, file=file, pin=pin),  # type: ignore[misc]
        )
        for key in keys
    ]
    if as_json:
        print_json(reports)
        return
    for key, report in zip(keys, reports, strict=True):
        click.echo(_restored(key, report))
    if not pin and any(map(_is_back, reports)):
        note("the next cleanup deletes expired sessions again: --pin keeps them")


COMMANDS = (cleanup, restore)


def _cleanup_question(settings: Settings, ttl_hours: float) -> str:
    if settings.archive is None:
        after = "not set here: unless the worker has it set, the deletion is permanent"
    else:
        after = "set here: if the worker has it set too, deleted sessions can be restored"
    return (
        f"BACKSCROLL_ARCHIVE is {after}. Delete every session idle for over {ttl_hours:g} hours "
        "that is not pinned and that neither a rule nor a TTL of its own keeps?"
    )


def _is_back(report: RestoreReport) -> bool:
    """Whether anything was restored, even a session without messages."""
    return report.messages > 0 or report.present == 0


def _restored(key: str, report: RestoreReport) -> str:
    there = counted(report.present, "message")
    if not _is_back(report):
        return f"restored nothing of {one_line(key)}: its {there} are already in the store"
    came = f"restored {counted(report.messages, 'message')} to {one_line(report.key)}"
    return f"{came}; {there} were already in the store" if report.present else came


def _show_cleanup(report: CleanupReport) -> None:
    verb = "would delete" if report.dry_run else "deleted"
    click.echo(
        f"{verb} {counted(report.sessions, 'session')} with "
        f"{counted(report.messages, 'message')}, and {counted(report.capped, 'message')} of "
        f"other sessions, in {report.seconds:.1f} s"
    )
    if report.rules:
        counts = ("sessions", "messages", "capped")
        rows: list[Row] = [
            [cell(rule.rule), *(f"{getattr(rule, name):,}" for name in counts)]
            for rule in report.rules
        ]
        show_table(("rule", *counts), rows, right=counts, folded=("rule",))
    if report.details:
        show_table(
            ("session", "rule", "idle", "messages", ""),
            [_cleaned(detail) for detail in report.details],
            right=("idle", "messages"),
            folded=("session", "rule"),
        )
    whole = sum(detail.is_whole for detail in report.details)
    if whole < report.sessions:
        click.echo(f"… and {report.sessions - whole:,} more sessions")
    if report.ttl_hours is None and not report.rules:
        note("sessions without a rule and a TTL of their own are kept: see BACKSCROLL_TTL_HOURS")


def _cleaned(detail: CleanedSession) -> Row:
    what = "" if detail.is_whole else "the oldest only"
    idle, messages = duration(detail.idle_hours * 3_600), f"{detail.messages:,}"
    return cell(detail.key), cell(detail.rule), idle, messages, what


def _list_archive(
    settings: Settings, keys: tuple[str, ...], file: str | None, as_json: bool
) -> None:
    if settings.archive is None:
        raise click.UsageError("BACKSCROLL_ARCHIVE does not name a directory on this machine")
    archive = Archive(settings.archive)
    files = archive.files() if file is None else [archive.file(file)]
    listed = [entry for entry in map(_described, files) if not keys or _has(entry, keys)]
    if as_json:
        print_json(listed)
    else:
        _show_files(listed, keys, is_one=file is not None)
    damaged = [entry["damage"] for entry in listed if entry["damage"]]
    for damage in damaged:
        note(damage)
    if damaged:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _described(file: ArchiveFile) -> dict[str, Any]:
    try:
        manifest = file.check()
    except ArchiveError as error:
        return {"file": file.name, "damage": str(error)}
    return {
        "file": file.name,
        "sessions": manifest.sessions,
        "messages": manifest.messages,
        "size_bytes": manifest.size_bytes,
        "since": None if manifest.since is None else from_micros(manifest.since),
        "until": None if manifest.until is None else from_micros(manifest.until),
        "keys": manifest.keys,
        "damage": None,
    }


def _has(entry: dict[str, Any], keys: tuple[str, ...]) -> bool:
    return entry["damage"] is not None or any(key in entry["keys"] for key in keys)


def _show_files(listed: list[dict[str, Any]], keys: tuple[str, ...], *, is_one: bool) -> None:
    if not listed:
        note("the archive has no such sessions")
        return
    files: list[Row] = []
    sessions: list[Row] = []
    for entry in listed:
        if entry["damage"]:
            files.append((cell(entry["file"]), "damaged", "", "", "", ""))
            continue
        counts = (f"{entry[name]:,}" for name in ("sessions", "messages"))
        times = (local_time(entry[name], seconds=False) for name in ("since", "until"))
        files.append((cell(entry["file"]), *counts, *times, size(entry["size_bytes"])))
        for key, count in entry["keys"].items():
            if key in keys or (is_one and not keys):
                sessions.append((cell(key), f"{count:,}", cell(entry["file"])))
    show_table(
        ("file", "sessions", "messages", "from", "to", "size"),
        files,
        right=("sessions", "messages", "size"),
        folded=("file",),
    )
    if sessions:
        columns = ("session", "messages", "file")
        show_table(columns, sessions, right=("messages",), folded=("session", "file"))
