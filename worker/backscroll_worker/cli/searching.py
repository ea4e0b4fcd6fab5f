"""The command search, and what it suggests when it finds nothing."""

from __future__ import annotations

import shlex
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from backscroll import SearchFilter, SearchHit
from backscroll_worker.cli.access import open_reader
from backscroll_worker.cli.arguments import TextCommand
from backscroll_worker.cli.moments import SINCE_HELP, UNTIL_HELP, Moment
from backscroll_worker.cli.output import (
    console,
    counted,
    json_option,
    local_time,
    note,
    one_line,
    print_json,
    who,
)
from backscroll_worker.settings import Settings
from backscroll_worker.stores.search.query import Query
from backscroll_worker.transfer.sessions import Reader

_OF_SESSIONS: Final = ("channel", "sender", "room", "agent", "author")


@click.command(cls=TextCommand)
@click.argument("words", metavar="QUERY...", nargs=-1, required=True)
@click.option("--key", help="Only messages of this session.")
@click.option("--role", help="Only messages of this role.")
@click.option("--author", help="Only messages of this author.")
@click.option("--channel", help="Only messages of this channel.")
@click.option("--sender", help="Only messages in sessions of this sender.")
@click.option("--room", help="Only messages of this room.")
@click.option("--agent", help="Only messages in sessions of this agent.")
@click.option("--since", type=Moment(), help=f"Only messages at or after this time: {SINCE_HELP}.")
@click.option("--until", type=Moment(), help=f"Only messages before this time; {UNTIL_HELP}.")
@click.option(
    "--by-session", is_flag=True, help="Find sessions; the words may be in different messages."
)
@click.option("--limit", type=int, default=20, show_default=True, help="Maximum number of results.")
@click.option("--cursor", help="Show the next page; the previous page prints this cursor.")
@json_option
@click.pass_obj
def search(
    settings: Settings,
    /,
    words: tuple[str, ...],
    by_session: bool,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Find messages, best first.

    Every word of QUERY must occur; '"two words"' is a phrase, word* is a prefix, -word must not
    occur.

    \b
    Example:
      backscroll search naples lemons --by-session --since 30d
      backscroll search '"train to berlin" ticket*' -bus --since 2026-01
      backscroll search 人工知能 --role user
    """
    query = " ".join(words)
    with open_reader(settings) as reader:
        page = reader.search(
            query, SearchFilter(**where), limit=limit, by_session=by_session, cursor=cursor
        )
        advice = ""
        if page.cursor is not None and not page:
            advice = "nothing found among the newest messages; continue with the cursor"
        elif cursor is not None and not page:
            advice = "no more results"
        elif not (page or as_json):
            advice = _advice(reader, query, where, by_session)
    if as_json:
        print_json(page)
        return
    out = console()
    for hit in page:
        _show_hit(out, hit)
    found = f"found {counted(len(page), 'session' if by_session else 'message')}"
    if page:
        found += "; 'load KEY --around ID' shows one in its conversation"
    note(found)
    if advice:
        note(advice)
    if page.cursor is not None:
        note(f"more: --cursor {page.cursor}")


COMMANDS = (search,)


def _show_hit(out: Console, hit: SearchHit) -> None:
    message_id = one_line(hit.message.message_id or "")
    facts = (local_time(hit.message.created_at), message_id, _matches(hit))
    out.print(
        Text(one_line(hit.key), style="bold"),
        *who(hit.message, "cyan"),
        *(Text(fact, style="dim") for fact in facts if fact),
        soft_wrap=True,
    )
    snippet = Text(one_line(hit.snippet))
    for start, end in hit.marks:
        snippet.stylize("bold black on yellow", start, end)
    out.print(Text("  ").append_text(snippet), soft_wrap=True)


def _matches(hit: SearchHit) -> str:
    if hit.session_matches is None:
        return ""
    if hit.session_matches == 0:
        return "words in different messages"
    return f"{counted(hit.session_matches, 'message')} found"


def _advice(reader: Reader, typed: str, where: dict[str, Any], by_session: bool) -> str:
    """One line: what to try when nothing was found."""
    query = Query.parse(typed)
    if not query.wanted:
        if query.unwanted:
            return "exclusions alone find nothing: add a word that must occur"
        return "the query contains no words: search for a word or a prefix (flight*)"
    if where["key"] is not None and reader.session(where["key"]) is None:
        return f"session {where['key']!r} does not exist: 'backscroll sessions' lists them"
    for name in _OF_SESSIONS:
        value = where[name]
        if value is not None and not reader.sessions(**{name: value}, limit=1).sessions:
            return f"no session has the {name} {value!r}: 'backscroll sessions' lists them"
    is_filtered = any(value is not None for value in where.values())
    return _other_words(typed, query, by_session=by_session, is_filtered=is_filtered)


def _other_words(typed: str, query: Query, *, by_session: bool, is_filtered: bool) -> str:
    is_one = len(query.wanted) == 1
    words = [" ".join(term.tokens) for term in query.wanted]
    whole = [
        word
        for word, term in zip(words, query.wanted, strict=True)
        if len(term.tokens) == 1 < len(word) and not term.is_prefix
    ]
    ways = [] if is_one else ["fewer"]
    if '"' in typed:
        ways.append("no quotes")
    if query.unwanted:
        ways.append("no exclusions")
    if whole:
        longest = max(whole, key=len)
        ways.append(f"a prefix ({longest[: max(3, len(longest) - 2)]}*)")
    if query.may_spread and not by_session:
        ways.append("--by-session (they may be in different messages)")
    if is_filtered:
        ways.append("fewer filters")
    name = shlex.quote(max(words, key=len))
    ways.append(f"the session name (backscroll sessions --name {name})")
    what = "this word" if is_one else "all of these words"
    where = "session" if by_session and query.may_spread else "message"
    return f"no {where} contains {what}: try {_listed(ways)}"


def _listed(ways: list[str]) -> str:
    *others, last = ways
    return f"{', '.join(others)} or {last}" if others else last
