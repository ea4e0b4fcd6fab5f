"""Reads an operation's arguments: from a job, which may hold anything, or from a caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import (
    LATEST_MICROS,
    MAX_ATTRIBUTE_CHARS,
    MAX_KEY_CHARS,
    STATES,
    ChatMessage,
    SessionAttributes,
    SessionFilter,
    check_key,
    check_text,
    from_micros,
    to_micros,
)

Arguments = dict[str, Any]

MAX_PAGE: Final = 1_000
MAX_LOAD: Final = 2**62  # more than there are; SQLite counts in 64 bits
MAX_QUERY_CHARS: Final = 1_000
_NO_MICROS: Final = "must be microseconds from 1970 to the year 9999"

TEXT_ATTRIBUTES: Final = ("name", "agent", "channel", "room", "sender", "turn_id")
ATTRIBUTES: Final = (*TEXT_ATTRIBUTES, "state", "pinned")
SUBJECTS: Final = ("key", "sender", "room")


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
        if type(value) is kind:  # exactly, as a bool is an int in Python but not in JSON
            return value
        if value is not None:
            raise InvalidInputError(
                name, f"must be of type {kind.__name__}, not {type(value).__name__}"
            )
        if not default:
            raise InvalidInputError(name, "is missing")
        return default[0]

    def key(self) -> str:
        value = self._values.pop("key", None)
        if value is None:
            raise InvalidInputError("key", "is missing")
        return check_key(value)

    def at(self) -> int:
        value = self._values.pop("at", None)
        if type(value) is int and 0 <= value < LATEST_MICROS:
            return value
        if value is None:
            raise InvalidInputError("at", "is missing")
        raise InvalidInputError("at", _NO_MICROS)

    def micros(self, name: str) -> int | None:
        value: int | None = self.take(name, int, None)
        if value is not None and not 0 <= value < LATEST_MICROS:
            raise InvalidInputError(name, _NO_MICROS)
        return value

    def text(self, name: str) -> str | None:
        value = self._values.pop(name, None)
        return None if value is None else check_text(name, value, MAX_ATTRIBUTE_CHARS)

    def positive(self, name: str, most: int | None) -> int | None:
        value = self._values.pop(name, None)
        return None if value is None else check_limit(value, most)

    def number(self, name: str) -> float | None:
        value = self._values.pop(name, None)
        return None if value is None else check_number(name, value)

    def flag(self, name: str, default: Any = False) -> Any:
        return self.take(name, bool, default)


def check_attributes(attributes: Mapping[str, object]) -> SessionAttributes:
    """`attributes` if each is one a session has and its value fits."""
    if not attributes:
        raise InvalidInputError("attributes", "give at least one")
    checked: dict[str, str | bool | None] = {}
    for name, value in attributes.items():
        if name in TEXT_ATTRIBUTES:
            checked[name] = None if value is None else check_text(name, value, MAX_ATTRIBUTE_CHARS)
        elif (name == "state" and isinstance(value, str) and value in STATES) or (
            name == "pinned" and isinstance(value, bool)
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
        raise InvalidInputError("erase", "name either a session key, a sender or a room")
    ((name, value),) = named.items()
    most_chars = MAX_KEY_CHARS if name == "key" else MAX_ATTRIBUTE_CHARS
    return {**dict.fromkeys(SUBJECTS), name: check_text(name, value, most_chars)}


def check_limit(limit: object, most: int | None) -> int:
    """`limit` if it is a whole number from 1 to `most`."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise InvalidInputError("limit", f"must be a whole number from 1, not {shown(limit)}")
    if most is not None and limit > most:
        raise InvalidInputError("limit", f"must be at most {most:,}, not {shown(limit)}", most)
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


def check_place(before: str | None, around: str | None) -> None:
    """A history is read before a message or around one."""
    if before is not None and around is not None:
        raise InvalidInputError("around", "cannot be given together with before")


def parse_session_filter(fields: Arguments) -> SessionFilter:
    """A filter from its JSON form, where times are microseconds."""
    reader = ArgumentReader(dict(fields))
    state = reader.text("state")
    if state is not None and state not in STATES:
        raise InvalidInputError("state", f"must be one of {', '.join(STATES)}, not {state[:40]!r}")
    since, until = reader.micros("active_since"), reader.micros("active_until")
    where = SessionFilter(
        agent=reader.text("agent"),
        channel=reader.text("channel"),
        room=reader.text("room"),
        sender=reader.text("sender"),
        state=state,  # checked above
        pinned=reader.flag("pinned", None),
        stuck_seconds=reader.number("stuck_seconds"),
        name=reader.text("name"),
        active_since=None if since is None else from_micros(since),
        active_until=None if until is None else from_micros(until),
    )
    reader.nothing_left("filter")
    return where


def parse_search_filter(fields: Arguments) -> SearchFilter:
    """A filter from its JSON form, where times are microseconds."""
    reader = ArgumentReader(fields)
    key = reader.take("key", str, None)
    since, until = reader.micros("since"), reader.micros("until")
    where = SearchFilter(
        key=None if key is None else check_key(key),
        role=reader.text("role"),
        channel=reader.text("channel"),
        sender=reader.text("sender"),
        room=reader.text("room"),
        agent=reader.text("agent"),
        since=None if since is None else from_micros(since),
        until=None if until is None else from_micros(until),
    )
    reader.nothing_left("filter")
    return where


def filter_fields(where: SessionFilter | SearchFilter) -> Arguments:
    """The JSON form of a filter, which the `parse_…_filter` functions read."""
    return {
        field.name: to_micros(value) if isinstance(value, datetime) else value
        for field in fields(where)
        if (value := getattr(where, field.name)) is not None
    }


def message_fields(message: ChatMessage) -> Arguments:
    """The JSON form of a message, which `parse_message` reads."""
    values: Arguments = {"role": message.role, "content": message.content}
    if message.extra is not None:
        values["extra"] = message.extra
    if message.created_at is not None:
        values["created_at"] = to_micros(message.created_at)
    return values


def parse_message(fields: object) -> ChatMessage:
    """A message from its JSON form, where times are microseconds."""
    if not isinstance(fields, dict):
        raise InvalidInputError("messages", "each must be an object with role and content")
    role, content = fields.get("role"), fields.get("content")
    if len(fields) == 2 and type(role) is str and type(content) is str:  # nearly all of them
        return ChatMessage(role, content)
    reader = ArgumentReader(fields)
    created_at = reader.micros("created_at")
    message = ChatMessage(
        reader.take("role", str),
        reader.take("content", str),
        reader.take("extra", dict, None),
        created_at=None if created_at is None else from_micros(created_at),
    )
    reader.nothing_left("messages")
    return message
