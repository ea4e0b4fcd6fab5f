"""The commands that read conversations: load, sessions, search."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click
import orjson
from rich.console import Console
from rich.text import Text

from producer import ChatMessage, EarlierVersion, SearchFilter, SearchHit, SessionInfo
from producer.messages import STATES
from worker.cli.access import open_reader
from worker.cli.output import (
    cell,
    console,
    counted,
    json_option,
    local_time,
    note,
    one_line,
    print_json,
    printable,
    table,
)
from worker.settings import Settings

_ROLE_STYLES = {"user": "bold cyan", "assistant": "bold green", "system": "bold magenta"}


class Moment(click.ParamType[datetime]):
    """A point in time in ISO 8601; without a time zone it is local."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """`value` as an aware datetime."""
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is not a time; for example 2026-01-31 or 2026-01-31T18:00Z", param, ctx
            )


@click.command()
@click.argument("key")
@click.option("--limit", type=int, help="Only the newest so many.")
@click.option("--before", metavar="ID", help="Those before this message, to page back.")
@click.option("--edits", is_flag=True, help="With the earlier versions of replaced messages.")
@json_option
@click.pass_obj
def load(
    settings: Settings,
    key: str,
    limit: int | None,
    before: str | None,
    edits: bool,
    as_json: bool,
) -> None:
    """Show the messages of session KEY, oldest first.

    \b
    Example:
      backscroll load telegram_user123 --limit 20
      backscroll load telegram_user123 --edits --json
    """
    with open_reader(settings) as reader:
        messages = reader.load(key, limit, before, include_edits=edits)
    if as_json:
        print_json(messages)
        return
    if not messages:
        note(f"session {key!r} has no messages{' before that one' if before else ''}")
    out = console()
    for message in messages:
        _show_message(out, message)


@click.command()
@click.option("--agent", help="Of this agent.")
@click.option("--channel", help="Of this channel.")
@click.option("--room", help="Of this room.")
@click.option("--sender", help="Of this sender.")
@click.option("--state", type=click.Choice(STATES), help="Whose turn is in this state.")
@click.option("--pinned/--unpinned", default=None, help="Only those pinned, or not.")
@click.option(
    "--stuck-seconds", type=float, help="Whose turn has been running for longer than this."
)
@click.option("--name", metavar="WORDS", help="With these words in its name; the last may go on.")
@click.option("--active-since", type=Moment(), help="Last active then or later.")
@click.option("--active-until", type=Moment(), help="Last active before this.")
@click.option("--limit", type=int, default=100, show_default=True, help="At most so many.")
@click.option("--cursor", help="The next page; the page before says which.")
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
    """
    with open_reader(settings) as reader:
        page = reader.sessions(limit=limit, cursor=cursor, **where)
    if as_json:
        print_json(page)
        return
    if not page.sessions:
        note("no session fits")
        return
    columns = ("session", "name", "messages", "last activity", "")
    rows = table(*columns, right=("messages",), narrowed=("name",))
    for info in page.sessions:
        rows.add_row(
            cell(info.key),
            cell(info.name),
            f"{info.message_count:,}",
            local_time(info.last_activity, seconds=False),
            cell(_remarks(info)),
        )
    console().print(rows)
    if page.cursor is not None:
        note(f"more: --cursor {page.cursor}")


@click.command()
@click.argument("query")
@click.option("--key", help="Only in this session.")
@click.option("--role", help="Only of this role.")
@click.option("--channel", help="Only in this channel.")
@click.option("--sender", help="Only in this sender's sessions.")
@click.option("--room", help="Only in this room.")
@click.option("--agent", help="Only in this agent's sessions.")
@click.option("--since", type=Moment(), help="Not older than this.")
@click.option("--until", type=Moment(), help="Older than this.")
@click.option("--by-session", is_flag=True, help="Of each session the best, and how many match.")
@click.option("--limit", type=int, default=20, show_default=True, help="At most so many.")
@click.option("--cursor", help="The next page; the page before says which.")
@json_option
@click.pass_obj
def search(
    settings: Settings,
    /,
    query: str,
    by_session: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Find messages, best first.

    Every word of QUERY must occur; "…" is a phrase, word* a beginning, -word must not occur (put
    -- before a QUERY that begins with a dash).

    \b
    Example:
      backscroll search '"train to berlin" ticket*' --since 2026-01-01
      backscroll search 人工知能 --role user
      backscroll search refund --channel telegram --by-session
    """
    with open_reader(settings) as reader:
        page = reader.search(
            query, SearchFilter(**where), limit=limit, by_session=by_session, cursor=cursor
        )
    if as_json:
        print_json(page)
        return
    out = console()
    for hit in page:
        _show_hit(out, hit)
    note(f"found {counted(len(page), 'session' if by_session else 'message')}")
    if page.cursor is not None:
        note(f"more: --cursor {page.cursor}")


COMMANDS = (load, sessions, search)


def _show_message(out: Console, message: ChatMessage) -> None:
    role = Text(one_line(message.role), style=_ROLE_STYLES.get(message.role, "bold"))
    out.print(
        role,
        Text(local_time(message.created_at), style="dim"),
        Text(message.message_id or "", style="dim"),
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


def _show_hit(out: Console, hit: SearchHit) -> None:
    count = hit.session_matches
    out.print(
        Text(one_line(hit.key), style="bold"),
        Text(one_line(hit.message.role), style="cyan"),
        Text(local_time(hit.message.created_at), style="dim"),
        Text("" if count is None else f"{counted(count, 'message')} found", style="dim"),
        soft_wrap=True,
    )
    snippet = Text(one_line(hit.snippet))
    for start, end in hit.marks:
        snippet.stylize("bold black on yellow", start, end)
    out.print(Text("  ").append_text(snippet), soft_wrap=True)


def _remarks(info: SessionInfo) -> str:
    remarks = [] if info.state == "idle" else [info.state]
    return " ".join([*remarks, *(["pinned"] if info.pinned else [])])
