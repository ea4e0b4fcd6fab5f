"""Tombstones: exclude operations that were requested before an erasure and arrive after it.

An adapter's spool, a resend or a requeued job may bring back erased data, and what was deleted or
cleared meanwhile. A tombstone has the time up to which operations on a session, a sender
or a room are dropped, or an author's messages in them; it contains the SHA-256 of the name and no
text.

Only operations that were sent late are compared with deletions: dropping others by their time would
lose messages of adapters whose clocks are slow.
"""

from __future__ import annotations

import hashlib
from collections.abc import ItemsView, Iterable, Mapping
from typing import Final, NamedTuple, Self

from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import Merge
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import (
    Append,
    Backfill,
    Clear,
    Delete,
    Describe,
    Erase,
    Operation,
    Replace,
    Write,
    described_attributes,
)
from backscroll.contract.results import ErasureReceipt
from backscroll.contract.splicing import Pop, Splice
from backscroll.contract.states import SetState
from backscroll.contract.validation import SUBJECTS
from backscroll_worker.contract.clock import Cutoff

_EMPTIED: Final[dict[type[Operation], str]] = {Delete: "deleted", Clear: "cleared"}
EMPTIED: Final = tuple(_EMPTIED.values())
"""How a session may have been emptied."""


def emptied_by(operation: Operation) -> str | None:
    """How the operation empties its session: "deleted" or "cleared"."""
    return _EMPTIED.get(type(operation))


def undone_by(operation: Operation) -> tuple[str, ...]:
    """Which of these, done after the operation was requested, make it obsolete.

    Clearing a session keeps its attributes and states. An erasure never becomes so: what it is to
    remove may be in the archive, too. Nor does what `is_timeless`.
    """
    if isinstance(operation, Erase) or is_timeless(operation):
        return ()
    return ("deleted",) if isinstance(operation, Describe | SetState) else ("deleted", "cleared")


def is_timeless(operation: Operation) -> bool:
    """Whether it is carried out whenever it was requested: a caller was told what it removes."""
    return isinstance(operation, Pop) and operation.is_named


BY_PREFIX: Final = "prefix"
"""What a tombstone is for that has no subject of an erasure: all sessions whose key begins so."""


def removes_messages(operation: Append) -> bool:
    """Whether it takes messages out of the session, too."""
    return isinstance(operation, Splice) and bool(operation.remove)


def keys_of(operation: Operation) -> tuple[str, ...]:
    """The keys of the sessions that the operation names."""
    if isinstance(operation, Fork | Merge):
        return operation.keys
    key: str | None = getattr(operation, "key", None)
    return () if key is None else (key,)


class Tombstone(NamedTuple):
    """The record of an erasure: up to when, by the requester's clock, and when it was recorded.

    Both are microseconds. Archived sessions are compared with the second, which is the worker's
    time; as this may be wrong, only the erasure itself relies on it alone.
    """

    erased_at: int
    noted_at: int

    def is_of_same_erasure(self, other: Tombstone) -> bool:
        """Whether one erasure made both: no two of a store are noted at the same time."""
        return self.noted_at == other.noted_at


_NONE: Final = Tombstone(-1, -1)


def digest(subject: str, value: str) -> bytes:
    """The hash in a tombstone for `value`; `subject` is one of `SUBJECTS`."""
    return hashlib.sha256(f"{subject}\0{value}".encode()).digest()


def erasure_receipt(
    operation: Erase, *, sessions: int, messages: int, messages_sha256: str, op_ids: int
) -> ErasureReceipt:
    """The receipt for what an erasure deleted; its end counts as that of its request until set."""
    subject, value = operation.subject
    return ErasureReceipt(
        operation.op_id,
        subject,
        digest(subject, value).hex(),
        operation.at,
        operation.at,
        sessions,
        messages,
        messages_sha256,
        op_ids,
    )


class Tombstones:
    """The tombstones of a store, by digest.

    `latest` is the latest time of any of them: later operations need no lookup.
    """

    def __init__(self, tombstones: Mapping[bytes, Tombstone]) -> None:
        self._by_digest = dict(tombstones)
        self.reopened: tuple[int, int] | None = None
        """Since when, and until when, the store's clock is behind a time that it had before.

        Operations requested in between are later than an erasure with a later time.
        """
        self.latest = max(self._by_digest.values(), default=_NONE).erased_at

    def free_moment(self, now: int) -> int:
        """`now`, or the next microsecond at which no erasure was recorded yet."""
        taken = {each.noted_at for each in self._by_digest.values()}
        while now in taken:
            now += 1
        return now

    def add(self, subject: str, value: str, tombstone: Tombstone) -> bytes:
        """Add a tombstone; an earlier one does not shorten a later one. Returns the digest."""
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
        """The tombstones that are not older than the cutoff."""
        return type(self)(
            {name: each for name, each in self.items() if not old.is_past(each.noted_at)}
        )

    def may_concern(self, operation: Write) -> bool:
        """Whether the operation, or a message of it, may be of before an erasure."""
        return operation.at <= self.latest or (self.latest >= 0 and type(operation) is Backfill)

    def cover(self, operation: Operation) -> bool:
        """Whether the operation's session was erased after the operation was requested.

        Not for erasures: one from a slow clock must not be dropped.
        """
        if isinstance(operation, Erase) or is_timeless(operation):
            return False
        keys = keys_of(operation)
        return any(self.is_before(operation.at, self.moment("key", key)) for key in keys)

    def of_described(self, operation: Operation) -> Tombstone | None:
        """The tombstone of the sender or room to which the operation, made before, adds a session.

        None if there is none.
        """
        attributes = described_attributes(operation)
        found = [
            self.of(name, value)
            for name in ("sender", "room")
            if isinstance(value := attributes.get(name), str)
        ]
        latest = max(found, default=_NONE)
        return latest if self.is_before(operation.at, latest.erased_at) else None

    def spared(self, operation: Write) -> Write | None:
        """The operation without messages of authors who were erased after it was requested.

        None if nothing is left of it. An append's other messages keep their ids. Of a backfill also
        without what was said before an erasure of its author, its session or what that is said of.
        """
        if isinstance(operation, Replace):
            return None if self.is_of_erased_author(operation.message, operation.at) else operation
        if not isinstance(operation, Append):
            return operation
        kept = [
            index
            for index, message in enumerate(operation.messages)
            if not self._is_erased(operation, message)
        ]
        if len(kept) == len(operation.messages):
            return operation
        return operation.only(kept) if kept or removes_messages(operation) else None

    def _is_erased(self, operation: Append, message: ChatMessage) -> bool:
        if type(operation) is not Backfill:
            return self.is_of_erased_author(message, operation.at)
        said_at = operation.said_at(message)
        named = {"key": operation.key, **(operation.session or {}), "author": message.author}
        return said_at <= self.latest and any(
            self.is_before(said_at, self.moment(subject, value))
            for subject in SUBJECTS
            if isinstance(value := named.get(subject), str)
        )

    def is_of_erased_author(self, message: ChatMessage, at: int) -> bool:
        """Whether the message's author was erased after `at`, in microseconds."""
        author = message.author
        if author is None or at > self.latest:
            return False
        return self.is_before(at, self.moment("author", author))

    def is_obsolete(
        self, operation: Operation, key: str, emptied: Iterable[int | None], since: int, until: int
    ) -> bool:
        """Whether a late operation on a session was requested before that was emptied.

        `emptied` are the times at which it was, by itself. Before `since` and after `until` another
        session had the key.
        """
        moments = [moment for moment in emptied if moment is not None]
        if undone_by(operation):
            moments += [self.moment(BY_PREFIX, key[:end]) for end in range(1, len(key) + 1)]
        return any(
            since < moment <= until and self.is_before(operation.at, moment) for moment in moments
        )

    def is_before(self, at: int, erased_at: int) -> bool:
        """Whether a request at `at` precedes an erasure, a deletion or a clear."""
        if self.reopened is not None and erased_at > self.reopened[1]:
            return not self.reopened[0] <= at <= self.reopened[1] and at <= erased_at
        return at <= erased_at

    def moment(self, subject: str, value: str) -> int:
        """The time up to which it was erased; before all time if it was not."""
        return self.of(subject, value).erased_at

    def of(self, subject: str, value: str) -> Tombstone:
        """The tombstone of one of `SUBJECTS`; one before all time if there is none."""
        return self._by_digest.get(digest(subject, value), _NONE)
