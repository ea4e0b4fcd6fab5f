"""Turns and conditions: what both stores decide alike.

A turn runs under an id until it ends, another one supersedes it, or its lease expires and another
one begins. What a superseded turn still sends is a conflict: recorded under its op id, and so
refused again when it is resent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final, NamedTuple

from backscroll.contract.operations import Append, Replace
from backscroll.contract.results import Outcome
from backscroll.contract.turns import BeginTurn

CONFLICT: Final = -1
"""In the record of an applied operation, in the place of how much it touched."""


class Turn(NamedTuple):
    """The turn of a session, if its `state` is "running"; times are microseconds of the store.

    Without a lease (it was begun by `describe`) it does not expire.
    """

    state: str | None
    turn_id: str | None
    expires_at: int | None
    lease: int | None

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def is_free(self, now: int) -> bool:
        """Whether another turn may begin."""
        return not self.is_running or (self.expires_at is not None and self.expires_at < now)

    def gives_way_to(self, turn: BeginTurn, now: int, is_known: Callable[[str], bool]) -> bool:
        """Whether `turn` may begin. What is known by its platform id supersedes nothing: the same
        message may be delivered a second time while it is being answered.
        """
        if self.is_free(now) or not turn.supersedes:
            return self.is_free(now)
        ids = [message.platform_id for message in turn.messages]
        return not ids or not all(id_ is not None and is_known(id_) for id_ in ids)

    def is_that_of(self, turn_id: str) -> bool:
        return self.is_running and self.turn_id == turn_id

    def renewed(self, now: int) -> int | None:
        """When it expires after a write at `now`."""
        return None if self.lease is None else now + self.lease


def lease_of(operation: BeginTurn) -> int:
    """The lease in microseconds."""
    return int(operation.lease_seconds * 1e6)


def is_conditional(operation: Append | Replace) -> bool:
    """Whether it is applied only under a condition."""
    return operation.turn_id is not None or operation.tail is not None


@functools.lru_cache(maxsize=256)
def outcome(affected: int, *, duplicate: bool = False) -> Outcome:
    """What a write did, from its record; most are equal."""
    if affected == CONFLICT:
        return Outcome(0, duplicate, conflict=True)
    return Outcome(affected, duplicate)
