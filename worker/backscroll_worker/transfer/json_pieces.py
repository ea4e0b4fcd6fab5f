"""Reads a JSON document in pieces, so that memory follows its largest value and not its size.

The pieces are found by their brackets and quotes; orjson reads each of them. Where it refuses one,
Python's own reader tries: text that is not Unicode, NaN and integers of any length cost nothing
else then, and what is not JSON costs only the value that it is in. ijson does not do: it ends at
the first of any of these, writes "?" for half a character without a word, and builds nested lists
until memory ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll_worker.stores.jsonl.decoding import decode_whole, is_deep

_BYTES_PER_READ: Final = 256 * 1024
_MAX_NAME_BYTES: Final = 64 * 1024
_SPACE: Final = b" \t\r\n"
_IN_STRING: Final = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_STRING: Final = re.compile(_IN_STRING, re.DOTALL)
_BETWEEN_BRACKETS: Final = re.compile(
    rb'[^"\[\]{}]*+(?:"' + _IN_STRING + rb'"[^"\[\]{}]*+)*+', re.DOTALL
)
_LITERAL: Final = re.compile(rb'[^\s,:"\[\]{}]*+')


class BadValueError(ValueError):
    """A value that cannot be read; the text says why. What follows it can."""


class JsonPieces:
    """A document whose values are read one after another.

    `elements` and `members` go through the array or object that is next, and with each step the
    value inside it is next: `value` reads it, `elements` or `members` go into it, and one that was
    not read is skipped. All raise `InvalidInputError` where the document is not JSON.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._buffer = b""
        self._at = 0  # where in the buffer reading goes on
        self._offset = 0  # where in the document the buffer begins
        self._reported = 0
        self._is_unread = True  # the value that is next
        self.altered = 0
        """How many values had text that is not Unicode or numbers that JSON lacks."""

    @property
    def position(self) -> int:
        """Where in the document reading goes on, in bytes."""
        return self._offset + self._at

    def advanced(self) -> int:
        """How many bytes were read since the last call."""
        before, self._reported = self._reported, self.position
        return self._reported - before

    def begins_with(self, bracket: bytes) -> bool:
        """Whether the value that is next does."""
        return self._next() == bracket[0]

    def elements(self) -> Iterator[None]:
        """Each element of the array that is next."""
        self._take(b"[")
        if self._next() != b"]"[0]:
            while True:
                self._is_unread = True
                yield
                self._skip_unread()
                if self._next() != b","[0]:
                    break
                self._at += 1
        self._take(b"]")
        self._is_unread = False

    def members(self) -> Iterator[str]:
        """The name of each member of the object that is next."""
        self._take(b"{")
        if self._next() != b"}"[0]:
            while True:
                if self._next() != b'"'[0]:
                    raise self._wrong("a name in quotes")
                name = self._name_read()
                self._take(b":")
                self._is_unread = True
                yield name
                self._skip_unread()
                if self._next() != b","[0]:
                    break
                self._at += 1
        self._take(b"}")
        self._is_unread = False

    def value(self, max_bytes: int) -> Any:
        """The value that is next; raises `BadValueError` where it is larger or not valid."""
        kept, size = list[bytes](), 0
        for part in self._parts():
            size += len(part)
            if size <= max_bytes:
                kept.append(part)
            else:
                kept.clear()
        self._is_unread = False
        if size > max_bytes:
            raise BadValueError(f"has {size:,} bytes; the limit is {max_bytes:,}")
        raw = b"".join(kept)
        try:
            return orjson.loads(raw)
        except ValueError as error:
            found = decode_whole(raw)
            if found is None:
                why = "is nested too deeply" if is_deep(raw) else f"is not JSON: {error}"
                raise BadValueError(why) from None
            self.altered += 1
            return found.fields

    def finish(self) -> None:
        """Raise `InvalidInputError` if anything but space follows the document."""
        while True:
            self._at = len(self._buffer) - len(self._buffer[self._at :].lstrip(_SPACE + b"\0"))
            if self._at < len(self._buffer):
                raise InvalidInputError(
                    "file", f"{self._name} goes on after its end, at byte {self.position:,}"
                )
            if not self._has_more():
                return

    def _name_read(self) -> str:
        raw = b"".join(self._parts())[:_MAX_NAME_BYTES]
        try:
            return str(orjson.loads(raw))
        except ValueError:
            return raw[1:-1].decode(errors="replace")

    def _skip_unread(self) -> None:
        if self._is_unread:
            for _ in self._parts():
                pass
        self._is_unread = False

    def _parts(self) -> Iterator[bytes]:
        """The bytes of the value that is next, as they are read."""
        first = self._next()
        if first == b'"'[0]:
            yield from self._string()
        elif first in b"[{":
            yield from self._nested()
        else:
            yield from self._literal()

    def _nested(self) -> Iterator[bytes]:
        depth, begin = 0, self._at
        while True:
            found = _BETWEEN_BRACKETS.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._at == len(self._buffer):
                yield self._buffer[begin:]
                begin = self._must_have_more()
                continue
            sign = self._buffer[self._at : self._at + 1]
            if sign == b'"':  # a string that the buffer has not wholly
                yield self._buffer[begin : self._at]
                yield from self._string()
                begin = self._at
                continue
            self._at += 1
            depth += 1 if sign in b"[{" else -1
            if not depth:
                yield self._buffer[begin : self._at]
                return

    def _string(self) -> Iterator[bytes]:
        begin = self._at
        self._at += 1
        while True:
            found = _STRING.match(self._buffer, self._at)
            self._at = found.end() if found else self._at
            if self._buffer[self._at : self._at + 1] == b'"':
                self._at += 1
                yield self._buffer[begin : self._at]
                return
            yield self._buffer[begin : self._at]  # but for a backslash at the end
            begin = self._must_have_more()

    def _literal(self) -> Iterator[bytes]:
        is_there = False
        while True:
            found = _LITERAL.match(self._buffer, self._at)
            begin, self._at = self._at, found.end() if found else self._at
            is_there = is_there or self._at > begin
            yield self._buffer[begin : self._at]
            if self._at < len(self._buffer) or not self._has_more():
                break
        if not is_there:
            raise self._wrong("a value")

    def _next(self) -> int:
        """The first byte behind the space here."""
        while True:
            rest = self._buffer[self._at : self._at + 64].lstrip(_SPACE)
            if rest:
                self._at += min(64, len(self._buffer) - self._at) - len(rest)
                return rest[0]
            self._at = min(self._at + 64, len(self._buffer))
            if self._at == len(self._buffer):
                self._must_have_more()

    def _take(self, sign: bytes) -> None:
        if self._next() != sign[0]:
            raise self._wrong(repr(sign.decode()))
        self._at += 1

    def _must_have_more(self) -> int:
        if not self._has_more():
            where = self._offset + len(self._buffer)
            raise InvalidInputError(
                "file", f"{self._name} is not JSON: it is cut off at byte {where:,}"
            )
        return self._at

    def _has_more(self) -> bool:
        """Read on; what is before the place in the buffer is dropped."""
        more = self._file.read(_BYTES_PER_READ)
        if more:
            self._offset += self._at
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
        return bool(more)

    def _wrong(self, wanted: str) -> InvalidInputError:
        return InvalidInputError(
            "file", f"{self._name} is not JSON: byte {self.position:,} should be {wanted}"
        )
