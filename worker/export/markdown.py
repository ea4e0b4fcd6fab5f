"""A transcript in Markdown (CommonMark).

What people wrote stands in block quotes, so that it cannot pass for a heading or for another's
message. Its own Markdown works, its code blocks are kept, but none of its HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from producer.messages import ChatMessage
from worker.export.sessions import ExportedSession
from worker.export.text import Block, blocks, clock, day, stamp, visible, who_and_where

_CODE_SPAN: Final = re.compile(r"(?<!`)(`+)(?!`)(.*?[^`])\1(?!`)")
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&])")


def markdown(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """One document with all sessions."""
    separator = ""
    for session in sessions:
        yield f"{separator}{_header(session)}".encode()
        today = ""
        for message in session.messages:
            if message.created_at is not None and (its_day := day(message.created_at)) != today:
                today = its_day
                yield f"\n## {today}\n".encode()
            yield _message(message).encode()
        separator = "\n---\n\n"


def _header(session: ExportedSession) -> str:
    info, (began, ended) = session.info, session.times
    facts = "".join([f"- {name}: {_literal(value)}\n" for name, value in who_and_where(info)])
    return (
        f"# {_literal(info.name or info.key)}\n\n{facts}"
        f"- from {stamp(began)} to {stamp(ended)}\n"
        f"- messages: {info.message_count:,}{', pinned' if info.pinned else ''}\n"
    )


def _message(message: ChatMessage) -> str:
    remarks = [f"**{_literal(message.role)}**"]
    if message.created_at is not None:
        remarks.append(clock(message.created_at))
    if message.edits:
        remarks.append(f"edited {stamp(message.edits[-1].replaced_at)}")
    body = "\n".join(_block(block) for block in blocks(message.content)) or "*(empty)*"
    quoted = "\n".join(f"> {line}" if line else ">" for line in body.split("\n"))
    return f"\n{' · '.join(remarks)}\n\n{quoted}\n"


def _block(block: Block) -> str:
    if not block.is_code:
        # Two spaces keep a line break, as it was meant in a chat.
        lines = [f"{_line(line)}  " if line.strip() else "" for line in block.text.split("\n")]
        return "\n".join(lines).removesuffix("  ")
    longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
    fence = "`" * max(3, longest + 1)  # so that nothing in it ends it
    return f"{fence}{block.language.replace('`', '')}\n{block.text}\n{fence}"


def _line(line: str) -> str:
    """A line of text, in which a `<` begins no tag.

    In a code span it may stand as it is, but only where every reader sees that span: on a line
    that has no other backtick, and no backslash that could take one away.
    """
    without_spans = _CODE_SPAN.sub("", line)
    if "`" in without_spans or "\\" in line:
        return line.replace("<", "&lt;").replace("`", "&#96;")
    parts, end = [], 0
    for span in _CODE_SPAN.finditer(line):
        parts += [line[end : span.start()].replace("<", "&lt;"), span[0]]
        end = span.end()
    return "".join([*parts, line[end:].replace("<", "&lt;")])


def _literal(text: str) -> str:
    """Text as it is, without any Markdown."""
    return _MARKUP.sub(r"\\\1", visible(text).replace("\n", " "))
