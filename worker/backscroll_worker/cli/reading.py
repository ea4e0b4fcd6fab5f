"""The commands load, sessions and usage; get and search have modules of their own."""

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
from backscroll_worker.cli.arguments import Seconds, TextCommand, meta_pair
from backscroll_worker.cli.moments import SINCE_HELP, UNTIL_HELP, Moment
from backscroll_worker.cli.output import (
    Row,
    cell,
    console,
    counted,
    json_option,
    local_time,
    note,
    one_line,
    print_json,
    printable,
    show_table,
    who,
)
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.transfer.text import attached

_ROLE_STYLES = {"user": "bold cyan", "assistant": "bold green", "system": "bold magenta"}


@click.command(cls=TextCommand)
@click.argument("key")
@click.option("--limit", type=int, help="Maximum number of messages; the newest are shown.")
@click.option("--oldest", is_flag=True, help="The first messages instead of the newest.")
@click.option("--before", metavar="ID", help="Messages before this one, to page back.")
@click.option("--after", metavar="ID", help="Messages after this one, to page forward.")
@click.option("--around", metavar="ID", help="Messages around this one; 21 without --limit.")
@click.option("--since", type=Moment(), help=f"Only messages from this time on: {SINCE_HELP}.")
@click.option("--until", type=Moment(), help=f"Only messages before this time; {UNTIL_HELP}.")
@click.option("--role", help="Only messages of this role.")
@click.option("--author", help="Only messages of this author.")
@click.option("--legal", is_flag=True, help="Without tool results whose call is not shown.")
@click.option("--max-tokens", type=int, help="Maximum number of tokens of all messages together.")
@click.option("--active", is_flag=True, help="The newest summary and what was said since.")
@click.option("--before-platform-id", metavar="ID", help="As --before, by the platform's id.")
@click.option("--around-platform-id", metavar="ID", help="As --around, by the platform's id.")
@click.option("--edits", is_flag=True, help="Include earlier versions of replaced messages.")
@json_option
@click.pass_obj
def load(
    settings: Settings,
    /,
    key: str,
    limit: int | None,
    before: str | None,
    oldest: bool,
    edits: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Show the messages of session KEY, oldest first.

    The exit code is 1 when there is no such session.

    \b
    Example:
      backscroll load telegram_user123 --limit 20
      backscroll load telegram_user123 --limit 20 --oldest
      backscroll load telegram_user123 --around 0193e1f2a3b47c5d8e9f0a1b2c3d4e5f
      backscroll load telegram_user123 --legal --max-tokens 8000 --active
      backscroll load telegram_user123 --edits --json
    """
    with open_reader(settings) as reader:
        messages = reader.load(key, limit, before, oldest=oldest, include_edits=edits, **options)
        is_missing = not messages and not reader.exists(key)
    if as_json:
        print_json(messages)
    else:
        out = console()
        for message in messages:
            show_message(out, message)
    if is_missing:
        note(f"session {key!r} does not exist")
        raise click.exceptions.Exit(ExitCode.FAILED)
    if options["legal"] and messages.open_calls:
        note(f"tool calls without a result: {', '.join(messages.open_calls)}")
    if not messages and not as_json:
        is_part = before is not None or any(options.values())
        note(f"session {key!r} has no {'such messages' if is_part else 'messages'}")


@click.command()
@click.option("--agent", help="Only sessions of this agent.")
@click.option("--channel", help="Only sessions of this channel.")
@click.option("--room", help="Only sessions of this room.")
@click.option("--sender", help="Only sessions of this sender.")
@click.option("--author", help="Only sessions in which this author spoke.")
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
    "--meta",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="Only sessions with this value, as 'describe' takes it; may be given several times.",
)
@click.option("--forked-from", metavar="KEY", help="Only forks of this session.")
@click.option("--prefix", metavar="TEXT", help="Only sessions whose key begins with this text.")
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
    settings: Settings,
    /,
    limit: int,
    cursor: str | None,
    pairs: tuple[str, ...],
    as_json: bool,
    **where: Any,
) -> None:
    """List sessions, newest activity first.

    \b
    Example:
      backscroll sessions --channel telegram --limit 20
      backscroll sessions --name 'cafe pl' --active-since 2026-01-01
      backscroll sessions --stuck-seconds 600
      backscroll sessions --expired
      backscroll sessions --meta project=apollo
      backscroll sessions --prefix telegram_
    """
    meta = {name: value for name, _, value in map(meta_pair, pairs)} or None
    with open_reader(settings) as reader:
        page = reader.sessions(limit=limit, cursor=cursor, meta=meta, **where)
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


@click.command(cls=TextCommand)
@click.argument("key", required=False)
@click.option("--role", help="Only messages of this role.")
@click.option("--author", help="Only messages of this author.")
@click.option("--channel", help="Only sessions of this channel.")
@click.option("--sender", help="Only sessions of this sender.")
@click.option("--room", help="Only sessions of this room.")
@click.option("--agent", help="Only sessions of this agent.")
@click.option("--since", type=Moment(), help=f"Only messages from this time on: {SINCE_HELP}.")
@click.option("--until", type=Moment(), help=f"Only messages before this time; {UNTIL_HELP}.")
@json_option
@click.pass_obj
def usage(settings: Settings, /, as_json: bool, **where: Any) -> None:
    """Add up the tokens of messages by role and author.

    Of session KEY, or of all sessions. Messages have the tokens that adapters counted for them.

    \b
    Example:
      backscroll usage telegram_user123
      backscroll usage --channel telegram --since 2026-01
    """
    with open_reader(settings) as reader:
        used = reader.usage(**where)
    if as_json:
        print_json(used)
        return
    rows = [
        (cell(f"{kind} {name}"), f"{tokens:,}")
        for kind, by_name in (("role", used.by_role), ("author", used.by_author))
        for name, tokens in sorted(by_name.items(), key=lambda item: -item[1])
    ]
    show_table(
        ("of", "tokens"),
        [(cell(counted(used.messages, "message")), f"{used.tokens:,}"), *rows],
        right=("tokens",),
        folded=("of",),
    )
    if used.uncounted:
        note(f"{counted(used.uncounted, 'message')} without a token count")


COMMANDS = (load, sessions, usage)


def show_message(out: Console, message: ChatMessage) -> None:
    """Print one message, with what is known of it."""
    out.print(
        *who(message, _ROLE_STYLES.get(message.role, "bold")),
        Text(local_time(message.created_at), style="dim"),
        Text(one_line(message.message_id or ""), style="dim"),
        soft_wrap=True,
    )
    labels = attached(message)
    for line in printable(message.content).split("\n") if message.content or not labels else ():
        out.print(Text(f"  {line}"), soft_wrap=True)
    for label in labels:
        out.print(Text(f"  {one_line(label)}", style="dim"), soft_wrap=True)
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
    remarks: list[str] = [] if info.state == "idle" else [info.state]
    remarks += [name for name in FLAGS if getattr(info, name)]
    if info.ttl_hours is not None:
        remarks.append(f"ttl {info.ttl_hours:g} h" if info.ttl_hours else "kept for ever")
    remarks += [f"fork of {info.forked_from}"] if info.forked_from is not None else []
    return " ".join(remarks)
