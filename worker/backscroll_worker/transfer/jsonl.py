"""The exact export, and the import of what it wrote; so is a file of the archive.

`contract.interchange` has the format. A session with a bad line, or without its end, is skipped
whole, and reported; those before and after it are taken over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from backscroll.contract.ids import derived_op_id
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    MAX_OPERATION_BYTES,
    ChatMessage,
    SessionInfo,
    check_text,
    to_micros,
)
from backscroll.contract.validation import ATTRIBUTES, check_attributes
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.interchange import (
    BadLineError,
    SessionLine,
    SessionReader,
    end_line,
    message_line,
    numbered_lines,
    session_line,
    version_line,
)
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.transfer.sessions import ExportedSession
from backscroll_worker.transfer.source import Advance, Damage, Found, Incoming, check_message

MAX_LINE_BYTES: Final = 8 * MAX_OPERATION_BYTES


def write_jsonl(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """Everything that is known of the sessions."""
    yield version_line()
    for session in sessions:
        yield session_line(session.info)
        count = 0
        for message in session.messages:
            count += 1
            yield message_line(message)
        yield end_line(count)


def read_jsonl(name: str, file: BinaryIO) -> Iterator[Found]:
    """The sessions in an export or a file of the archive; `name` is what errors call it."""
    reader, builder = SessionReader(_check), _Builder(name)
    for number, raw in numbered_lines(file, MAX_LINE_BYTES):
        for line in reader.take(number, raw):
            yield from builder.add(line)
        yield Advance(len(raw))
    for line in reader.close():
        yield from builder.add(line)


def _check(value: ArchivedSession | ChatMessage) -> None:
    """Raise `InvalidInputError` unless a store can hold what the line says."""
    if isinstance(value, ArchivedSession):
        check_attributes(_attributes(value.info))
        return
    check_text("message_id", value.message_id, MAX_ATTRIBUTE_CHARS)
    check_message(value)
    for edit in value.edits:
        check_message(ChatMessage(edit.role, edit.content, edit.extra))


def _attributes(info: SessionInfo) -> dict[str, str | bool | None]:
    return {name: value for name in ATTRIBUTES if (value := getattr(info, name)) is not None}


@dataclass(slots=True)
class _Open:
    """A session whose end has not come yet."""

    number: int
    info: SessionInfo
    digest: Any
    messages: list[ChatMessage] = field(default_factory=list)


class _Builder:
    """Makes operations of what a `SessionReader` finds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._session: _Open | None = None

    def add(self, line: SessionLine) -> Iterator[Found]:
        session, value = self._session, line.value
        if isinstance(value, ArchivedSession):
            self._session = _Open(line.number, value.info, hashlib.sha256(line.raw))
        elif isinstance(value, BadLineError):
            self._session = None
            yield Damage(f"{self._name}:{line.number}", str(value))
        elif session is not None and value is not None:
            session.messages.append(value)
            session.digest.update(line.raw)
        elif session is not None:
            self._session = None
            yield Incoming(f"{self._name}:{session.number}", _operation(session))


def _operation(session: _Open) -> ImportSession:
    info, started = session.info, session.info.turn_started_at
    return ImportSession(
        derived_op_id(info.key, f"import {session.digest.hexdigest()}"),
        now_micros(),
        info.key,
        tuple(session.messages),
        _attributes(info),
        to_micros(info.created_at),
        to_micros(info.last_activity),
        None if started is None else to_micros(started),
    )
