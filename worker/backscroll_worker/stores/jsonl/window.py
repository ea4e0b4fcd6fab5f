"""Reads a part of a messages file: its newest messages, or those beside one.

What is read does not grow with the session but with what is asked for, and, to find a message by
its id, with how far it is from the end. What comes before the part is as good as not there: it
begins with a line that is whole by itself, where a reader of the file forgets what came before.
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
from backscroll_worker.stores.jsonl.transcript import own_place, parse_part, starts_anew

_PART_BYTES: Final = 64 * 1024
_SEARCHED_BYTES: Final = 1024 * 1024
_NAMED: Final = rb'"message_id"[ \t]{0,9}:[ \t]{0,9}"%b"'
_NAME_BYTES: Final = 40


class AbsentError(Exception):
    """The session has no message with that id."""


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
        self._parsed_from = self._size
        self._last: tuple[int, int, list[Line], int] | None = None
        start = os.pread(descriptor, ENCODING_BYTES, 0)
        self._is_in_utf8 = as_utf8(start) is start

    def newest(self, count: int) -> Window | None:
        """The last `count` messages, or more; None when the whole file has to be read."""
        return self._grow(self._size, None, count, 0) if self._is_in_utf8 else None

    def beside(self, message_id: str, preceding: int, following: int) -> Window | None:
        """A message with so many before it, and from it on; None as above.

        Raises `AbsentError` when no line has the id. (One that another program has written may
        have it in another form; then the whole file has to be read.)
        """
        if not self._is_in_utf8:
            return None
        place, end = own_place(message_id, self._key), self._size
        if place is None or place >= self._size:
            place = self._last_place(message_id, end)
        is_absent = place is None
        while place is not None:
            window = self._grow(place, message_id, preceding, following)
            if window is not None:
                return window
            end = min(place, self._parsed_from)  # it is not in what was parsed
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

    def onward(self, after: str) -> Iterator[Line] | None:
        """The lines after a message, oldest first; None as above. Raises as `beside`."""
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
            size = min(2 * size, _SEARCHED_BYTES) if having and not lines else _PART_BYTES
            yield from reversed(lines)

    def _onward(self, start: int) -> Iterator[Line]:
        size = _PART_BYTES
        while start < self._size:
            content = os.pread(self._descriptor, size, start)
            if start + len(content) < self._size:
                whole = _last_anew(content)
                if whole is None:
                    size *= 2
                    continue
                content = content[:whole]
            yield from parse_part(content, start, self._key, self._default_time)
            start, size = start + len(content), _PART_BYTES

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
        begin = 0 if start == 0 else _first_anew(content)
        self._parsed_from = end if begin is None else start + begin
        if begin is None or having not in content:
            return []
        lines = parse_part(content[begin:], start + begin, self._key, self._default_time)
        self._last = start, end, lines, self._parsed_from
        return lines

    def _last_place(self, message_id: str, end: int) -> int | None:
        """Where the last line that begins before `end` and seems to have the id says so."""
        id_ = message_id.encode(errors="replace")
        named = re.compile(_NAMED % re.escape(id_))
        while end > 0:
            start = max(0, end - _SEARCHED_BYTES)
            content = os.pread(self._descriptor, end - start + _NAME_BYTES + len(id_), start)
            places = [found.start() for found in named.finditer(content)]
            before = [start + place for place in places if start + place < end]
            if before:
                return before[-1]
            end = start
        return None


def _first_anew(content: bytes) -> int | None:
    """Where the first line begins, behind one that may be cut off, that stands for itself."""
    begin = content.find(b"\n") + 1
    while begin:
        end = content.find(b"\n", begin)
        if starts_anew(content[begin : len(content) if end < 0 else end]):
            return begin
        begin = end + 1
    return None


def _last_anew(content: bytes) -> int | None:
    """Where the last whole line begins, but not at the start, that stands for itself."""
    end = content.rfind(b"\n")
    while (begin := content.rfind(b"\n", 0, max(end, 0)) + 1) > 0:
        if starts_anew(content[begin:end]):
            return begin
        end = begin - 1
    return None


def _position(lines: list[Line], message_id: str | None) -> int | None:
    """Where the message stands; behind the last one if none is meant."""
    if message_id is None:
        return len(lines)
    for position, line in enumerate(lines):
        if line.message.message_id == message_id:
            return position
    return None
