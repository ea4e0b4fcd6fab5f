"""Reads a part of a messages file: the newest messages, or those around one.

The bytes read depend on the number of messages requested and, to find one by its id, on its
distance from the end, not on the length of the session. A part begins with a self-contained line,
so its messages are the same as those that a reader of the whole file finds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final, NamedTuple

from backscroll_worker.stores.jsonl.decoding import ENCODING_BYTES, as_utf8
from backscroll_worker.stores.jsonl.fields import OURS
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.transcript import is_self_contained, offset_in_id, parse_part

_PART_BYTES: Final = 64 * 1024
_LEAST_BYTES: Final = 4 * 1024
_USUAL_BYTES: Final = 512
"""What a message is taken to have, before one was read."""
_BYTES_PER_SEARCH: Final = 1024 * 1024
_ID_PATTERN: Final = rb'"message_id"[ \t]{0,9}:[ \t]{0,9}"%b"'
_PATTERN_BYTES: Final = 40


class AbsentError(Exception):
    """The session has no message with that id."""


class Window(NamedTuple):
    """Consecutive lines of a file, and the index of the requested one among them."""

    lines: list[Line]
    position: int


class PartReader:
    """Reads parts of one session's file; `default_time` is for messages without one, in micros."""

    def __init__(self, descriptor: int, key: str, default_time: int) -> None:
        self._descriptor = descriptor
        self._key = key
        self._default_time = default_time
        self._size = os.fstat(descriptor).st_size
        self._parsed_from = self._size
        self._last: tuple[int, int, list[Line], int] | None = None
        start = os.pread(descriptor, ENCODING_BYTES, 0)
        self._is_in_utf8 = as_utf8(start) is start

    def newest(self, count: int) -> Window | None:
        """The last `count` messages, or more; None if the whole file has to be read."""
        usual = min(max(count * _USUAL_BYTES, _LEAST_BYTES), _PART_BYTES)
        return self._grow(self._size, None, count, 0, usual) if self._is_in_utf8 else None

    def beside(self, message_id: str, preceding: int, following: int) -> Window | None:
        """`preceding` messages before the one with this id, and `following` from it on.

        None if the whole file has to be read: another program may have written the id in another
        form. Raises `AbsentError` if no line has it.
        """
        if not self._is_in_utf8:
            return None
        place, end = offset_in_id(message_id, self._key), self._size
        if place is None or place >= self._size:
            place = self._last_place(message_id, end)
        is_absent = place is None
        while place is not None:
            window = self._grow(place, message_id, preceding, following)
            if window is not None:
                return window
            end = min(place, self._parsed_from)  # it is not in the part that was parsed
            place = self._last_place(message_id, end)
        if is_absent and OURS.fullmatch(message_id):
            raise AbsentError
        return None

    def back(self, before: str | None, having: bytes = b"") -> Iterator[Line] | None:
        """The lines before a message, or all, newest first; None as above.

        Parts of the file without the bytes `having` are passed over. Raises as `beside`.
        """
        if before is None:
            return self._back(self._size, having) if self._is_in_utf8 else None
        window = self.beside(before, 0, 1)
        if window is None:
            return None
        nearest = reversed(window.lines[: window.position])
        return chain(nearest, self._back(self._parsed_from, having))

    def onward(self, after: str | None) -> Iterator[Line] | None:
        """The lines after a message, or all, oldest first; None as above. Raises as `beside`."""
        if after is None:
            return self._onward(0) if self._is_in_utf8 else None
        window = self.beside(after, 0, 1)
        if window is None:
            return None
        return islice(self._onward(self._parsed_from), window.position + 1, None)

    def _back(self, end: int, having: bytes) -> Iterator[Line]:
        size = _PART_BYTES
        while end > 0:
            lines = self._parse(max(0, end - size), end, having)
            if self._parsed_from == end:  # no line in it stands for itself
                size *= 2
                continue
            end = self._parsed_from
            size = min(2 * size, _BYTES_PER_SEARCH) if having and not lines else _PART_BYTES
            yield from reversed(lines)

    def _onward(self, start: int) -> Iterator[Line]:
        size = _PART_BYTES
        while start < self._size:
            content = os.pread(self._descriptor, size, start)
            if start + len(content) < self._size:
                whole = _last_self_contained(content)
                if whole is None:
                    size *= 2
                    continue
                content = content[:whole]
            yield from parse_part(content, start, self._key, self._default_time)
            start, size = start + len(content), _PART_BYTES

    def _grow(
        self,
        place: int,
        message_id: str | None,
        preceding: int,
        following: int,
        back: int = _PART_BYTES,
    ) -> Window | None:
        on = _PART_BYTES if place < self._size else 0
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

    def _parse(self, start: int, end: int, having: bytes = b"") -> list[Line]:
        """The lines between two places of the file, as far as they are whole.

        None where the bytes `having` do not occur. The last part is often asked for again.
        """
        if self._last is not None and self._last[:2] == (start, end):
            *_, lines, self._parsed_from = self._last
            return lines
        content = os.pread(self._descriptor, end - start, start)
        if end < self._size:
            content = content[: content.rfind(b"\n") + 1]
        begin = 0 if start == 0 else _first_self_contained(content)
        self._parsed_from = end if begin is None else start + begin
        if begin is None or having not in content:
            return []
        lines = parse_part(content[begin:], start + begin, self._key, self._default_time)
        self._last = start, end, lines, self._parsed_from
        return lines

    def _last_place(self, message_id: str, end: int) -> int | None:
        """The offset of the last text before `end` that looks like the id; None without one."""
        id_ = message_id.encode(errors="replace")
        named = re.compile(_ID_PATTERN % re.escape(id_))
        while end > 0:
            start = max(0, end - _BYTES_PER_SEARCH)
            content = os.pread(self._descriptor, end - start + _PATTERN_BYTES + len(id_), start)
            places = [found.start() for found in named.finditer(content)]
            before = [start + place for place in places if start + place < end]
            if before:
                return before[-1]
            end = start
        return None


def _first_self_contained(content: bytes) -> int | None:
    """The offset of the first self-contained line after a line feed; None if there is none."""
    begin = content.find(b"\n") + 1
    while begin:
        end = content.find(b"\n", begin)
        if is_self_contained(content[begin : len(content) if end < 0 else end]):
            return begin
        begin = end + 1
    return None


def _last_self_contained(content: bytes) -> int | None:
    """The offset of the last self-contained line that is not the first one; None if none is."""
    end = content.rfind(b"\n")
    while (begin := content.rfind(b"\n", 0, max(end, 0)) + 1) > 0:
        if is_self_contained(content[begin:end]):
            return begin
        end = begin - 1
    return None


def _position(lines: list[Line], message_id: str | None) -> int | None:
    """The index of the message; the number of lines without an id; None if it is absent."""
    if message_id is None:
        return len(lines)
    for position, line in enumerate(lines):
        if line.message.message_id == message_id:
            return position
    return None
