"""What a fork has besides messages, and what refuses one: what both stores decide alike."""

from __future__ import annotations

from typing import Any, Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.forks import Fork
from backscroll.contract.messages import SessionInfo
from backscroll.contract.operations import (
    Append,
    Backfill,
    Describe,
    Erase,
    Operation,
    RenameAgent,
)
from backscroll.contract.splicing import Splice
from backscroll.contract.states import SetState
from backscroll.contract.turns import EndTurn

MOST_AT_ONCE: Final = 1_000
"""Messages that a group copies itself, in some 30 ms; more are copied in slices."""

SLICE_SECONDS: Final = 0.0025
"""Of copying: less than of maintenance, as forks are made all day."""

_KEYS: Final = ("key", "new_key", "into")
"""The fields of operations that name a session."""

_SPARING: Final = (Append, Describe, SetState, Fork, RenameAgent, Erase)

_TAKEN: Final = ("name", "agent", "channel", "room", "sender", "meta", "ttl_hours")
_UNSET: Final[tuple[Any, ...]] = (None, {})


def attributes_of_fork(
    source: SessionInfo, upto: str | None, there: SessionInfo | None
) -> dict[str, Any]:
    """The attributes to set in a fork; a session that was `there` without messages keeps its own.

    It is idle and not pinned, whatever its source is.
    """
    lacking = (name for name in _TAKEN if getattr(there, name, None) in _UNSET)
    found = {name: getattr(source, name) for name in lacking}
    set_ones = {name: value for name, value in found.items() if value not in _UNSET}
    return {**set_ones, "forked_from": source.key, "forked_upto": upto}


def sessions_of(operation: Operation) -> set[str]:
    """The keys of all sessions that an operation is about."""
    return {getattr(operation, name) for name in _KEYS if getattr(operation, name, None)}


def spares_messages(operation: Operation) -> bool:
    """Whether it leaves what a session has as it is; an erasure does not, but not at once."""
    if isinstance(operation, EndTurn | Splice):
        return not operation.remove
    return isinstance(operation, _SPARING) and not isinstance(operation, Backfill)


def unknown_session(operation: Fork) -> OperationRefusedError:
    """The error of a fork of what is not there."""
    return OperationRefusedError(f"there is no session {operation.key!r} to fork")


def unknown_message(operation: Fork) -> OperationRefusedError:
    """The error of a fork up to a message that the session does not have."""
    named = operation.upto or operation.upto_platform_id
    return OperationRefusedError(
        f"the session {operation.key!r} has no message {named!r} up to which to fork it"
    )
