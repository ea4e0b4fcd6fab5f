"""What was erased from this store, and what is being erased: `.erased.json`.

It has the tombstones, the op ids that must outlive their sessions, the receipts, and as long as an
erasure is under way its subject. It changes in the same group as the sessions it tells of.

An erasure looks at a session when an operation comes to it, or when its slices do, whichever is
first, and takes it if it is the subject's. What becomes the subject's afterwards is not for it to
take: so the keys of both are noted here, for as long as it is under way. No clock is asked.
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
from backscroll_worker.contract.tombstones import Tombstone, Tombstones, digest
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.fields import OURS
from backscroll_worker.stores.jsonl.file_names import damaged_name
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

NAME: Final = ".erased.json"  # no key's file begins with a dot
_UUID7: Final = "7"
_UNREADABLE: Final = (ValueError, TypeError, AttributeError, KeyError)


@dataclass(slots=True)
class Pending:
    """An erasure under way. Times are microseconds since 1970 UTC; `began` is the store's.

    `latest` is the highest time that its clock has ever been at.
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
    """The keys of sessions that it took, and of those that became the subject's afterwards.

    Of an author's erasure: of sessions that it had looked at before the author spoke there again.
    """

    def __post_init__(self) -> None:
        self.looked_at = set(self.looked_at)  # JSON has a list

    @property
    def tombstone(self) -> Tombstone:
        """A clock that is ahead of ours must not shut out what is said from now on."""
        erased_at = min(self.asked_at, self.latest or self.began)
        return Tombstone(erased_at, max(erased_at, self.began))

    def is_about(self, session: Session) -> bool:
        """Whether the session is the subject's, and not looked at yet."""
        if not session.exists or session.key in self.looked_at:
            return False
        if self.subject == "key":
            return session.key == self.value
        if self.subject == "author":
            return session.mentions(self.value)
        return session.sidecar.attributes.get(self.subject) == self.value

    def receipt(self) -> ErasureReceipt:
        """What was erased so far."""
        ids = sorted(self.message_ids)
        return ErasureReceipt(
            self.op_id,
            self.subject,
            digest(self.subject, self.value).hex(),
            self.asked_at,
            self.asked_at,
            self.sessions,
            len(ids),
            hashlib.sha256("\n".join(ids).encode()).hexdigest(),
            self.op_ids,
        )


class _Content(NamedTuple):
    """What the file has; receipts with the time from which on they are kept."""

    tombstones: Tombstones
    applied: Records
    pending: list[Pending]
    receipts: dict[str, tuple[int, ErasureReceipt]]


class Erasures:
    """The content of the file. A damaged one is set aside before another takes its place."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.tombstones = Tombstones({})
        self.applied: Records = {}
        self.pending: list[Pending] = []
        self._receipts: dict[str, tuple[int, ErasureReceipt]] = {}
        self._damaged: bytes | None = None
        self._is_changed = False
        self._seen = set[tuple[str, str]]()
        """By op id and key, the sessions that authors' erasures have looked at in this process."""

    def recover(self) -> None:
        """Start from what the disk says."""
        content = self._directory.read(NAME)
        try:
            loaded, self._damaged = _loads(content), None
        except _UNREADABLE:
            loaded, self._damaged = _loads(None), content
            log.warning(
                "%s cannot be read, so nobody knows what was erased; 'backscroll check' tells more",
                self._directory.locate(NAME),
            )
        self.tombstones, self.applied, self.pending, self._receipts = loaded
        self._is_changed = False
        self._seen.clear()

    def begin(self, operation: Erase, now: int, latest: int) -> Pending:
        """Note that an erasure was asked for."""
        subject, value = operation.subject
        pending = Pending(operation.op_id, subject, value, operation.at, now, latest)
        pending.began = self.tombstones.free_moment(pending.tombstone.noted_at)
        self.pending.append(pending)
        self.add_tombstone(subject, value, pending.tombstone)
        return pending

    def add_tombstone(self, subject: str, value: str, tombstone: Tombstone) -> None:
        self.tombstones.add(subject, value, tombstone)
        self._is_changed = True

    def pass_over(self, session: Session) -> None:
        """Have no erasure under way take a session that is about to be written.

        If it is the subject's by now, it became so after it had been looked at.
        """
        for pending in self.pending:
            if pending.subject == "author":
                # It was looked at when it was opened, so what is said there was said afterwards.
                is_about = session.key not in pending.looked_at and session.brings(pending.value)
            else:
                is_about = pending.is_about(session)
            if is_about:
                pending.looked_at.add(session.key)
                self._is_changed = True

    def takes(self, pending: Pending, session: Session) -> bool:
        """Whether this erasure is to erase the session; then it is noted here.

        Of its op ids those made of a dedup key stay: a platform may deliver a message again, and
        only they tell that it is not a new one. A tombstone keeps out the others, when they come.
        """
        if pending.subject == "author":
            return self._takes_author(pending, session)
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

    def _takes_author(self, pending: Pending, session: Session) -> bool:
        """The same for an author; once looked at, nothing said before is left in a session."""
        place = pending.op_id, session.key
        if place in self._seen:
            return False
        self._seen.add(place)
        if not pending.is_about(session):
            return False
        lines = session.said_by(pending.value)
        pending.sessions += 1
        pending.message_ids += [str(line.message.message_id) for line in lines]
        pending.op_ids += sum(map(session.is_own_of_author, lines))
        self._is_changed = True
        return True

    def keep_op_ids(self, session: Session, erased_at: int, began: int) -> None:
        """Have those op ids of a session outlive it that no tombstone keeps out."""
        for op_id, affected in session.known.items():
            if not _is_fresh(op_id, erased_at):
                self.applied[op_id] = Record(began, affected)
                self._is_changed = True

    def finish(self, op_id: str, now: int) -> ErasureReceipt | None:
        """End an erasure: its subject is forgotten. The receipt, also of one ended before.

        Those before it are ended too, and count as its own: they end in their order, or never.
        """
        ids = [pending.op_id for pending in self.pending]
        if op_id in ids:
            count = ids.index(op_id) + 1
            *left, pending = self.pending[:count]
            for other in left:
                pending.sessions += other.sessions
                pending.op_ids += other.op_ids
                pending.message_ids += other.message_ids
            del self.pending[:count]
            self._seen = {place for place in self._seen if place[0] not in ids[:count]}
            self._receipts[op_id] = now, pending.receipt()
            self._is_changed = True
        return self._receipts.get(op_id, (0, None))[1]

    def set_aside(self) -> bool:
        """Have the file written anew if it is damaged; whether it is."""
        self._is_changed |= self._damaged is not None
        return self._damaged is not None

    def note_applied(self, op_id: str, affected: int, now: int) -> None:
        self.applied[op_id] = Record(now, affected)
        self._is_changed = True

    def compact(self, old: Cutoff) -> int:
        """Forget what is old, when all sessions were looked at; how many op ids it was.

        Nobody comes back to an erasure that old.
        """
        was = self._count()
        self.tombstones = self.tombstones.without(old)
        self.pending = [pending for pending in self.pending if not old.is_past(pending.began)]
        self._receipts = {
            id_: told for id_, told in self._receipts.items() if not old.is_past(told[0])
        }
        purged = drop_old(self.applied, old)
        self._is_changed |= self._count() < was
        return purged

    def stage(self, changes: Changes) -> None:
        if not self._is_changed:
            return
        if self._damaged is not None:
            aside = damaged_name(NAME)
            changes.put(aside, (self._directory.read(aside) or b"") + self._damaged)
        fields = {
            "version": 1,
            "tombstones": [[name.hex(), *moments] for name, moments in self.tombstones.items()],
            "applied": records_to_json(self.applied),
            "pending": [asdict(pending) for pending in self.pending],
            "receipts": list(self._receipts.values()),
        }
        changes.put(NAME, orjson.dumps(fields, default=sorted) + b"\n")

    def settle(self) -> None:
        """What was staged is committed."""
        if self._is_changed:
            self._is_changed, self._damaged = False, None

    def _count(self) -> int:
        noted = self.tombstones.items(), self.pending, self._receipts, self.applied
        return sum(map(len, noted))


def is_readable(content: bytes | None) -> bool:
    """Whether the file, if there is one, is not damaged."""
    try:
        _loads(content)
    except _UNREADABLE:
        return False
    return True


def _loads(content: bytes | None) -> _Content:
    """Read the file; raises one of `_UNREADABLE` when it is damaged."""
    if content is None:
        return _Content(Tombstones({}), {}, [], {})
    fields = orjson.loads(content)
    applied = records_from_json(fields["applied"])
    if applied is None:
        raise ValueError("the op ids are none")
    return _Content(
        Tombstones(
            {
                bytes.fromhex(name): Tombstone(int(erased_at), int(noted_at))
                for name, erased_at, noted_at in fields["tombstones"]
            }
        ),
        applied,
        [Pending(**each) for each in fields["pending"]],
        {told["op_id"]: (int(at), ErasureReceipt(**told)) for at, told in fields["receipts"]},
    )


def _is_fresh(op_id: str, erased_at: int) -> bool:
    """Whether a tombstone keeps its resend out: it is no hash, and not from after.

    One of somebody else's making may name whom it is about; it counts as old.
    """
    return not OURS.fullmatch(op_id) or (
        op_id[12] == _UUID7 and op_id < f"{erased_at // 1000:012x}~"
    )
