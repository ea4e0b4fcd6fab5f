"""Checks of single values, which come from a caller, a job or a file.

Each returns the value, if it fits, and raises `InvalidInputError` otherwise, which names the field
and the limit that it broke.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    LATEST_MICROS,
    MAX_ATTRIBUTE_CHARS,
    MAX_KEY_CHARS,
    STATES,
    Meta,
    SessionAttributes,
    check_key,
    check_text,
)
from backscroll.contract.meta import check_meta

Arguments = dict[str, Any]

MAX_PAGE: Final = 1_000
MAX_LOAD: Final = 2**62  # more than there are; SQLite counts in 64 bits
MAX_QUERY_CHARS: Final = 1_000

TEXT_ATTRIBUTES: Final = ("name", "agent", "channel", "room", "sender", "turn_id")
FLAGS: Final = ("pinned", "closed")
ATTRIBUTES: Final = (*TEXT_ATTRIBUTES, "state", *FLAGS, "meta", "ttl_hours")
FORKED: Final = ("forked_from", "forked_upto")
"""What says of which session another one is a fork; nobody sets it."""
ORIGINS: Final = (*FORKED, "continued_from")
"""What says from which session another one comes; nobody sets it."""
OF_SESSIONS: Final = ("key", "sender", "room")
SUBJECTS: Final = (*OF_SESSIONS, "author")
"""What can be erased: a session, all of a sender or a room, or what one author said anywhere."""


def shown(value: object) -> str:
    """`value` as an error may show it: short, and nothing that could be nested without end."""
    simple = value is None or isinstance(value, str | int | float)
    return repr(value)[:60] if simple else type(value).__name__


class ArgumentReader:
    """Takes arguments out of a mapping one by one and checks their types."""

    __slots__ = ("_values",)

    def __init__(self, values: Arguments) -> None:
        self._values = values

    def nothing_left(self, where: str) -> None:
        if self._values:
            raise InvalidInputError(where, f"unknown field {str(next(iter(self._values)))[:40]!r}")

    def take(self, name: str, kind: type, *default: Any) -> Any:
        value = self._values.pop(name, None)
        if value is not None:
            return of_type(kind, name, value)
        if not default:
            raise InvalidInputError(name, "is missing")
        return default[0]

    def key(self) -> str:
        value = self._values.pop("key", None)
        if value is None:
            raise InvalidInputError("key", "is missing")
        return check_key(value)

    def micros(self, name: str) -> int | None:
        value = self._values.pop(name, None)
        return None if value is None else check_micros(name, value)


def of_type(kind: type, name: str, value: Any) -> Any:
    """`value` if it is exactly of that type, as a bool is an int in Python but not in JSON."""
    if type(value) is not kind:
        problem = f"must be of type {kind.__name__}, not {type(value).__name__}"
        raise InvalidInputError(name, problem)
    return value


def check_micros(name: str, value: Any) -> int:
    """`value` if it is a time in microseconds since 1970 UTC, before the year 10000."""
    if type(value) is int and 0 <= value < LATEST_MICROS:
        return value
    raise InvalidInputError(name, "must be microseconds from 1970 to the year 9999")


def check_attributes(attributes: Mapping[str, object]) -> SessionAttributes:
    """`attributes` if each is one a session has and its value fits."""
    if not attributes:
        raise InvalidInputError("attributes", "give at least one")
    checked: dict[str, str | bool | float | Meta | None] = {}
    for name, value in attributes.items():
        if name in TEXT_ATTRIBUTES:
            checked[name] = None if value is None else check_text(name, value, MAX_ATTRIBUTE_CHARS)
        elif name == "meta":
            checked[name] = None if value is None else check_meta(value)
        elif name == "ttl_hours":
            checked[name] = None if value is None else check_number(name, value)
        elif (name == "state" and isinstance(value, str) and value in STATES) or (
            name in FLAGS and isinstance(value, bool)
        ):
            checked[name] = value
        elif name in ATTRIBUTES:
            allowed = "one of " + ", ".join(STATES) if name == "state" else "true or false"
            raise InvalidInputError(name, f"must be {allowed}, not {shown(value)}")
        else:
            raise InvalidInputError("attributes", f"a session has no {shown(name)}")
    return checked


def check_query(query: object) -> str:
    """`query` if it can be searched for; any text can, up to a length."""
    if not isinstance(query, str):
        raise InvalidInputError("query", f"must be text, not {type(query).__name__}")
    if len(query) > MAX_QUERY_CHARS:
        raise InvalidInputError(
            "query",
            f"has {len(query):,} characters; the limit is {MAX_QUERY_CHARS}",
            MAX_QUERY_CHARS,
        )
    return query.encode(errors="replace").decode()


def check_subject(given: Mapping[str, object]) -> dict[str, str | None]:
    """What to erase, by the names in `SUBJECTS`, if exactly one of them is given."""
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise InvalidInputError("erase", "name either a session key, a sender, a room or an author")
    ((name, value),) = named.items()
    most_chars = MAX_KEY_CHARS if name == "key" else MAX_ATTRIBUTE_CHARS
    return {**dict.fromkeys(SUBJECTS), name: check_text(name, value, most_chars)}


def check_limit(limit: object, most: int | None, name: str = "limit") -> int:
    """`limit` if it is a whole number from 1 to `most`."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidInputError(name, f"must be a whole number from 1, not {shown(limit)}")
    if most is not None and limit > most:
        raise InvalidInputError(name, f"must be at most {most:,}, not {shown(limit)}", most)
    return limit


def check_number(name: str, value: object, least: float = 0) -> float:
    """`value` if it is a number from `least` to a billion."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e9:
        raise InvalidInputError(name, f"must be a number from {least:g} to 1e9, not {shown(value)}")
    return float(value)


def check_flag(name: str, value: object) -> bool:
    """`value` if it is true or false."""
    if not isinstance(value, bool):
        raise InvalidInputError(name, f"must be true or false, not {shown(value)}")
    return value


def check_apart(operation: object, name: str, others: Sequence[str]) -> None:
    """Where that field is given, none of the others may be."""
    if getattr(operation, name):
        for other in others:
            if getattr(operation, other):
                raise InvalidInputError(name, f"cannot be given together with {other}")


def check_one(operation: object, names: Sequence[str]) -> None:
    """Of these fields, which say which message is meant, at most one may be given."""
    given = [name for name in names if getattr(operation, name) is not None]
    if len(given) > 1:
        raise InvalidInputError(given[1], f"cannot be given together with {given[0]}")
