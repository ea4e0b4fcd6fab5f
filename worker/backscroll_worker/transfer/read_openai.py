"""Reads chat-completions messages, a session a line, as `backscroll export --format openai` does.

They have no keys, ids or times. The key is the prefix and the line's number, the ids follow from
that and what was said, and all messages are of one time, which the caller gives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import derived_op_id, message_id
from backscroll.contract.messages import ChatMessage, check_key, from_micros
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.jsonl.decoding import Value, decode_whole
from backscroll_worker.stores.jsonl.fields import text_of
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


def read_openai(name: str, file: BinaryIO, key_prefix: str, at: int) -> Iterator[Found]:
    """The sessions in the file; `at`, in microseconds, is when their messages were sent."""
    for number, line in numbered_lines(file):
        where = f"{name}:{number}"
        try:
            key = check_key(f"{key_prefix}{number}")
            fields, is_altered = _object(line)
            yield Incoming(where, _session(key, fields, line, at))
            if left := [name for name in fields if name != "messages"]:
                yield Damage(where, f"not part of a message: {', '.join(left)}", is_session=False)
            if is_altered:
                problem = "some of it is not Unicode; U+FFFD stands in its place"
                yield Damage(where, problem, is_session=False)
        except (BadLineError, InvalidInputError) as error:
            yield Damage(where, str(error))
        yield Advance(len(line))


def _object(line: bytes) -> Value:
    """What the line says, though a strict parser would refuse it or take only a part."""
    value = decode_whole(line)
    return Value(parse_object(line)) if value is None else value


def _session(key: str, fields: dict[str, Any], line: bytes, at: int) -> ImportSession:
    told = fields.get("messages")
    if not isinstance(told, list) or not told:
        raise BadLineError("has no list of messages")
    op_id = derived_op_id(key, f"import {hashlib.sha256(line.strip()).hexdigest()}")
    moment = from_micros(at)
    messages = tuple(
        _message(each, message_id(op_id, index), moment) for index, each in enumerate(told)
    )
    return ImportSession(op_id, now_micros(), key, messages, {}, at, at)


def _message(fields: object, message_id: str, at: datetime) -> ChatMessage:
    """What is more than role and text becomes `extra`; so does a content of parts, as it is."""
    if not isinstance(fields, dict):
        raise BadLineError("a message must be a JSON object")
    content = fields.get("content")
    extra = {name: value for name, value in fields.items() if name not in ("role", "content")}
    if isinstance(content, list):
        extra["content"] = content
        content = text_of(content)
    role: Any = fields.get("role")
    content = "" if content is None else content
    return checked(ChatMessage(role, content, extra or None, message_id, at))
