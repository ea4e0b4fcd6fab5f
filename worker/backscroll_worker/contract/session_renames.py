"""Renames of sessions: where what was requested under an earlier key belongs.

A spool, a resend or a slow adapter may bring operations under the key that the session had when
they were requested. What was requested before the rename is for the session, by its new key; what
was requested after it begins a new session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, TypeVar

from backscroll.contract.lifecycle import Rename
from backscroll.contract.operations import Erase, Write
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.contract.tombstones import Tombstone, Tombstones

W = TypeVar("W", bound=Write)

_FOR_THE_KEY_AS_IT_IS: Final = (Erase, ImportSession, Rename, RestoreSession)


class SessionRename(NamedTuple):
    """One rename: when it was requested, by the requester's clock, and recorded, by the store's."""

    old: str
    new: str
    asked_at: int
    noted_at: int


class SessionRenames:
    """The renames that a store knows, in their order.

    `latest` is the latest time of any of them: later operations need no lookup.
    """

    def __init__(self, renames: Iterable[SessionRename] = ()) -> None:
        self._renames = list(renames)
        self.latest = max((each.asked_at for each in self._renames), default=-1)

    def __iter__(self) -> Iterator[SessionRename]:
        return iter(self._renames)

    def __len__(self) -> int:
        return len(self._renames)

    def add(self, rename: SessionRename) -> None:
        self._renames.append(rename)
        self.latest = max(self.latest, rename.asked_at)

    def followed(self, operation: W) -> tuple[W, int]:
        """The operation under its session's present key, and when it got that: -1 for never."""
        key: Any = getattr(operation, "key", None)
        found, since = key, -1
        if isinstance(operation, _FOR_THE_KEY_AS_IT_IS):
            return operation, since
        for rename in self._renames:
            if rename.old == found and operation.at <= rename.asked_at:
                found, since = rename.new, rename.asked_at
        if found == key:
            return operation, -1
        moved: Any = replace(operation, key=found)  # type: ignore[call-arg]
        object.__setattr__(moved, "was_spooled", operation.was_spooled)  # it is only being made
        return moved, since

    def forget(self, key: str) -> list[tuple[str, int]]:
        """Forget a key that is erased; returns the earlier keys of its session, until when each."""
        earlier, at = list[tuple[str, int]](), key
        for rename in reversed(self._renames):
            if rename.old == at:
                break  # its name was free then
            if rename.new == at:
                earlier.append((rename.old, rename.asked_at))
                at = rename.old
        names = {key, *(name for name, _ in earlier)}
        self._renames = [each for each in self._renames if names.isdisjoint((each.old, each.new))]
        return earlier


def earlier_tombstone(tombstones: Tombstones, until: int, now: int) -> Tombstone:
    """For an earlier key of an erased session: another erasure than that of the session itself,
    so that of what is archived under that key only what was said until then is erased.
    """
    return Tombstone(until, tombstones.free_moment(max(until, now)))
