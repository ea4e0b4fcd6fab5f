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
    check_moment,
    check_text,
    to_micros,
)
from backscroll.contract.validation import ATTRIBUTES, check_attributes
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.interchange import (
    BadLineError,
    end_line,
    message_line,
    numbered_lines,
    read_lines,
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


@dataclass(slots=True)
class _Open:
    """A session whose end has not come yet."""

    number: int
    info: SessionInfo
    digest: Any
    messages: list[ChatMessage] = field(default_factory=list)


def read_jsonl(name: str, file: BinaryIO) -> Iterator[Found]:
    """The sessions in an export or a file of the archive; `name` is what errors call it."""
    session: _Open | None = None
    for number, raw, value in read_lines(numbered_lines(file, MAX_LINE_BYTES), _check):
        if isinstance(value, ArchivedSession):
            session = _Open(number, value.info, hashlib.sha256(raw))
        elif isinstance(value, BadLineError):
            session = None
            yield Damage(f"{name}:{number}", str(value))
        elif session is not None and value is not None:
            session.messages.append(value)
            session.digest.update(raw)
        elif session is not None:
            yield Incoming(f"{name}:{session.number}", _operation(session))
            session = None
        yield Advance(len(raw))


def _check(value: ArchivedSession | ChatMessage) -> None:
    """Raise `InvalidInputError` unless a store can hold what the line says."""
    if isinstance(value, ArchivedSession):
        info = value.info
        check_attributes(_attributes(info))
        for moment in (info.created_at, info.last_activity, info.turn_started_at):
            check_moment("session", moment or info.created_at)
        return
    check_text("message_id", value.message_id, MAX_ATTRIBUTE_CHARS)
    check_message(value)
    for edit in value.edits:
        check_message(ChatMessage(edit.role, edit.content, edit.extra, None, edit.replaced_at))


def _attributes(info: SessionInfo) -> dict[str, str | bool | None]:
    return {name: value for name in ATTRIBUTES if (value := getattr(info, name)) is not None}


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
