"""How a JSON object becomes a message, whoever wrote it: the one place that says so.

`role` and `content` are what is said. A time is taken from `created_at`, `timestamp` or `ts`,
whichever can be read first. Whatever else an object has is kept in `extra`: unknown fields under
their names, and what was not text as it was. Nothing is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

import orjson

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

_OUR_FIELDS: Final = frozenset(("role", "content", "extra", "created_at", *CIRCUMSTANCES))
OURS: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
"""Of ids that this program makes."""
_1990: Final = 631_152_000_000_000
_TIME_CHARS: Final = 64
_FROM_1973: Final = 100_000_000  # in seconds; what is smaller is hardly a time


class Told(NamedTuple):
    """What an object says: a message, with the id and the time that it has itself.

    `created_at` is in microseconds since 1970 UTC.
    """

    role: str
    content: str
    extra: dict[str, Any] | None
    message_id: str | None
    created_at: int | None
    circumstances: tuple[Any, ...] = NO_CIRCUMSTANCES


def is_message(fields: Mapping[str, Any]) -> bool:
    """Whether an object says something: it has a content, or a role and more than that."""
    if fields.get("content") is not None:
        return True
    return isinstance(fields.get("role"), str) and len(fields) > 1


def read_fields(fields: Mapping[str, Any], ours: tuple[str, ...] = ()) -> Told | None:
    """The message in an object, or None when it says nothing. `ours` are fields to pass over."""
    if not is_message(fields):
        return None
    left = {name: value for name, value in fields.items() if name not in ours}
    message_id = _take_id(left)
    created_at = _take_time(left, message_id)
    role, content = _take_role(left), _take_content(left)
    circumstances = _take_circumstances(left)
    return Told(role, content, _extra(left), message_id, created_at, circumstances)


def text_of(content: object) -> str:
    """The text of a content that is none itself, as of a list of parts."""
    parts = content if isinstance(content, list) else [content]
    return "\n".join(text for part in parts if (text := _text_of_part(part)))


def read_time(value: object) -> int | None:
    """Microseconds since 1970 UTC of a time in ISO 8601, or a number; None when it is neither.

    A number is in seconds, milliseconds, microseconds or nanoseconds, as its size tells.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()[:_TIME_CHARS]
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
    """Ours is in microseconds, whatever its size; it stands beside an id, and nothing unknown."""
    own, moment = left.get("created_at"), None
    if message_id is not None and type(own) is int and _is_micros(own, message_id, left):
        moment = int(left.pop("created_at"))
    for name in TIMES:
        told = read_time(left.get(name))
        if told is not None and moment in (None, told):  # what says the same says nothing more
            del left[name]
            moment = told
    return moment


def _is_micros(value: int, message_id: str, left: Mapping[str, Any]) -> bool:
    """Whether a time beside that id is in microseconds, as ours are, and not in another unit."""
    is_ours = left.keys() <= _OUR_FIELDS or OURS.fullmatch(message_id) is not None
    return (is_ours or value >= _1990 or value < _FROM_1973) and 0 <= value < LATEST_MICROS


def _take_role(left: dict[str, Any]) -> str:
    value = left.get("role")
    if value is None:
        left.pop("role", None)
        return UNKNOWN_ROLE
    try:
        role = check_text("role", value, MAX_ROLE_CHARS)
    except InvalidInputError:  # it stays where it is, for `extra`
        return UNKNOWN_ROLE
    del left["role"]
    return role


def _take_content(left: dict[str, Any]) -> str:
    content = left.get("content")
    if content is None or isinstance(content, str):
        left.pop("content", None)
        return content or ""
    return text_of(content)  # what it was stays, for `extra`


def _take_circumstances(left: dict[str, Any]) -> tuple[Any, ...]:
    """Author, platform's id and so on, as far as each could be one; the rest stays for `extra`."""
    if left.keys().isdisjoint(CIRCUMSTANCES):
        return NO_CIRCUMSTANCES
    values: list[Any] = []
    for name in CIRCUMSTANCES:
        try:
            check_circumstance(name, left.get(name))
        except InvalidInputError:
            values.append(None)
        else:
            is_nameless = name == "author_name" and values[0] is None
            values.append(None if is_nameless else left.pop(name, None))
    return tuple(values)


def _extra(left: dict[str, Any]) -> dict[str, Any] | None:
    """`extra` with the unknown fields; where both have a name, the field gets another one."""
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
