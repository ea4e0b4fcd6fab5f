"""A transcript as one HTML file that needs nothing else: no script, no font, no picture.

All text of messages is escaped, and a content security policy in the page keeps anything that was
missed from running or loading. Each text has a direction of writing of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from itertools import chain, count, islice
from typing import Final

import orjson

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll_worker.transfer.sessions import ExportedSession
from backscroll_worker.transfer.text import (
    Block,
    attached,
    blocks,
    clock,
    day,
    speaker,
    stamp,
    visible,
    who_and_where,
)

_KNOWN_ROLES: Final = ("user", "assistant", "system", "tool")
_INLINE: Final = re.compile(r"`([^`\n]+)`|(https?://[^\s<>\"'`]*[^\s<>\"'`.,;:!?)\]])")
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)


def html(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """One document with all sessions, and a list of them when there are several."""
    sessions = iter(sessions)
    first = list(islice(sessions, 2))
    yield _head(_title(first[0].info) if len(first) == 1 else "Conversations").encode()
    entries = []
    for number, session in zip(count(1), chain(first, sessions)):
        yield from _session(number, session)
        entries.append(_entry(number, session.info))
    if len(entries) > 1:
        # It can only be written at the end; the style puts it in front.
        yield f"<nav><h1>Conversations</h1><ol>{''.join(entries)}</ol></nav>\n".encode()
    made = stamp(datetime.now(UTC))
    yield f"<footer>Exported by Backscroll, {escape(made)}</footer>\n</body>\n</html>\n".encode()


def _head(title: str) -> str:
    style = files(__package__).joinpath("style.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{title}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
    )


def _session(number: int, session: ExportedSession) -> Iterator[bytes]:
    info, (began, ended) = session.info, session.times
    facts = [_fact(name, _shown(value)) for name, value in who_and_where(info)]
    facts.append(_fact("from", _time(began, stamp(began))))
    facts.append(_fact("to", _time(ended, stamp(ended))))
    facts.append(_fact("messages", f"{info.message_count:,}"))
    if info.pinned:
        facts.append(_fact("", "pinned"))
    yield (
        f'<section class="session" id="s{number}">\n<header><h2 dir="auto">{_title(info)}</h2>'
        f"<dl>{''.join(facts)}</dl></header>\n"
    ).encode()
    today = ""
    for message in session.messages:
        if message.created_at is not None and (its_day := day(message.created_at)) != today:
            today = its_day
            yield f'<h3 class="day">{escape(today)}</h3>\n'.encode()
        yield _message(message).encode()
    yield b"</section>\n"


def _message(message: ChatMessage) -> str:
    kind = message.role if message.role in _KNOWN_ROLES else "other"
    when, name, role = message.created_at, speaker(message), _shown(message.role)
    who = f'<span class="role" dir="auto">{role if name is None else _shown(name)}</span>'
    who += "" if name is None else f'<span dir="auto">({role})</span>'
    edited = f"<span>edited {_clock(message.edits[-1].replaced_at)}</span>" if message.edits else ""
    earlier = "".join(
        f"<div>until {_time(edit.replaced_at, stamp(edit.replaced_at))}{_body(edit.content)}</div>"
        for edit in message.edits
    )
    return (
        f'<article class="message {kind}"><header>{who}'
        f"{'' if when is None else _clock(when)}{edited}</header>"
        f"{_said(message)}{_details('earlier versions', earlier)}"
        f"{_details('extra', _extra(message))}</article>\n"
    )


def _said(message: ChatMessage) -> str:
    labels = [f'<div class="text" dir="auto">{_shown(each)}</div>' for each in attached(message)]
    body = _body(message.content) if message.content or not labels else ""
    return body + "".join(labels)


def _body(content: str) -> str:
    return "".join(map(_block, blocks(content))) or '<div class="empty">(empty)</div>'


def _block(block: Block) -> str:
    if block.is_code:
        return f"<pre><code>{escape(block.text)}</code></pre>"
    parts, end, text = [], 0, block.text.strip("\n")
    for found in _INLINE.finditer(text):
        parts.append(escape(text[end : found.start()]))
        code, link = found.groups()
        if code is not None:
            parts.append(f"<code>{escape(code)}</code>")
        else:
            parts.append(f'<a href="{escape(link)}" rel="noopener nofollow">{escape(link)}</a>')
        end = found.end()
    parts.append(escape(text[end:]))
    return f'<div class="text" dir="auto">{"".join(parts)}</div>'


def _extra(message: ChatMessage) -> str:
    if not message.extra:
        return ""
    shown = orjson.dumps(message.extra, option=orjson.OPT_INDENT_2).decode()
    return f"<pre><code>{_shown(shown)}</code></pre>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>{content}</details>" if content else ""


def _entry(number: int, info: SessionInfo) -> str:
    return (
        f'<li><a href="#s{number}" dir="auto">{_title(info)}</a>'
        f" <small>{info.message_count:,}</small></li>"
    )


def _fact(name: str, value: str) -> str:
    term = f"<dt>{name}</dt>" if name else ""
    return f'<div>{term}<dd dir="auto">{value}</dd></div>'


def _title(info: SessionInfo) -> str:
    return _shown(info.name or info.key)


def _clock(moment: datetime) -> str:
    return _time(moment, clock(moment))


def _time(moment: datetime, shown: str) -> str:
    exactly = f'datetime="{moment.isoformat()}" title="{escape(stamp(moment))}"'
    return f"<time {exactly}>{escape(shown)}</time>"


def _shown(text: str) -> str:
    return escape(visible(text))
