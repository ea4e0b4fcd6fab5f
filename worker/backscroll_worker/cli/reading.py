"""The commands load and sessions; search has a module of its own."""

from __future__ import annotations

from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from backscroll import ChatMessage, EarlierVersion, SessionInfo
from backscroll.contract.messages import STATES
from backscroll.contract.validation import FLAGS
from backscroll_worker.cli.access import open_reader
from backscroll_worker.cli.arguments import Seconds, TextCommand
from backscroll_worker.cli.moments import SINCE_HELP, UNTIL_HELP, Moment
from backscroll_worker.cli.output import (
    Row,
    cell,
    console,
    json_option,
    local_time,
    note,
    one_line,
    print_json,
    printable,
    show_table,
)
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings

_ROLE_STYLES = {"user": "bold cyan", "assistant": "bold green", "system": "bold magenta"}


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--limit", type=int, help="Maximum number of messages; the newest are shown.")
@click.option("--before", metavar="ID", help="Messages before this one, to page back.")
@click.option("--around", metavar="ID", help="Messages around this one; 21 without --limit.")
@click.option("--edits", is_flag=True, help="Include earlier versions of replaced messages.")
@json_option
@click.pass_obj
def load(
    settings: Settings,
    key: str,
    limit: int | None,
    before: str | None,
    around: str | None,
    edits: bool,
    as_json: bool,
) -> None:
    """Show the messages of session KEY, oldest first.

    The exit code is 1 when there is no such session.

    \b
    Example:
      backscroll load telegram_user123 --limit 20
      backscroll load telegram_user123 --around 0193e1f2a3b47c5d8e9f0a1b2c3d4e5f
      backscroll load telegram_user123 --edits --json
    """
    with open_reader(settings) as reader:
        messages = reader.load(key, limit, before, around=around, include_edits=edits)
        is_missing = not messages and not reader.exists(key)
    if as_json:
        print_json(messages)
    else:
        out = console()
        for message in messages:
            _show_message(out, message)
    if is_missing:
        note(f"session {key!r} does not exist")
        raise click.exceptions.Exit(ExitCode.FAILED)
    if not messages and not as_json:
        note(f"session {key!r} has no messages{' before that one' if before else ''}")


@click.command()
@click.option("--agent", help="Only sessions of this agent.")
@click.option("--channel", help="Only sessions of this channel.")
@click.option("--room", help="Only sessions of this room.")
@click.option("--sender", help="Only sessions of this sender.")
@click.option("--state", type=click.Choice(STATES), help="Only sessions with a turn in this state.")
@click.option("--pinned/--unpinned", default=None, help="Only pinned, or only unpinned sessions.")
@click.option(
    "--stuck-seconds", type=Seconds(), help="Only sessions with a turn that runs longer than this."
)
@click.option(
    "--expired/--unexpired",
    default=None,
    help="Only sessions with a turn whose lease has expired, or none with one.",
)
@click.option(
    "--name",
    metavar="WORDS",
    help="Words in the session name; the last one matches as a prefix.",
)
@click.option(
    "--active-since", type=Moment(), help=f"Last active at or after this time: {SINCE_HELP}."
)
@click.option("--active-until", type=Moment(), help=f"Last active before this time; {UNTIL_HELP}.")
@click.option(
    "--limit", type=int, default=100, show_default=True, help="Maximum number of results."
)
@click.option("--cursor", help="Show the next page; the previous page prints this cursor.")
@json_option
@click.pass_obj
def sessions(
    settings: Settings, /, limit: int, cursor: str | None, as_json: bool, **where: Any
) -> None:
    """List sessions, newest activity first.

    \b
    Example:
      backscroll sessions --channel telegram --limit 20
      backscroll sessions --name 'cafe pl' --active-since 2026-01-01
      backscroll sessions --stuck-seconds 600
      backscroll sessions --expired
    """
    with open_reader(settings) as reader:
        page = reader.sessions(limit=limit, cursor=cursor, **where)
    if as_json:
        print_json(page)
        return
    if not page.sessions:
        note("no sessions found" if cursor is None else "no more results")
        return
    show_table(
        ("session", "name", "messages", "last activity", ""),
        list(map(_row, page.sessions)),
        right=("messages",),
        folded=("session", "name"),
    )
    if page.cursor is not None:
        note(f"more: --cursor {page.cursor}")


COMMANDS = (load, sessions)


def _show_message(out: Console, message: ChatMessage) -> None:
    role = Text(one_line(message.role), style=_ROLE_STYLES.get(message.role, "bold"))
    out.print(
        role,
        Text(local_time(message.created_at), style="dim"),
        Text(one_line(message.message_id or ""), style="dim"),
        soft_wrap=True,
    )
    for line in printable(message.content).split("\n"):
        out.print(Text(f"  {line}"), soft_wrap=True)
    if message.extra:
        extra = orjson.dumps(message.extra).decode()
        out.print(Text(f"  extra {one_line(extra)}", style="dim"), soft_wrap=True)
    for edit in message.edits:
        _show_edit(out, edit)


def _show_edit(out: Console, edit: EarlierVersion) -> None:
    replaced = f"  until {local_time(edit.replaced_at)}, {one_line(edit.role)}:"
    out.print(Text(replaced, style="dim"), soft_wrap=True)
    for line in printable(edit.content).split("\n"):
        out.print(Text(f"    {line}", style="dim"), soft_wrap=True)


def _row(info: SessionInfo) -> Row:
    last_activity = local_time(info.last_activity, seconds=False)
    messages = f"{info.message_count:,}"
    return cell(info.key), cell(info.name), messages, last_activity, cell(_remarks(info))


def _remarks(info: SessionInfo) -> str:
    remarks = [] if info.state == "idle" else [info.state]
    return " ".join([*remarks, *(name for name in FLAGS if getattr(info, name))])
