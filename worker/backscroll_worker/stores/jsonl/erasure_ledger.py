"""The erasures of this store, finished and pending: `.erased.json`.

It has the tombstones, the op ids that are kept after their sessions, the receipts, and the subjects
of pending erasures. It is committed in the same group as the sessions that were erased.

A pending erasure checks a session when an operation or one of its slices opens it, whichever is
first, and erases it if it belongs to the subject. A session that becomes the subject's afterwards
is not erased. So the keys of both are recorded here until the erasure is finished; no clock is
needed.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple

import orjson

from backscroll.contract.operations import Erase
from backscroll.contract.results import ErasureReceipt
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.tombstones import Tombstone, Tombstones, erasure_receipt
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.fields import OURS
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.lines import (
    Record,
    Records,
    drop_old,
    records_from_json,
    records_to_json,
)
from backscroll_worker.stores.jsonl.session import Session

log = logging.getLogger("backscroll.store")

NAME: Final = ".erased.json"  # the file name of a key never begins with a dot
_UUID7: Final = "7"
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, KeyError)


@dataclass(slots=True)
class Pending:
    """An erasure that is not finished; also its form in the file.

    Times are microseconds since 1970 UTC. `began` and `latest`, the highest time that it has ever
    had, are by the store's clock.
    """

    op_id: str
    subject: str
    value: str
    asked_at: int
    began: int
    latest: int | None = None
    sessions: int = 0
    op_ids: int = 0
    message_ids: list[str] = field(default_factory=list)
    looked_at: set[str] = field(default_factory=set)
    """The keys of sessions that it erased, and of those that became the subject's afterwards.

    For an author: of sessions that it had checked before the author spoke there again.
    """

    def __post_init__(self) -> None:
        self.looked_at = set(self.looked_at)  # JSON has a list

    @property
    def tombstone(self) -> Tombstone:
        """The tombstone. A requester's clock that is ahead must not exclude later operations."""
        erased_at = min(self.asked_at, self.latest or self.began)
        return Tombstone(erased_at, max(erased_at, self.began))

    def is_about(self, session: Session) -> bool:
        """Whether the session is the subject's, and not checked yet."""
        if not session.exists or session.key in self.looked_at:
            return False
        if self.subject == "key":
            return session.key == self.value
        if self.subject == "author":
            return session.mentions(self.value)
        return session.sidecar.attributes.get(self.subject) == self.value

    def receipt(self, operation: Erase) -> ErasureReceipt:
        """The receipt for what was erased so far; `operation` has the subject's name as asked."""
        ids = sorted(self.message_ids)
        return erasure_receipt(
            operation,
            sessions=self.sessions,
            messages=len(ids),
            messages_sha256=hashlib.sha256("\n".join(ids).encode()).hexdigest(),
            op_ids=self.op_ids,
        )


class _Content(NamedTuple):
    """The content of the file; receipts with the time of their creation."""

    tombstones: Tombstones
    applied: Records
    pending: list[Pending]
    receipts: dict[str, tuple[int, ErasureReceipt]]


class Erasures:
    """The erasures of a store. A damaged file is set aside before it is replaced."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.tombstones = Tombstones({})
        self.applied: Records = {}
        self.pending: list[Pending] = []
        self._receipts: dict[str, tuple[int, ErasureReceipt]] = {}
        self._damaged: bytes | None = None
        self._is_changed = False
        self._seen = set[tuple[str, str]]()
        """By op id and key, the sessions that erasures of authors have checked in this process."""

    def recover(self) -> None:
        """Read the file."""
        content = self._directory.read(NAME)
        try:
            loaded, self._damaged = _loads(content), None
        except _UNREADABLE:
            loaded, self._damaged = _loads(None), content
            log.warning(
                "%s cannot be read, so it is unknown what was erased; run 'backscroll check'",
                self._directory.locate(NAME),
            )
        self.tombstones, self.applied, self.pending, self._receipts = loaded
        self._is_changed = False
        self._seen.clear()

    def begin(self, operation: Erase, now: int, latest: int) -> Pending:
        """Record that an erasure was requested."""
        subject, value = operation.subject
        pending = Pending(operation.op_id, subject, value, operation.at, now, latest)
        pending.began = self.tombstones.free_moment(pending.tombstone.noted_at)
        self.pending.append(pending)
        self.add_tombstone(subject, value, pending.tombstone)
        return pending

    def add_tombstone(self, subject: str, value: str, tombstone: Tombstone) -> None:
        self.tombstones.add(subject, value, tombstone)
        self._is_changed = True

    def exclude(self, session: Session) -> None:
        """Exclude a session that is about to be written from pending erasures.

        If it is the subject's now, it became so after it had been checked.
        """
        for pending in self.pending:
            if pending.subject == "author":
                # It was checked when it was opened, so what is added now was said afterwards.
                is_about = session.key not in pending.looked_at and session.brings(pending.value)
            else:
                is_about = pending.is_about(session)
            if is_about:
                pending.looked_at.add(session.key)
                self._is_changed = True

    def exclude_fork(self, key: str) -> None:
        """The same for a fork that a rename is going to make: what it copies was checked."""
        for pending in self.pending:
            pending.looked_at.add(key)
            self._is_changed = True

    def claim(self, pending: Pending, session: Session) -> bool:
        """Whether this erasure has to erase the session; then it is recorded here.

        Op ids made from a dedup key are kept: a platform may deliver a message again, and only they
        show that it is not new. Resends of others are excluded by a tombstone.
        """
        if pending.subject == "author":
            return self._claim_author(pending, session)
        if not pending.is_about(session):
            return False
        pending.looked_at.add(session.key)
        ids = [str(line.message.message_id) for line in session.lines]
        pending.sessions += 1
        pending.message_ids += ids
        erased_at, known = pending.tombstone.erased_at, session.known
        self.keep_op_ids(session, erased_at, pending.began)
        pending.op_ids += sum(id_ in known and _is_fresh(id_, erased_at) for id_ in ids)
        self.add_tombstone("key", session.key, pending.tombstone)
        return True

    def _claim_author(self, pending: Pending, session: Session) -> bool:
        """The same for an author: once checked, a session has no earlier messages of theirs."""
        place = pending.op_id, session.key
        if place in self._seen:
            return False
        self._seen.add(place)
        if not pending.is_about(session):
            return False
        lines = session.said_by(pending.value)
        pending.sessions += session.quotes(pending.value)
        pending.message_ids += [str(line.message.message_id) for line in lines]
        pending.op_ids += sum(map(session.is_own_of_author, lines))
        self._is_changed = True
        return True

    def keep_op_ids(self, session: Session, erased_at: int, began: int) -> None:
        """Keep the op ids of an erased session whose resends no tombstone excludes."""
        for op_id, affected in session.known.items():
            if not _is_fresh(op_id, erased_at):
                self.applied[op_id] = Record(began, affected)
                self._is_changed = True

    def finish(self, operation: Erase, now: int) -> ErasureReceipt | None:
        """Finish an erasure and forget its subject; returns its receipt, if it exists.

        Earlier ones are finished too and counted as its own: erasures end in order, or never.
        """
        op_id, ids = operation.op_id, [pending.op_id for pending in self.pending]
        if op_id in ids:
            count = ids.index(op_id) + 1
            *earlier, pending = self.pending[:count]
            for other in earlier:
                pending.sessions += other.sessions
                pending.op_ids += other.op_ids
                pending.message_ids += other.message_ids
            del self.pending[:count]
            self._seen = {place for place in self._seen if place[0] not in ids[:count]}
            self._receipts[op_id] = now, pending.receipt(operation)
            self._is_changed = True
        return self._receipts.get(op_id, (0, None))[1]

    def set_aside(self) -> bool:
        """Replace the file if it is damaged; returns whether it is."""
        self._is_changed |= self._damaged is not None
        return self._damaged is not None

    def note_applied(self, op_id: str, affected: int, now: int) -> None:
        self.applied[op_id] = Record(now, affected)
        self._is_changed = True

    def compact(self, old: Cutoff) -> int:
        """Forget expired entries, pending erasures too; returns the number of op ids dropped."""
        count = self._count()
        self.tombstones = self.tombstones.without(old)
        self.pending = [pending for pending in self.pending if not old.is_past(pending.began)]
        self._receipts = {
            id_: each for id_, each in self._receipts.items() if not old.is_past(each[0])
        }
        purged = drop_old(self.applied, old)
        self._is_changed |= self._count() < count
        return purged

    def stage(self, changes: Changes) -> None:
        if not self._is_changed:
            return
        if self._damaged is not None:
            changes.set_aside(self._directory, NAME, self._damaged)
        fields = {
            "version": 1,
            "tombstones": [[name.hex(), *moments] for name, moments in self.tombstones.items()],
            "applied": records_to_json(self.applied),
            "pending": [asdict(pending) for pending in self.pending],
            "receipts": list(self._receipts.values()),
        }
        changes.put(NAME, orjson.dumps(fields, default=sorted) + b"\n")

    def settle(self) -> None:
        """The staged content is committed."""
        if self._is_changed:
            self._is_changed, self._damaged = False, None

    def _count(self) -> int:
        entries = self.tombstones.items(), self.pending, self._receipts, self.applied
        return sum(map(len, entries))


def is_readable(content: bytes | None) -> bool:
    """Whether the file is missing or undamaged."""
    try:
        _loads(content)
    except _UNREADABLE:
        return False
    return True


def _loads(content: bytes | None) -> _Content:
    """Read the file; raises one of `_UNREADABLE` if it is damaged."""
    if content is None:
        return _Content(Tombstones({}), {}, [], {})
    fields = orjson.loads(content)
    applied = records_from_json(fields["applied"])
    if applied is None:
        raise ValueError("the op ids are invalid")
    return _Content(
        Tombstones(
            {
                bytes.fromhex(name): Tombstone(int(erased_at), int(noted_at))
                for name, erased_at, noted_at in fields["tombstones"]
            }
        ),
        applied,
        [Pending(**each) for each in fields["pending"]],
        {each["op_id"]: (int(at), ErasureReceipt(**each)) for at, each in fields["receipts"]},
    )


def _is_fresh(op_id: str, erased_at: int) -> bool:
    """Whether a tombstone excludes its resend: it is not a hash, and not later than the erasure.

    An op id of another program is not kept: it may contain the subject's name.
    """
    return not OURS.fullmatch(op_id) or (
        op_id[12] == _UUID7 and op_id < f"{erased_at // 1000:012x}~"
    )
