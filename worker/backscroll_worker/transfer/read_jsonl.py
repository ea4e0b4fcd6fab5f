"""Reads what `backscroll export --format jsonl` wrote; `transfer.write_jsonl` describes it.

A session with a bad line, or without its last one, is left out whole, and reported; those before
and after it are taken over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import derived_op_id
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    ChatMessage,
    EarlierVersion,
    check_text,
    from_micros,
)
from backscroll.contract.validation import ATTRIBUTES, ArgumentReader, check_attributes
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.transfer.source import (
    Advance,
    BadLineError,
    Damage,
    Found,
    Incoming,
    checked,
    numbered_lines,
    parse_object,
)
from backscroll_worker.transfer.write_jsonl import VERSION


def read_jsonl(name: str, file: BinaryIO) -> Iterator[Found]:
    """The sessions in an export; `name` is what errors call it."""
    reader = _Reader(name)
    for number, line in numbered_lines(file):
        try:
            yield from reader.take(number, line)
        except (BadLineError, InvalidInputError) as error:
            yield from reader.leave_out(number, str(error))
        yield Advance(len(line))
    yield from reader.end()


@dataclass(slots=True)
class _Open:
    """A session whose last line has not come yet."""

    number: int
    key: str
    fields: dict[str, int | None]
    attributes: dict[str, str | bool | None]
    messages: list[ChatMessage] = field(default_factory=list)
    digest: Any = field(default_factory=hashlib.sha256)


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._session: _Open | None = None
        self._is_skipping = False  # the rest of a session that was left out

    def take(self, number: int, line: bytes) -> Iterator[Found]:
        fields = parse_object(line)
        if "role" in fields:
            self._take_message(fields, line)
        elif "session" in fields:
            yield from self.end()
            self._is_skipping = False
            self._session = _begin(number, fields)
            self._session.digest.update(line)
        elif "end" in fields:
            yield from self._finish(fields)
        elif "backscroll_export" in fields:
            yield from self.end()
            self._is_skipping = False
            _check_version(fields["backscroll_export"])
        elif not self._is_skipping:
            raise BadLineError("neither a session nor a message of one")

    def leave_out(self, number: int, problem: str) -> Iterator[Damage]:
        """The session this line belongs to is not taken over."""
        if not self._is_skipping:
            yield Damage(f"{self._name}:{number}", problem)
        self._session, self._is_skipping = None, True

    def end(self) -> Iterator[Damage]:
        """A session without its last line was cut off."""
        if self._session is not None:
            where = f"{self._name}:{self._session.number}"
            yield Damage(where, "the end of this session is missing")
        self._session = None

    def _take_message(self, fields: dict[str, Any], line: bytes) -> None:
        if self._is_skipping:
            return
        if self._session is None:
            raise BadLineError(
                "a message outside of a session; 'backscroll migrate' takes over session files"
            )
        self._session.messages.append(_message(ArgumentReader(fields)))
        self._session.digest.update(line)

    def _finish(self, fields: dict[str, Any]) -> Iterator[Incoming]:
        if self._is_skipping:
            return
        session, count = self._session, fields["end"]
        if session is None:
            raise BadLineError("the end of a session that has no beginning")
        if count != len(session.messages):
            raise BadLineError(f"the session has {len(session.messages)} messages, not {count!r}")
        self._session = None
        operation = ImportSession(
            derived_op_id(session.key, f"import {session.digest.hexdigest()}"),
            now_micros(),
            session.key,
            tuple(session.messages),
            session.attributes,
            **session.fields,  # type: ignore[arg-type]
        )
        yield Incoming(f"{self._name}:{session.number}", operation)


def _check_version(version: object) -> None:
    if not isinstance(version, int) or version > VERSION:
        raise BadLineError(
            f"an export of version {version!r}, and this Backscroll knows {VERSION}; "
            "it was written by a newer one, install that"
        )


def _begin(number: int, fields: dict[str, Any]) -> _Open:
    told = fields["session"]
    if not isinstance(told, dict):
        raise BadLineError("a session must be a JSON object")
    given = {name: told.pop(name) for name in ATTRIBUTES if told.get(name) is not None}
    attributes = dict(check_attributes(given)) if given else {}
    reader = ArgumentReader(told)
    key = reader.key()
    times = {
        "created_at": _time(reader, "created_at"),
        "last_activity": _time(reader, "last_activity"),
        "turn_started_at": reader.micros("turn_started_at"),
    }
    reader.nothing_left("session")
    return _Open(number, key, times, attributes)


def _message(reader: ArgumentReader) -> ChatMessage:
    edits = [_edit(ArgumentReader(_object(each))) for each in reader.take("edits", list, [])]
    message = ChatMessage(
        reader.take("role", str),
        reader.take("content", str),
        reader.take("extra", dict, None),
        check_text("message_id", reader.take("message_id", str), MAX_ATTRIBUTE_CHARS),
        from_micros(_time(reader, "created_at")),
        tuple(edits),
    )
    reader.nothing_left("message")
    return checked(message)


def _edit(reader: ArgumentReader) -> EarlierVersion:
    role, content = reader.take("role", str), reader.take("content", str)
    extra, replaced_at = reader.take("extra", dict, None), from_micros(_time(reader, "replaced_at"))
    reader.nothing_left("edits")
    checked(ChatMessage(role, content, extra))
    return EarlierVersion(role, content, extra, replaced_at)


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadLineError("an earlier version must be a JSON object")
    return value


def _time(reader: ArgumentReader, name: str) -> int:
    micros = reader.micros(name)
    if micros is None:
        raise BadLineError(f"{name}: is missing")
    return micros
