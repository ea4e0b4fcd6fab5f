"""The exact export, and the import of what it wrote; so is a file of the archive.

`contract.interchange` has the format. A session with a bad line, or without its end, is skipped
whole, and reported; those before and after it are taken over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Final

from backscroll.contract.ids import derived_op_id
from backscroll.contract.message_checks import MAX_OPERATION_BYTES
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    ChatMessage,
    check_moment,
    check_text,
    to_micros,
)
from backscroll_worker.contract.archiving import ArchivedSession
from backscroll_worker.contract.interchange import (
    VERSION_LINE,
    BadLineError,
    end_line,
    message_line,
    numbered_lines,
    read_lines,
    session_line,
)
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import (
    ImportSession,
    check_known,
    known_attributes,
    turn_times_of,
)
from backscroll_worker.transfer.sessions import ExportedSession
from backscroll_worker.transfer.source import Advance, Damage, Found, Incoming, check_message

MAX_LINE_BYTES: Final = 8 * MAX_OPERATION_BYTES


def write_jsonl(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """Everything that is known of the sessions."""
    yield VERSION_LINE
    for session in sessions:
        yield session_line(session.info, states=session.states)
        count = 0
        for message in session.messages:
            count += 1
            yield message_line(message)
        yield end_line(count)


def read_jsonl(name: str, file: BinaryIO) -> Iterator[Found]:
    """The sessions in an export or a file of the archive; `name` is what errors call it."""
    session: ArchivedSession | None = None
    begun, messages, digest = 0, list[ChatMessage](), hashlib.sha256()
    for number, raw, value in read_lines(numbered_lines(file, MAX_LINE_BYTES), _check):
        if isinstance(value, ArchivedSession):
            session, begun, messages, digest = value, number, [], hashlib.sha256(raw)
        elif isinstance(value, BadLineError):
            yield Damage(f"{name}:{number}", str(value))
        elif value is not None:
            messages.append(value)
            digest.update(raw)
        elif session is not None:
            yield Incoming(f"{name}:{begun}", _operation(session, messages, digest.hexdigest()))
        yield Advance(len(raw))


def _check(value: ArchivedSession | ChatMessage) -> None:
    """Raise `InvalidInputError` unless a store can hold what the line says."""
    if isinstance(value, ArchivedSession):
        info = value.info
        check_known(known_attributes(info))
        times = info.last_activity, info.turn_started_at, info.turn_expires_at
        for moment in (info.created_at, *times):
            check_moment("session", moment or info.created_at)
        return
    check_text("message_id", value.message_id, MAX_ATTRIBUTE_CHARS)
    check_message(value)
    for edit in value.edits:
        check_message(ChatMessage(edit.role, edit.content, edit.extra, None, edit.replaced_at))


def _operation(
    session: ArchivedSession, messages: Iterable[ChatMessage], digest: str
) -> ImportSession:
    info = session.info
    started, expires_at = turn_times_of(info)
    return ImportSession(
        derived_op_id(info.key, f"import {digest}"),
        now_micros(),
        info.key,
        tuple(messages),
        known_attributes(info),
        to_micros(info.created_at),
        to_micros(info.last_activity),
        started,
        session.states,
        expires_at,
    )
