"""State that an adapter keeps with a session, besides its messages: JSON documents by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.forms import Form
from backscroll.contract.message_checks import check_json
from backscroll.contract.operations import Read, Write, operation
from backscroll.contract.validation import MAX_LOAD, shown

DEFAULT_STATE: Final = "default"
MAX_STATE_BYTES: Final = 64 * 1024
MAX_STATES: Final = 32
"""How many names a session may have, those whose value is deleted included."""


@dataclass(frozen=True, slots=True)
class SessionState:
    """One document of a session. `version` counts its changes: 0 if there was never one.

    A value of None is deleted, and counts as one more change, so that whoever still has an earlier
    version is noticed.
    """

    value: Any = None
    version: int = 0


NO_STATE: Final = SessionState()


def check_state(value: Any, *, was_json: bool = False) -> Any:
    """`value` if JSON can hold it unchanged, in at most 64 KiB."""
    size = check_json("value", value, was_json=was_json)
    if size > MAX_STATE_BYTES:
        problem = f"has {size:,} bytes of JSON; the limit is {MAX_STATE_BYTES:,}"
        raise InvalidInputError("value", problem, MAX_STATE_BYTES)
    return value


def check_version(name: str, value: object) -> int:
    """`value` if it is a whole number from 0."""
    if type(value) is not int or not 0 <= value < MAX_LOAD:
        raise InvalidInputError(name, f"must be a whole number from 0, not {shown(value)}")
    return value


_DOCUMENT: Final = Form(
    lambda _name, value, _limits: check_state(value),
    lambda _name, value: check_state(value, was_json=True),
)
_VERSION: Final = Form(lambda name, value, _limits: check_version(name, value), check_version)


@operation
class SetState(Write):
    """Set a session's state of that name, or delete it (None); creates the session.

    With `expect` only if that is its version, or 0 and there is none; otherwise it is a conflict.
    The outcome's `affected` is the state's version.
    """

    kind = "set_state"
    key: str
    value: Annotated[Any, _DOCUMENT] = None
    name: str = DEFAULT_STATE
    expect: Annotated[int, _VERSION] | None = None


@operation
class GetStates(Read):
    """The states of a session, by name, or only the one named."""

    kind = "states"
    key: str
    name: str | None = None
