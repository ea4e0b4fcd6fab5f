"""The interchange format: sessions as JSON lines, which exports and the archive have in common.

    {"backscroll_export":1}
    {"session":{"key":…,"created_at":micros,"last_activity":micros,…}}
    {"role":…,"content":…,"extra":…,"message_id":…,"created_at":micros,"edits":[…]}
    {"end":1}

A session's line has its attributes as far as they are set, a message's is that of the JSONL store.
The last line of a session says how many messages it has, so that one which was cut off shows. The
archive adds to a session's line when, why and how much of it was removed:

    {"session":{…},"removed_at":micros,"rule":"…","part":"whole"}

`part` is "oldest" when only these messages were removed from a session that stays. Archives from
before the two had one format lack the first line and the last of each session, and have a
`message_count`; they are read, too. docs/formats.md describes the format for users.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, BinaryIO, Final, NamedTuple

import orjson
import zstandard

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    ChatMessage,
    EarlierVersion,
    SessionInfo,
    from_micros,
    to_micros,
)
from backscroll.contract.validation import ATTRIBUTES, TEXT_ATTRIBUTES, ArgumentReader
from backscroll_worker.contract.archiving import ArchivedSession

VERSION: Final = 1

_TIMES: Final = ("created_at", "last_activity", "turn_started_at")
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_PACKED_BYTES: Final = 8_192  # a few bytes may become many: no more at a time


class BadLineError(ValueError):
    """A line that is not part of a session; the text says why."""


class SessionLine(NamedTuple):
    """A line and what it is: the beginning of a session, a message of it, or its end (None).

    A `BadLineError` in the place of any of these costs the whole session. `number` is the line's,
    counted from 1, or that of the session where its end is missing.
    """

    number: int
    raw: bytes
    value: ArchivedSession | ChatMessage | BadLineError | None


def version_line() -> bytes:
    """The first line of a document."""
    return _line({"backscroll_export": VERSION})


def session_line(info: SessionInfo, removal: ArchivedSession | None = None) -> bytes:
    """The line a session begins with; in the archive with its removal."""
    fields = info.to_dict()
    wanted = ("key", *_TIMES, *ATTRIBUTES)
    line = {"session": {name: fields[name] for name in wanted if fields[name] is not None}}
    if removal is None:
        return _line(line)
    part = "whole" if removal.is_whole else "oldest"
    return _line({**line, "removed_at": removal.removed_at, "rule": removal.rule, "part": part})


def message_line(message: ChatMessage) -> bytes:
    """The line of a message, which has its id and time."""
    return _line(message.to_dict())


def end_line(messages: int) -> bytes:
    """The line that ends a session of so many messages."""
    return _line({"end": messages})


def _trust(_: ArchivedSession | ChatMessage) -> None:
    """The check of what this program wrote for itself."""


class SessionReader:
    """Takes the lines of a document one by one.

    A session with a bad line, or without its end, is one `BadLineError`; the sessions before and
    after it are not affected. `check` may refuse what the format allows, by `InvalidInputError`.
    """

    def __init__(self, check: Callable[[ArchivedSession | ChatMessage], None] = _trust) -> None:
        self._check = check
        self._begun = 0  # the number of the open session's line
        self._messages = 0
        self._has_version = False
        self._needs_end = False
        self._is_skipping = False  # the rest of a session with a bad line
        self._is_refusing = False  # the rest of a document of a later version

    def take(self, number: int, raw: bytes) -> Iterator[SessionLine]:
        """What the next line is; also the end of the session before, if that was missing."""
        try:
            fields = parse_object(raw)
            if "role" not in fields:
                yield from self._frame(number, raw, fields)
            elif not self._is_skipping:
                yield SessionLine(number, raw, self._message(fields))
        except (BadLineError, InvalidInputError) as error:
            if not self._is_skipping:
                yield SessionLine(number, raw, BadLineError(str(error)))
            self._begun, self._is_skipping = 0, True

    def close(self) -> Iterator[SessionLine]:
        """Nothing of the open session follows, if there is one."""
        if self._begun:
            missing = BadLineError("the end of this session is missing")
            yield SessionLine(self._begun, b"", missing if self._needs_end else None)
        self._begun = 0

    def _message(self, fields: dict[str, Any]) -> ChatMessage:
        if not self._begun:
            raise BadLineError(
                "a message outside of a session; 'backscroll migrate' takes over session files"
            )
        message = _message(ArgumentReader(fields))
        self._check(message)
        self._messages += 1
        return message

    def _frame(self, number: int, raw: bytes, fields: dict[str, Any]) -> Iterator[SessionLine]:
        """What stands between the messages."""
        if "session" in fields and not self._is_refusing:
            yield from self.close()
            self._is_skipping = False
            self._needs_end = self._has_version or "removed_at" not in fields
            session = _session(fields)
            self._check(session)
            self._begun, self._messages = number, 0
            yield SessionLine(number, raw, session)
        elif "backscroll_export" in fields:
            yield from self.close()
            self._is_skipping, self._has_version, self._is_refusing = False, True, True
            _check_version(fields["backscroll_export"])
            self._is_refusing = False
        elif not self._is_skipping:
            self._end(fields)
            yield SessionLine(number, raw, None)

    def _end(self, fields: dict[str, Any]) -> None:
        if "end" not in fields:
            raise BadLineError("neither a session nor a message of one")
        if not self._begun:
            raise BadLineError("the end of a session that has no beginning")
        if fields["end"] != self._messages:
            raise BadLineError(f"the session has {self._messages} messages, not {fields['end']!r}")
        self._begun = 0


def numbered_lines(file: BinaryIO, max_bytes: int = -1) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, by their numbers from 1; one of more bytes is cut."""
    number = 0
    while line := file.readline(max_bytes):
        number += 1
        if line.strip():
            yield number, line


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object in a line; raises `BadLineError`."""
    try:
        fields = orjson.loads(line)
    except ValueError:
        raise BadLineError("not JSON; perhaps the file is cut off") from None
    if not isinstance(fields, dict):
        raise BadLineError("not a JSON object")
    return fields


def is_packed(file: io.BufferedReader[Any]) -> bool:
    """Whether the file is under Zstandard."""
    return file.peek(len(_ZSTD_MAGIC)).startswith(_ZSTD_MAGIC)


def unpacked(file: io.BufferedReader[Any]) -> io.BufferedReader[Any]:
    """The content of a file that may be under Zstandard.

    Reading it raises `OSError` where the compressed data are damaged or cut off.
    """
    return io.BufferedReader(_Unpacked(file), 1 << 20) if is_packed(file) else file


class _Unpacked(io.RawIOBase):
    """What is in the frames of a file. Unlike zstandard's own reader it notices a cut."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._rest = b""
        self._content = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            packed = self._rest or self._file.read(_PACKED_BYTES)
            if not packed:
                return self._end()
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                self._content = memoryview(self._frame.decompress(packed))
            except zstandard.ZstdError as error:
                raise OSError(f"the compressed data are damaged: {error}") from None
            self._rest = self._frame.unused_data
        size = min(len(buffer), len(self._content))
        buffer[:size], self._content = self._content[:size], self._content[size:]
        return size

    def _end(self) -> int:
        if not self._frame.eof:
            raise OSError("the compressed data are cut off")
        return 0


def _line(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def _check_version(version: object) -> None:
    if not isinstance(version, int) or version > VERSION:
        raise BadLineError(
            f"an export of version {version!r}, and this Backscroll knows {VERSION}; "
            "it was written by a newer one, install that"
        )


def _session(fields: dict[str, Any]) -> ArchivedSession:
    if not isinstance(fields["session"], dict):
        raise BadLineError("a session must be a JSON object")
    reader, removal = ArgumentReader(fields["session"]), ArgumentReader(fields)
    started = reader.micros("turn_started_at")
    info = SessionInfo(
        reader.key(),
        _time(reader, "created_at"),
        _time(reader, "last_activity"),
        reader.take("message_count", int, 0),
        **{name: reader.take(name, str, None) for name in TEXT_ATTRIBUTES},
        state=reader.take("state", str, "idle"),
        turn_started_at=None if started is None else from_micros(started),
        pinned=reader.take("pinned", bool, False),
    )
    reader.nothing_left("session")
    removed_at = removal.micros("removed_at")
    return ArchivedSession(
        info,
        to_micros(info.last_activity) if removed_at is None else removed_at,
        removal.take("rule", str, ""),
        removal.take("part", str, "whole") == "whole",
    )


def _message(reader: ArgumentReader) -> ChatMessage:
    edits = [_edit(each) for each in reader.take("edits", list, [])]
    message = ChatMessage(
        reader.take("role", str),
        reader.take("content", str),
        reader.take("extra", dict, None),
        reader.take("message_id", str),
        _time(reader, "created_at"),
        tuple(edits),
    )
    reader.nothing_left("message")
    return message


def _edit(fields: object) -> EarlierVersion:
    if not isinstance(fields, dict):
        raise BadLineError("an earlier version must be a JSON object")
    reader = ArgumentReader(fields)
    edit = EarlierVersion(
        reader.take("role", str),
        reader.take("content", str),
        reader.take("extra", dict, None),
        _time(reader, "replaced_at"),
    )
    reader.nothing_left("edits")
    return edit


def _time(reader: ArgumentReader, name: str) -> datetime:
    micros = reader.micros(name)
    if micros is None:
        raise BadLineError(f"{name}: is missing")
    return from_micros(micros)
