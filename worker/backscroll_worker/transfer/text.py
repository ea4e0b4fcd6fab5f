"""What people wrote, made fit to be shown: nothing in it may act, and its code is kept apart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final, NamedTuple

from backscroll.contract.messages import SessionInfo

# Controls have no look, what overrides the direction of text could show a lie, and some programs
# take the separators of lines and paragraphs for the end of a line.
_ACTING: Final = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202D, 0x202E)
_VISIBLE: Final = {code: f"[U+{code:04X}]" for code in _ACTING if chr(code) not in "\n\t"}
# Nothing of it is tried twice, or a line of tildes would take time by the square of its length.
_FENCE: Final = re.compile(r" {0,3}+(`{3,}+|~{3,}+)[ \t]*+([^`\n]*+)")


class Block(NamedTuple):
    """A part of a message: text, or the code between two fences and its language."""

    text: str
    is_code: bool = False
    language: str = ""


def visible(text: str) -> str:
    """`text` with a visible sign for what would act on a page; line ends are all alike."""
    return text.replace("\r\n", "\n").replace("\r", "\n").translate(_VISIBLE)


def blocks(content: str) -> Iterator[Block]:
    """A message's content, made visible, by its fenced code blocks; one may lack its end."""
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
    """What the header of a session names, as far as it is known."""
    for name in ("key", "channel", "room", "sender", "agent"):
        if (value := getattr(info, name)) is not None:
            yield ("session" if name == "key" else name), value


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
