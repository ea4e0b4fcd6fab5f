"""Reads a part of a messages file: its newest messages, or those beside one.

What is read does not grow with the session but with what is asked for, and, to find a message by
its id, with how far it is from the end. What comes before the part is as good as not there: it
begins with a line that is whole by itself, where a reader of the file forgets what came before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from worker.backends.jsonl.decoding import ENCODING_BYTES, as_utf8
from worker.backends.jsonl.lines import Line
from worker.backends.jsonl.transcript import parse_part, starts_anew

_PART_BYTES: Final = 64 * 1024
_SEARCHED_BYTES: Final = 1024 * 1024


class Window(NamedTuple):
    """Some lines of a file, one after the other, and where among them the one is that was meant."""

    lines: list[Line]
    position: int


class PartReader:
    """Reads parts of one session's file; `default_time` is for messages without one, in micros."""

    def __init__(self, descriptor: int, key: str, default_time: int) -> None:
        self._descriptor = descriptor
        self._key = key
        self._default_time = default_time
        self._size = os.fstat(descriptor).st_size
        start = os.pread(descriptor, ENCODING_BYTES, 0)
        self._is_in_utf8 = as_utf8(start) is start

    def newest(self, count: int) -> Window | None:
        """The last `count` messages, or more; None when the whole file has to be read."""
        return self._grow(self._size, None, count, 0) if self._is_in_utf8 else None

    def beside(self, message_id: str, preceding: int, following: int) -> Window | None:
        """A message with so many before it, and from it on; None as above or if it is not there."""
        if not self._is_in_utf8:
            return None
        for place in self._places(message_id):
            window = self._grow(place, message_id, preceding, following)
            if window is not None:
                return window
        return None

    def _grow(
        self, place: int, message_id: str | None, preceding: int, following: int
    ) -> Window | None:
        back, on = _PART_BYTES, _PART_BYTES if place < self._size else 0
        while True:
            start, end = max(0, place - back), min(self._size, place + on)
            lines = self._parse(start, end)
            is_all = start == 0 and end == self._size
            position = _position(lines, message_id)
            if position is None:
                if is_all or back > 16 * _PART_BYTES:
                    return None
                back, on = back * 2, on * 2
            elif position < preceding and start > 0:
                back *= 2
            elif len(lines) - position < following and end < self._size:
                on *= 2
            else:
                return Window(lines, position)

    def _parse(self, start: int, end: int) -> list[Line]:
        """The lines between two places of the file, as far as they are whole."""
        content = os.pread(self._descriptor, end - start, start)
        if end < self._size:
            content = content[: content.rfind(b"\n") + 1]
        begin = 0 if start == 0 else _first_anew(content)
        if begin is None:
            return []
        return parse_part(content[begin:], start + begin, self._key, self._default_time)

    def _places(self, message_id: str) -> Iterator[int]:
        """Where in the file the id stands, the last one first."""
        name = b'"%b"' % message_id.encode(errors="replace")
        end = self._size
        while end > 0:
            start = max(0, end - _SEARCHED_BYTES)
            content = os.pread(self._descriptor, end - start + len(name) - 1, start)
            place = content.rfind(name)
            if place >= 0:
                yield start + place
                end = start + place
            else:
                end = start


def _first_anew(content: bytes) -> int | None:
    """Where the first line begins, behind one that may be cut off, that stands for itself."""
    begin = content.find(b"\n") + 1
    while begin:
        end = content.find(b"\n", begin)
        if starts_anew(content[begin : len(content) if end < 0 else end]):
            return begin
        begin = end + 1
    return None


def _position(lines: list[Line], message_id: str | None) -> int | None:
    """Where the message stands; behind the last one if none is meant."""
    if message_id is None:
        return len(lines)
    for position, line in enumerate(lines):
        if line.message.message_id == message_id:
            return position
    return None
