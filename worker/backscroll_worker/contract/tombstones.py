"""What was erased, by hash alone: keeps out what was asked for before and arrives afterwards.

An adapter's spool, a resend or a requeued job may bring back what an erasure removed; a spool also
what was deleted or cleared meanwhile. A tombstone says until when everything about a session, a
sender or a room is to be dropped; it holds the SHA-256 of the name and no text.

Only what was spooled is compared with deletions: to drop other operations by their time would lose
what adapters say whose clocks are slow.
"""

from __future__ import annotations

import hashlib
from collections.abc import ItemsView, Mapping
from typing import Final, NamedTuple, Self

from backscroll.contract.operations import (
    Clear,
    Delete,
    Describe,
    Erase,
    Operation,
    told_attributes,
)
from backscroll_worker.contract.clock import Cutoff

_EMPTIED: Final[dict[type[Operation], str]] = {Delete: "deleted", Clear: "cleared"}


def emptied_by(operation: Operation) -> str | None:
    """How the operation takes away what its session holds: it is "deleted" or "cleared"."""
    return _EMPTIED.get(type(operation))


def undone_by(operation: Operation) -> tuple[str, ...]:
    """What of these, done after the operation was asked for, leaves nothing for it to do.

    To clear a session leaves its attributes.
    """
    return ("deleted",) if isinstance(operation, Describe) else ("deleted", "cleared")


class Tombstone(NamedTuple):
    """That something was erased: until when, by the clock of who asked, and when that was noted.

    Both are microseconds. What was archived is compared with the second, which is the worker's: a
    clock that may have been wrong, so that alone it tells only the erasure itself what to take.
    """

    erased_at: int
    noted_at: int

    def is_of_same_erasure(self, other: Tombstone) -> bool:
        """Whether one erasure made both: no two of a store are noted at the same time."""
        return self.noted_at == other.noted_at


_NONE: Final = Tombstone(-1, -1)


def digest(subject: str, value: str) -> bytes:
    """The hash a tombstone has for `value`, which is a "key", a "sender" or a "room"."""
    return hashlib.sha256(f"{subject}\0{value}".encode()).digest()


class Tombstones:
    """Those of a store, by digest.

    `latest` is the last moment until which something was erased, for whoever wants to know whether
    to look at all.
    """

    def __init__(self, tombstones: Mapping[bytes, Tombstone]) -> None:
        self._by_digest = dict(tombstones)
        self.reopened: tuple[int, int] | None = None
        """Since when, and until when, the store's clock is back behind a time it had before.

        What is asked for between the two is from after an erasure that is noted as later.
        """
        self.latest = max(self._by_digest.values(), default=_NONE).erased_at

    def free_moment(self, now: int) -> int:
        """`now`, or the next microsecond at which no erasure was noted yet."""
        taken = {each.noted_at for each in self._by_digest.values()}
        while now in taken:
            now += 1
        return now

    def add(self, subject: str, value: str, tombstone: Tombstone) -> bytes:
        """Note an erasure; an earlier one does not shorten a later one. Returns the digest."""
        name = digest(subject, value)
        known = self._by_digest.get(name)
        if known is not None:
            tombstone = Tombstone(*map(max, known, tombstone))
        self._by_digest[name] = tombstone
        self.latest = max(self.latest, tombstone.erased_at)
        return name

    def items(self) -> ItemsView[bytes, Tombstone]:
        return self._by_digest.items()

    def without(self, old: Cutoff) -> Self:
        """Those that are not noted as long ago."""
        return type(self)(
            {name: each for name, each in self.items() if not old.is_past(each.noted_at)}
        )

    def cover(self, operation: Operation) -> bool:
        """Whether the operation is about a session that was erased after it was asked for.

        Another erasure may come from a slow clock, and must not be lost for that.
        """
        key = None if isinstance(operation, Erase) else getattr(operation, "key", None)
        return key is not None and self.is_before(operation.at, self.moment("key", key))

    def told_by(self, operation: Operation) -> Tombstone | None:
        """That of the sender or room to which the operation, made before, adds a session.

        None if it does no such thing.
        """
        told = told_attributes(operation)
        found = [
            self.of(name, value)
            for name in ("sender", "room")
            if isinstance(value := told.get(name), str)
        ]
        latest = max(found, default=_NONE)
        return latest if self.is_before(operation.at, latest.erased_at) else None

    def is_before(self, at: int, erased_at: int) -> bool:
        """Whether what was asked for `at` is from before an erasure, a deletion or a clear."""
        if self.reopened is not None and erased_at > self.reopened[1]:
            return not self.reopened[0] <= at <= self.reopened[1] and at <= erased_at
        return at <= erased_at

    def moment(self, subject: str, value: str) -> int:
        """Until when it was erased; before all time if it was not."""
        return self.of(subject, value).erased_at

    def of(self, subject: str, value: str) -> Tombstone:
        """That of a session, a sender or a room; one of before all time if there is none."""
        return self._by_digest.get(digest(subject, value), _NONE)
