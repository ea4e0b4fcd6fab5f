"""The writes that are not jobs: whole sessions from elsewhere, and sessions from the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import (
    MAX_KEY_CHARS,
    ChatMessage,
    SessionAttributes,
    SessionInfo,
    check_text,
    to_micros,
)
from backscroll.contract.operations import Write
from backscroll.contract.validation import ATTRIBUTES, ORIGINS, check_attributes
from backscroll_worker.contract.clock import no_later
from backscroll_worker.contract.states import States


@dataclass(frozen=True, slots=True)
class ImportSession(Write):
    """Take over a whole session with its own times, in microseconds since 1970 UTC.

    Times of the future become now, but not the end of a lease: of it what is left counts. Every
    message has its id and time, and its earlier versions. The
    attributes are stored as they are, without the effects of a state in `describe`. Refused when
    the store has messages of that session already. Only migration and import make it, which run as
    the store's one writer.
    """

    kind = "import_session"
    key: str
    messages: tuple[ChatMessage, ...]
    attributes: SessionAttributes
    created_at: int
    last_activity: int
    turn_started_at: int | None = None
    states: States = field(default_factory=dict)
    turn_expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class RestoreSession(Write):
    """Put a session's messages from the archive before those that it has by now.

    Messages that the store has already, in this session or in `source`, where they come from, are
    skipped; the outcome counts the others. A new session gets what `info` and `states` say, and is
    not created if all its messages are elsewhere in the store; an existing one keeps its
    attributes, states and last activity. With `info.pinned` it is pinned in any case. Only
    `maintenance.restore` makes it.
    """

    kind = "restore_session"
    key: str
    source: str
    info: SessionInfo
    messages: tuple[ChatMessage, ...]
    states: States = field(default_factory=dict)


def has_another_history(key: str) -> OperationRefusedError:
    """The error about importing a session that has messages in the store."""
    return OperationRefusedError(f"the store has a session {key!r} with another history already")


TurnTimes = tuple[int | None, int | None]
"""When a session's turn began, and when its lease expires."""


def turn_times_of(info: SessionInfo) -> TurnTimes:
    """The times of the turn in `info`, in microseconds."""
    started, expires_at = info.turn_started_at, info.turn_expires_at
    return (
        None if started is None else to_micros(started),
        None if expires_at is None else to_micros(expires_at),
    )


def known_attributes(info: SessionInfo) -> dict[str, Any]:
    """The attributes that are set in `info`."""
    found = {name: getattr(info, name) for name in (*ATTRIBUTES, *ORIGINS)}
    return {name: value for name, value in found.items() if value not in (None, {})}


def turn_times(attributes: SessionAttributes, times: TurnTimes, now: int) -> dict[str, int | None]:
    """The times of the turn of a session with these attributes, by their names in a store.

    A turn without a lease would never end where the one who began it is gone, so the end of the
    lease is taken over as it is, and what is left of it counts from now on.
    """
    started, expires_at = times
    if attributes.get("state") != "running":
        expires_at = None
    return {
        "turn_started_at": no_later(started, now),
        "turn_expires_at": expires_at,
        "turn_lease": None if expires_at is None else max(0, expires_at - now),
    }


def check_known(attributes: Mapping[str, Any]) -> None:
    """Raise `InvalidInputError` for attributes that no session has."""
    described = {name: value for name, value in attributes.items() if name not in ORIGINS}
    if described:
        check_attributes(described)
    for name in ORIGINS:
        if (value := attributes.get(name)) is not None:
            check_text(name, value, MAX_KEY_CHARS)
