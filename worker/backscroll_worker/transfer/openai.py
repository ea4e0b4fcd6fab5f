"""Chat-completions messages, a session a line, as fine-tuning takes them: out and in.

    {"messages":[{"role":…,"content":…,"name":…,"tool_calls":…,"tool_call_id":…},…]}

Written of a message's `extra` are `name`, `tool_calls` and `tool_call_id`; and `content`, when it
is a list of parts, in the place of the text. Without such a `name` it is the author's, in the
characters that are allowed there. Sessions without messages are skipped.

Such a line has no key, ids or times. When it is read, the key is the prefix and the line's number,
the ids follow from that and the content, and all messages are of one time, which the caller gives.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, BinaryIO, Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import derived_op_id, message_id
from backscroll.contract.messages import ChatMessage, check_key, from_micros
from backscroll_worker.contract.interchange import BadLineError, numbered_lines, parse_object
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.jsonl.decoding import NOT_UNICODE, Value, decode_whole
from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.jsonl import MAX_LINE_BYTES
from backscroll_worker.transfer.sessions import ExportedSession
from backscroll_worker.transfer.source import Advance, Damage, Found, Incoming, check_message

_NOT_IN_NAMES: Final = re.compile("[^A-Za-z0-9_-]+")
_NAME_CHARS: Final = 64
_CARRIED: Final = ("name", "tool_calls", "tool_call_id")


def write_openai(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """One line a session."""
    for session in sessions:
        before = b'{"messages":['
        for message in session.messages:
            yield before + orjson.dumps(_fields(message))
            before = b","
        if before == b",":
            yield b"]}\n"


def _fields(message: ChatMessage) -> dict[str, Any]:
    extra = message.extra or {}
    parts = extra.get("content")
    content = parts if isinstance(parts, list) else message.content
    carried = {name: extra[name] for name in _CARRIED if extra.get(name) is not None}
    if (name := _name(message)) and message.role != "tool":
        carried = {"name": name, **carried}
    return {"role": message.role, "content": content, **carried}


def _name(message: ChatMessage) -> str:
    """The author's name, as far as a `name` may have its characters; it may be empty."""
    return _NOT_IN_NAMES.sub("_", message.author_name or "").strip("_")[:_NAME_CHARS]


def read_openai(name: str, file: BinaryIO, key_prefix: str, at: int) -> Iterator[Found]:
    """The sessions in the file; `at`, in microseconds, is when their messages were sent."""
    for number, line in numbered_lines(file, MAX_LINE_BYTES):
        where = f"{name}:{number}"
        try:
            key = check_key(f"{key_prefix}{number}")
            # A strict parser would refuse some lines, or take only a part of them.
            fields, is_altered = decode_whole(line) or Value(parse_object(line))
            yield Incoming(where, _session(key, fields, line, at))
            if left := [name for name in fields if name != "messages"]:
                yield Damage(where, f"not part of a message: {', '.join(left)}", is_session=False)
            if is_altered:
                problem = NOT_UNICODE
                yield Damage(where, problem, is_session=False)
        except (BadLineError, InvalidInputError) as error:
            yield Damage(where, str(error))
        yield Advance(len(line))


def _session(key: str, fields: dict[str, Any], line: bytes, at: int) -> ImportSession:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadLineError("has no list of messages")
    op_id = derived_op_id(key, f"import {hashlib.sha256(line.strip()).hexdigest()}")
    moment = from_micros(at)
    said = tuple(
        _message(each, message_id(op_id, index), moment) for index, each in enumerate(messages)
    )
    return ImportSession(op_id, now_micros(), key, said, {}, at, at)


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
    return check_message(ChatMessage(role, content, extra or None, message_id, at))
