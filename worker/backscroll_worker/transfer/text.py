"""Makes the text of messages safe to show: nothing in it may act, and code is kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from backscroll.contract.messages import ChatMessage, SessionInfo

# Control characters are invisible, direction overrides can make a text look like another, and some
# programs take the separators of lines and paragraphs for the end of a line.
_ACTING: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202D, 0x202E)
_VISIBLE: Final = {code: f"[U+{code:04X}]" for code in _ACTING if chr(code) not in "\n\t"}
# Possessive, without backtracking: else a line of tildes takes time by the square of its length.
_FENCE: Final = re.compile(r" {0,3}+(`{3,}+|~{3,}+)[ \t]*+([^`\n]*+)")


class Block(NamedTuple):
    """A part of a message: text, or the code between two fences and its language."""

    text: str
    is_code: bool = False
    language: str = ""


def visible(text: str) -> str:
    """`text` with a visible sign for each character that would act; all line ends are the same."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_VISIBLE)


def blocks(content: str) -> Iterator[Block]:
    """A message's content, made visible, cut at its fenced code blocks; the last may be open."""
    lines: list[str] = []
    fence, language = "", ""
    for line in visible(content).split("\n"):
        match = _FENCE.fullmatch(line)
        if match is None or (fence and not _closes(match, fence)):
            lines.append(line)
            continue
        if fence or any(each.strip() for each in lines):
            yield Block("\n".join(lines), bool(fence), language)
        fence, language = ("", "") if fence else (match[1], match[2].strip())
        lines = []
    if fence or any(each.strip() for each in lines):
        yield Block("\n".join(lines), bool(fence), language)


def who_and_where(info: SessionInfo) -> Iterator[tuple[str, str]]:
    """The attributes for the header of a session, as far as they are set."""
    for name in ("key", "channel", "room", "sender", "agent"):
        if (value := getattr(info, name)) is not None:
            yield ("session" if name == "key" else name), value


def attached(message: ChatMessage) -> list[str]:
    """A label for each attachment: `[image: cat.png]`."""
    return [each.label for each in message.attachments]


def speaker(message: ChatMessage) -> str | None:
    """Who said it, by name, else by the platform's id; None if nobody knows."""
    return message.author_name or message.author


def clock(moment: datetime) -> str:
    """The time of day where the export is made."""
    return f"{_local(moment):%H:%M}"


def day(moment: datetime) -> str:
    """The day there, as a heading."""
    local = _local(moment)
    return f"{local:%A}, {local.day} {local:%B} {local:%Y}"


def stamp(moment: datetime) -> str:
    """Day, time and zone, for a header."""
    return f"{_local(moment):%Y-%m-%d %H:%M %Z}".rstrip()


def _local(moment: datetime) -> datetime:
    try:
        return moment.astimezone()
    except OverflowError:  # the first and the last day a datetime can hold
        return moment


def _closes(match: re.Match[str], fence: str) -> bool:
    return match[1][0] == fence[0] and len(match[1]) >= len(fence) and not match[2].strip()
