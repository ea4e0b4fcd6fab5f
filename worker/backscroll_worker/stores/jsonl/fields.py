"""How a JSON object of any program becomes a message.

It has `role` and `content`. Its time is the first readable one of `created_at`, `timestamp` and
`ts`. All other fields are kept in `extra` under their names, also a content that is not text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.attachment_checks import check_attachments, read_attachments
from backscroll.contract.attachments import Attachment
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.message_checks import MAX_ROLE_CHARS, check_circumstance
from backscroll.contract.messages import (
    CIRCUMSTANCES,
    LATEST_MICROS,
    MAX_ATTRIBUTE_CHARS,
    NO_CIRCUMSTANCES,
    check_text,
    to_micros,
)

UNKNOWN_ROLE: Final = "unknown"
TIMES: Final = ("created_at", "timestamp", "ts")

_OUR_FIELDS: Final = frozenset(
    ("role", "content", "extra", "created_at", "attachments", *CIRCUMSTANCES)
)
OURS: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
"""The op ids and message ids that Backscroll makes."""
_1990: Final = 631_152_000_000_000
_MAX_TIME_CHARS: Final = 64
_FROM_1973: Final = 100_000_000  # in seconds; a smaller number is hardly a time


class ParsedFields(NamedTuple):
    """The message in an object, with its own id and time if it has them.

    `created_at` is in microseconds since 1970 UTC.
    """

    role: str
    content: str
    extra: dict[str, Any] | None
    message_id: str | None
    created_at: int | None
    circumstances: tuple[Any, ...] = NO_CIRCUMSTANCES
    attachments: tuple[Attachment, ...] = ()


def is_message(fields: Mapping[str, Any]) -> bool:
    """Whether an object is a message: it has a content, or a role and another field."""
    if fields.get("content") is not None:
        return True
    return isinstance(fields.get("role"), str) and len(fields) > 1


def read_fields(fields: Mapping[str, Any], skipped: tuple[str, ...] = ()) -> ParsedFields | None:
    """The message in an object; None if it is not one. `skipped` fields are ignored."""
    if not is_message(fields):
        return None
    left = {name: value for name, value in fields.items() if name not in skipped}
    message_id = _take_id(left)
    created_at = _take_time(left, message_id)
    role, content = _take_role(left), _take_content(left)
    others = _take_circumstances(left), _take_attachments(left)
    return ParsedFields(role, content, _extra(left), message_id, created_at, *others)


def text_of(content: object) -> str:
    """The text in a content that is not text itself, such as a list of parts."""
    parts = content if isinstance(content, list) else [content]
    return "\n".join(text for part in parts if (text := _text_of_part(part)))


def read_time(value: object) -> int | None:
    """A time in ISO 8601, or a number, in microseconds since 1970 UTC; None for other values.

    Whether a number is in seconds, milliseconds, microseconds or nanoseconds follows from its size.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()[:_MAX_TIME_CHARS]
    try:
        number = Decimal(text)
    except InvalidOperation:
        return _read_iso(text)
    if not number.is_finite() or number < _FROM_1973 or number >= 10**19:
        return None
    for limit, factor in ((10**11, 10**6), (10**14, 10**3), (10**17, 1)):
        if number < limit:
            return _in_range(int(number * factor))
    return _in_range(int(number / 1000))


def _read_iso(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
        return _in_range(to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))
    except (ValueError, OverflowError):
        return None


def _in_range(micros: int) -> int | None:
    return micros if 0 <= micros < LATEST_MICROS else None


def _take_id(left: dict[str, Any]) -> str | None:
    value = left.get("message_id")
    try:
        message_id = check_text("message_id", value, MAX_ATTRIBUTE_CHARS)
    except InvalidInputError:
        return None
    del left["message_id"]
    return message_id


def _take_time(left: dict[str, Any], message_id: str | None) -> int | None:
    """The object's time. One that Backscroll wrote is in microseconds, whatever its size."""
    own, moment = left.get("created_at"), None
    if message_id is not None and type(own) is int and _is_micros(own, message_id, left):
        moment = int(left.pop("created_at"))
    for name in TIMES:
        time = read_time(left.get(name))
        if time is not None and moment in (None, time):  # a different one stays, for `extra`
            del left[name]
            moment = time
    return moment


def _is_micros(value: int, message_id: str, left: Mapping[str, Any]) -> bool:
    """Whether a time beside that id is in microseconds, and not in another unit."""
    is_ours = left.keys() <= _OUR_FIELDS or OURS.fullmatch(message_id) is not None
    return (is_ours or value >= _1990 or value < _FROM_1973) and 0 <= value < LATEST_MICROS


def _take_role(left: dict[str, Any]) -> str:
    value = left.get("role")
    if value is None:
        left.pop("role", None)
        return UNKNOWN_ROLE
    try:
        role = check_text("role", value, MAX_ROLE_CHARS)
    except InvalidInputError:  # it stays, for `extra`
        return UNKNOWN_ROLE
    del left["role"]
    return role


def _take_content(left: dict[str, Any]) -> str:
    content = left.get("content")
    if content is None or isinstance(content, str):
        left.pop("content", None)
        return content or ""
    return text_of(content)  # the value itself stays, for `extra`


def _take_circumstances(left: dict[str, Any]) -> tuple[Any, ...]:
    """Author, platform's id and so on, as far as each could be one; the rest stays for `extra`."""
    if left.keys().isdisjoint(CIRCUMSTANCES):
        return NO_CIRCUMSTANCES
    values: list[Any] = []
    for name in CIRCUMSTANCES:
        is_nameless = name == "author_name" and values[0] is None
        value = None
        if not is_nameless and left.get(name) is not None:
            with suppress(InvalidInputError):
                check_circumstance(name, left[name])
                value = left.pop(name)
        values.append(value)
    return tuple(values)


def _take_attachments(left: dict[str, Any]) -> tuple[Attachment, ...]:
    """What is attached, if this store or one like it wrote that; else it stays for `extra`."""
    if left.get("attachments"):
        with suppress(InvalidInputError):
            found = read_attachments("attachments", left["attachments"])
            check_attachments(found)
            if all(each.data is None for each in found):
                del left["attachments"]
                return found
    return ()


def _extra(left: dict[str, Any]) -> dict[str, Any] | None:
    """`extra` with the unknown fields; one whose name is taken gets another name."""
    own = left.get("extra")
    if not isinstance(own, dict):
        if own is None:
            left.pop("extra", None)
        return left or None
    del left["extra"]
    extra = dict(own)
    for name, value in left.items():
        free = name
        while free in extra and extra[free] != value:
            free += "_"
        extra[free] = value
    return extra


def _text_of_part(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, dict):
        text = part.get("text")
        return text if isinstance(text, str) else ""
    return "" if part is None or isinstance(part, list) else orjson.dumps(part).decode()
