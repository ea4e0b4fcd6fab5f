"""The command search, and what it suggests when it finds nothing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.text import Text

from backscroll import SearchFilter, SearchHit, SearchPage
from backscroll.contract.filters import WITHIN, Within
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
@click.option(
    "--in",
    "within",
    type=click.Choice(WITHIN),
    help="Search this of each message, not its content.",
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
    within: Within | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
    **where: Any,
) -> None:
    """Find messages, best first.

    Every word of QUERY must occur; '"two words"' is a phrase, word* is a prefix, -word must not
    occur, and this OR that is either. Options end at --, so that a QUERY may begin with two dashes.

    \b
    Example:
      backscroll search naples lemons --by-session --since 30d
      backscroll search '"train to berlin" ticket*' -bus --since 2026-01
      backscroll search 人工知能 --role user
      backscroll search naples OR rome lemons
      backscroll search -- --force
      backscroll search invoice pdf --in extra
    """
    query = " ".join(words)
    with open_reader(settings) as reader:
        page = reader.search(
            query,
            SearchFilter(**where),
            limit=limit,
            by_session=by_session,
            cursor=cursor,
            within=within,
        )
        advice = ""
        if not (page or as_json):
            is_first = cursor is None and page.cursor is None
            advice = _advice(reader, query, where, by_session, within) if is_first else _end(page)
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
    if page.excluded and page:
        note(_exclusions(page.excluded))
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


def _exclusions(excluded: Sequence[str]) -> str:
    """How the dashes of the query were understood, and what to type if that was not meant."""
    words = " or ".join(excluded)
    return f'messages with {words} are excluded; "-{excluded[0]}", in quotes, is text'


def _matches(hit: SearchHit) -> str:
    if hit.session_matches is None:
        return ""
    if hit.session_matches == 0:
        return "words in different messages"
    return f"{counted(hit.session_matches, 'message')} found"


def _end(page: SearchPage) -> str:
    """One line on an empty page that is not the first, or not the last."""
    if page.cursor is None:
        return "no more results"
    return "nothing found among the newest messages; continue with the cursor"


def _advice(
    reader: Reader, typed: str, where: dict[str, Any], by_session: bool, within: Within | None
) -> str:
    """One line: what to try when nothing was found."""
    query = Query.parse(typed)
    if not (typed.strip() or by_session) and any(value is not None for value in where.values()):
        return "no message passes the filter"
    if not query.wanted:
        also = "; 'backscroll sessions' lists them without words" if by_session else ""
        return f"the query contains no words: search for a word or a prefix (flight*){also}"
    if where["key"] is not None and reader.session(where["key"]) is None:
        return f"session {where['key']!r} does not exist: 'backscroll sessions' lists them"
    for name in _OF_SESSIONS:
        value = where[name]
        if value is not None and not reader.sessions(**{name: value}, limit=1).sessions:
            return f"no session has the {name} {value!r}: 'backscroll sessions' lists them"
    if within is not None:
        return f"no message has these words in its {within}: try without --in {within}"
    is_filtered = any(value is not None for value in where.values())
    return _other_words(typed, query, by_session=by_session, is_filtered=is_filtered)


def _other_words(typed: str, query: Query, *, by_session: bool, is_filtered: bool) -> str:
    is_one = len(query.terms) == 1
    words = [" ".join(term.tokens) for term in query.terms]
    whole = [
        word
        for word, term in zip(words, query.terms, strict=True)
        if len(term.tokens) == 1 < len(word) and not term.is_prefix
    ]
    ways = ["fewer"] if len(query.wanted) > 1 else []
    if '"' in typed:
        ways.append("no quotes")
    if query.unwanted:
        dashed = f'"-{query.excluded[0]}"'
        ways.append(f"no exclusions ({dashed}, in quotes, is text)")
    if whole:
        longest = max(whole, key=len)
        ways.append(f"a prefix ({longest[: max(3, len(longest) - 2)]}*)")
    if query.may_spread and not by_session:
        ways.append("--by-session (they may be in different messages)")
    if is_filtered:
        ways.append("fewer filters")
    name = shlex.quote(max(words, key=len))
    ways.append(f"the session name (backscroll sessions --name {name})")
    which = "all" if len(query.wanted) > 1 else "any"
    what = "this word" if is_one else f"{which} of these words"
    where = "session" if by_session and query.may_spread else "message"
    return f"no {where} contains {what}: try {_listed(ways)}"


def _listed(ways: list[str]) -> str:
    *others, last = ways
    return f"{', '.join(others)} or {last}" if others else last
