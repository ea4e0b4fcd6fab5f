"""Whether a message can be stored: its size, its fields, and its JSON.

The checks run in the producer, before anything is enqueued, and in the worker, before anything is
stored, so that neither has to trust the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import orjson

from backscroll.contract.attachment_checks import check_attachments
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    CIRCUMSTANCES,
    MAX_ATTRIBUTE_CHARS,
    NO_CIRCUMSTANCES,
    ChatMessage,
    check_moment,
    check_text,
    circumstances,
)

MAX_ROLE_CHARS: Final = 64
MAX_MESSAGE_BYTES: Final = 1024 * 1024
MAX_OPERATION_BYTES: Final = 16 * 1024 * 1024
MAX_TOKENS: Final = 10**12

# Whatever is not plain JSON must raise instead of being turned into something else.
_STRICT_JSON: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes a message and an operation may have, in bytes of UTF-8 content plus JSON `extra`.

    What is attached counts for the operation.
    """

    message_bytes: int = MAX_MESSAGE_BYTES
    operation_bytes: int = MAX_OPERATION_BYTES


def check_messages(messages: Iterable[object], limits: Limits, *, were_json: bool = False) -> None:
    """Raise `InvalidInputError` unless every item is a message that can be stored unchanged.

    With `were_json` they came out of JSON, so that they will come out of it again, and their
    circumstances were checked then.
    """
    total, count = 0, 0
    for count, message in enumerate(messages, start=1):  # noqa: B007 - counted for the check below
        if not isinstance(message, ChatMessage):
            raise InvalidInputError(
                "messages", f"must be ChatMessage objects, not {type(message).__name__}"
            )
        total += _message_size(message, limits.message_bytes, were_json)
    if count == 0:
        raise InvalidInputError("messages", "give at least one message")
    if total > limits.operation_bytes:
        raise InvalidInputError(
            "messages",
            f"have {total:,} bytes together; the limit for one call is {limits.operation_bytes:,}",
            limits.operation_bytes,
        )


def _message_size(message: ChatMessage, limit: int, was_json: bool) -> int:
    check_text("role", message.role, MAX_ROLE_CHARS)
    if not isinstance(message.content, str):
        raise InvalidInputError("content", f"must be text, not {type(message.content).__name__}")
    try:
        size = len(message.content.encode())
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            "content", f"has a lone surrogate at position {error.start}; it is not valid Unicode"
        ) from None
    if message.extra is not None:
        size += _extra_size(message.extra, was_json)
    if size > limit:
        raise InvalidInputError(
            "content", f"has {size:,} bytes with its extra; the limit is {limit:,}", limit
        )
    if message.created_at is not None:
        check_moment("created_at", message.created_at)
    if not was_json and (said := circumstances(message)) != NO_CIRCUMSTANCES:
        check_circumstances(said)
    if message.attachments != ():
        size += check_attachments(message.attachments)
    return size


def check_circumstances(said: tuple[Any, ...]) -> None:
    """Raise `InvalidInputError` unless a message may have these, which are in their order."""
    for value in said:  # nearly always they are short texts, and not to be named
        if value is None:
            continue
        if (
            type(value) is not str
            or not 0 < len(value) <= MAX_ATTRIBUTE_CHARS
            or not value.isprintable()
        ):
            for name, each in zip(CIRCUMSTANCES, said, strict=True):
                if each is not None:
                    check_circumstance(name, each)
            break
    if said[0] is None and said[1] is not None:  # the first two
        raise InvalidInputError("author_name", "needs an author, the platform's id of that person")


def check_circumstance(name: str, value: object) -> None:
    """Raise `InvalidInputError` unless the field of that name may hold `value`."""
    if name != "tokens":
        check_text(name, value, MAX_ATTRIBUTE_CHARS)
    elif type(value) is not int or not 0 <= value <= MAX_TOKENS:
        raise InvalidInputError(name, f"must be a whole number from 0 to {MAX_TOKENS:,}")


def _extra_size(extra: object, was_json: bool) -> int:
    if not isinstance(extra, dict):
        raise InvalidInputError(
            "extra", f"must be a JSON object (dict), not {type(extra).__name__}"
        )
    return check_json("extra", extra, was_json=was_json)


def check_json(name: str, value: object, *, was_json: bool) -> int:
    """The size of `value` in JSON, in bytes, if JSON can hold it unchanged."""
    try:
        # Inside as many objects as will ever be around it: JSON may be 254 deep.
        encoded = orjson.dumps([[[[[[[[value]]]]]]]], option=_STRICT_JSON)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(name, f"is not JSON: {error}") from None
    # NaN becomes null and a tuple a list; what would not come back equal is refused instead.
    if not was_json and orjson.loads(encoded) != [[[[[[[[value]]]]]]]]:
        raise InvalidInputError(
            name, "would not come back unchanged: it holds NaN, infinity, or a type JSON lacks"
        )
    return len(encoded) - 2 * 8  # of what is around it
