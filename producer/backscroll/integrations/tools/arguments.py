"""What a model gives a tool: the arguments that there are, their JSON schema, and their checks.

A model may give anything. What does not fit is refused with a text that says what would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    MAX_KEY_CHARS,
    check_moment,
    check_text,
)
from backscroll.contract.validation import MAX_QUERY_CHARS, check_limit, check_query, shown
from backscroll.integrations.tools.scope import Scope

Schema = dict[str, Any]

_MAX_CURSOR_CHARS: Final = 1_000


class ToolCallError(Exception):
    """A tool cannot do what a model asked; the text says why, in words for the model."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: what it may be, and which field of a scope decides it instead."""

    name: str
    schema: Schema
    read: Callable[[str, Any], Any]
    fixed_by: str | None = None
    is_required: bool = False

    def required(self) -> Argument:
        """The same, not to be left out."""
        return replace(self, is_required=True)

    def is_open(self, scope: Scope) -> bool:
        """Whether a model may give it."""
        return self.fixed_by is None or getattr(scope, self.fixed_by) is None


def parameters(arguments: Sequence[Argument]) -> Schema:
    """The JSON schema of a tool with these arguments."""
    return {
        "type": "object",
        "properties": {each.name: each.schema for each in arguments},
        "required": [each.name for each in arguments if each.is_required],
        "additionalProperties": False,
    }


def read_arguments(
    arguments: Sequence[Argument], fixed: Sequence[str], given: object
) -> dict[str, Any]:
    """The values by name, without those that are null; a text is taken as JSON.

    `fixed` are arguments that the scope decides. Raises `ToolCallError`.
    """
    values = dict(_object(given))
    try:
        read = {
            each.name: each.read(each.name, value)
            for each in arguments
            if (value := values.pop(each.name, None)) is not None
        }
    except InvalidInputError as error:
        raise ToolCallError(str(error)) from None
    for name in values:
        if name in fixed:
            raise ToolCallError(f"{name}: is fixed here and cannot be given; leave it out")
        known = ", ".join(each.name for each in arguments)
        raise ToolCallError(f"{shown(name)} is not an argument; there are {known}")
    for each in arguments:
        if each.is_required and each.name not in read:
            raise ToolCallError(f"{each.name}: is missing")
    return read


def _object(given: object) -> Mapping[Any, Any]:
    if isinstance(given, str | bytes):
        try:
            given = orjson.loads(given or b"{}")
        except ValueError:
            raise ToolCallError("the arguments are not valid JSON") from None
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ToolCallError(f"the arguments must be an object, not {shown(given)}")
    return given


def _text(most_chars: int = MAX_ATTRIBUTE_CHARS) -> Callable[[str, Any], str]:
    return partial(check_text, max_chars=most_chars)


def _moment(name: str, value: Any) -> datetime:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
            return check_moment(name, moment if moment.tzinfo else moment.replace(tzinfo=UTC))
        except (ValueError, OverflowError):  # which an InvalidInputError is, too
            pass
    problem = f"{shown(value)} is not a time; write 2026-01-31 or 2026-01-31T18:00:00Z"
    raise InvalidInputError(name, problem)


def _string(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def limit(noun: str, usual: int, most: int) -> Argument:
    """How many results there may be."""
    schema = {
        "type": "integer",
        "description": f"Maximum number of {noun}.",
        "minimum": 1,
        "maximum": most,
        "default": usual,
    }
    return Argument("limit", schema, lambda name, value: check_limit(value, most, name))


def moment(name: str, description: str) -> Argument:
    """A point in time."""
    how = "ISO 8601, in UTC unless it says otherwise: 2026-01-31 or 2026-01-31T18:00:00Z."
    return Argument(name, _string(f"{description} {how}"), _moment)


def message(name: str, description: str, fixed_by: str | None = None) -> Argument:
    """A message, by its id."""
    return Argument(name, _string(f"{description} A message id."), _text(), fixed_by)


QUERY: Final = Argument(
    "query",
    _string(
        "Words that must all occur in a message, in any order and of any case. "
        '"several words" in quotes is a phrase, word* a prefix, this OR that either of both, '
        "-word must not occur. Empty, with another argument: the newest messages that fit it.",
        maxLength=MAX_QUERY_CHARS,
    ),
    lambda _name, value: check_query(value),
)
SESSION: Final = Argument(
    "session",
    _string("A session, by its key as answers show it."),
    _text(MAX_KEY_CHARS),
    fixed_by="key",
)
AUTHOR: Final = Argument(
    "author",
    _string("Only what this author said: an id, as answers show it in brackets."),
    _text(),
    fixed_by="author",
)
CHANNEL: Final = Argument(
    "channel",
    _string("Only sessions of this channel, for example telegram."),
    _text(),
    fixed_by="channel",
)
ROLE: Final = Argument(
    "role", _string("Only messages of this role: user, assistant, system or tool."), _text()
)
NAME: Final = Argument(
    "name", _string("Words of the session's name; the last may be unfinished."), _text()
)
CURSOR: Final = Argument(
    "cursor",
    _string("For the next page: the cursor that the page before ends with. The rest as then."),
    _text(_MAX_CURSOR_CHARS),
)
