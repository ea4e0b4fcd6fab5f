"""The interchange format: sessions as JSON lines, which exports and the archive have in common.

    {"backscroll_export":1}
    {"session":{"key":…,"created_at":micros,"last_activity":micros,…}}
    {"role":…,"content":…,"extra":…,"message_id":…,"created_at":micros,"edits":[…],"author":…,…}
    {"end":1}

A session's line has its attributes as far as they are set, a message's is that of the JSONL store.
The last line of a session says how many messages it has, so that one which was cut off shows. The
archive adds to a session's line when, why and how much of it was removed:

    {"session":{…},"removed_at":micros,"rule":"…","part":"whole"}

What is attached to a message is in its `"attachments"`, the bytes in base64 as `"data"`.

A session that has states has them in its line, too, by name, each with its value and version:
`"states":{"default":{"value":…,"version":1}}`. `part` is "oldest" when only these messages were
removed from a session that stays, and "author" when they are those of authors that a rule names.
Archives from before the two had one format lack the first line and the last of each session, and
have a `message_count`; they are read, too. docs/formats.md describes the format for users.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from io import BufferedReader
from typing import Any, BinaryIO, Final, NamedTuple

import orjson
import zstandard

from backscroll.contract.attachments import ATTACHMENT_FIELDS
from backscroll.contract.errors import STUMBLES, InvalidInputError
from backscroll.contract.messages import (
    SESSION_TIMES,
    ChatMessage,
    EarlierVersion,
    SessionInfo,
    check_key,
    to_micros,
)
from backscroll.contract.validation import ATTRIBUTES, ORIGINS
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.states import States, read_states

VERSION: Final = 1
VERSION_LINE: Final = b'{"backscroll_export":%d}\n' % VERSION

_SESSION_FIELDS: Final = ("key", *SESSION_TIMES, *ATTRIBUTES, *ORIGINS)
_MESSAGE_FIELDS: Final = tuple(ChatMessage.__slots__)
_EDIT_FIELDS: Final = tuple(EarlierVersion.__slots__)
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


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


def session_line(
    info: SessionInfo, removal: ArchivedSession | None = None, states: States | None = None
) -> bytes:
    """The line a session begins with; in the archive with its removal."""
    fields = info.to_dict()
    known = {name: fields[name] for name in _SESSION_FIELDS if fields[name] not in (None, {})}
    if not info.closed:  # as before there was such a thing
        del known["closed"]
    fields = {"session": known}
    if states := removal.states if removal is not None else states:
        fields["states"] = {name: asdict(state) for name, state in states.items()}
    if removal is None:
        return _line(fields)
    part = "whole" if removal.is_whole else "author" if removal.is_of_author else "oldest"
    return _line({**fields, "removed_at": removal.removed_at, "rule": removal.rule, "part": part})


def message_line(message: ChatMessage) -> bytes:
    """The line of a message, which has its id and time."""
    return _line(message.to_dict())


def end_line(messages: int) -> bytes:
    """The line that ends a session of so many messages."""
    return _line({"end": messages})


def _line(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def read_lines(
    lines: Iterable[tuple[int, bytes]],
    check: Callable[[ArchivedSession | ChatMessage], None] = lambda _: None,
) -> Iterator[SessionLine]:
    """What the lines of a document are; a bad one does not affect other sessions.

    `check` may refuse what the format allows, by `InvalidInputError`.
    """
    reader = _Reader(check)
    for number, raw in lines:
        yield from reader.take(number, raw)
    yield from reader.close()


class _Reader:
    """Takes the lines of a document one by one."""

    def __init__(self, check: Callable[[ArchivedSession | ChatMessage], None]) -> None:
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
        self._begun, self._is_skipping = 0, False

    def _message(self, fields: dict[str, Any]) -> ChatMessage:
        if not self._begun:
            raise BadLineError(
                "a message outside of a session; 'backscroll migrate' takes over session files"
            )
        message = _message(fields)
        self._check(message)
        self._messages += 1
        return message

    def _frame(self, number: int, raw: bytes, fields: dict[str, Any]) -> Iterator[SessionLine]:
        """A line between the messages."""
        if "session" in fields and not self._is_refusing:
            yield from self.close()
            self._needs_end = self._has_version or "removed_at" not in fields
            session = _session(fields)
            self._check(session)
            self._begun, self._messages = number, 0
            yield SessionLine(number, raw, session)
        elif "backscroll_export" in fields:
            yield from self.close()
            version, self._has_version = fields["backscroll_export"], True
            self._is_refusing = not isinstance(version, int) or version > VERSION
            if self._is_refusing:
                raise BadLineError(
                    f"an export of version {version!r}, and this Backscroll knows {VERSION}; "
                    "it was written by a newer one, install that"
                )
        elif not self._is_skipping:
            self._check_end(fields)
            self._begun = 0
            yield SessionLine(number, raw, None)

    def _check_end(self, fields: dict[str, Any]) -> None:
        if "end" not in fields:
            raise BadLineError("neither a session nor a message of one")
        if not self._begun:
            raise BadLineError("the end of a session that has no beginning")
        if fields["end"] != self._messages:
            raise BadLineError(f"the session has {self._messages} messages, not {fields['end']!r}")


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


def is_packed(file: BufferedReader[Any]) -> bool:
    """Whether the file is under Zstandard."""
    return file.peek(len(_ZSTD_MAGIC)).startswith(_ZSTD_MAGIC)


def unpacked(file: BufferedReader[Any]) -> BufferedReader[Any]:
    """The content of a file that may be under Zstandard; reading it raises `ZstdError` then."""
    if not is_packed(file):
        return file
    decompressor: Any = zstandard.ZstdDecompressor()
    return BufferedReader(decompressor.stream_reader(file, read_across_frames=True), 1 << 20)


def _session(fields: dict[str, Any]) -> ArchivedSession:
    said = fields["session"]
    if not isinstance(said, dict):
        raise BadLineError("a session must be a JSON object")
    check_key(said.get("key"))
    _check_fields(said, (*_SESSION_FIELDS, "message_count"), ("created_at", "last_activity"))
    try:
        info = SessionInfo.from_dict({"message_count": 0, **said})
        removed_at = int(fields.get("removed_at", to_micros(info.last_activity)))
    except STUMBLES:
        raise BadLineError("a time of the session is not a number of microseconds") from None
    return ArchivedSession(
        info,
        removed_at,
        str(fields.get("rule", "")),
        fields.get("part", "whole") == "whole",
        read_states(fields.get("states")),
        fields.get("part") == "author",
    )


def _message(fields: dict[str, Any]) -> ChatMessage:
    _check_fields(fields, _MESSAGE_FIELDS, ("content", "message_id", "created_at"))
    try:
        message = ChatMessage.from_dict(fields)
    except STUMBLES:
        raise BadLineError(
            "a time, an earlier version or an attachment of the message is not valid"
        ) from None
    for edit in fields.get("edits") or ():
        _check_fields(edit, _EDIT_FIELDS, ())
    for attachment in fields.get("attachments") or ():
        _check_fields(attachment, ATTACHMENT_FIELDS, ("kind",))
    return message


def _check_fields(fields: dict[str, Any], known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    for name in needed:
        if fields.get(name) is None:
            raise BadLineError(f"{name}: is missing")
    for name in fields:
        if name not in known:
            raise BadLineError(f"unknown field {name[:40]!r}")
