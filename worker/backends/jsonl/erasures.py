"""What was erased from this store, and what is being erased: `.erased.json`.

It has the tombstones, the op ids that must outlive their sessions, the receipts, and as long as an
erasure is under way its subject. It changes in the same group as the sessions it tells of.

An erasure looks at every session once: when an operation comes to it, or when its slices do, which
ever is first. What was written to since the erasure began has been looked at; so a process that
takes over after a kill tells from the sessions' own times which ones are left.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import orjson

from producer.answers import ErasureReceipt
from producer.operations import Erase
from worker.backends.jsonl.changes import Changes
from worker.backends.jsonl.files import Directory
from worker.backends.jsonl.lines import (
    Record,
    Records,
    drop_old,
    records_from_json,
    records_to_json,
)
from worker.backends.jsonl.session import Session
from worker.backends.tombstones import Tombstones, digest

_NAME: Final = ".erased.json"  # no key's file begins with a dot
_UUID7: Final = "7"


@dataclass(slots=True)
class Pending:
    """An erasure under way. Times are microseconds since 1970 UTC; `began` is the store's."""

    op_id: str
    subject: str
    value: str
    asked_at: int
    began: int
    sessions: int = 0
    op_ids: int = 0
    message_ids: list[str] = field(default_factory=list)

    @property
    def erased_at(self) -> int:
        """Until when; a clock that is ahead of ours must not shut out what is said from now on."""
        return min(self.asked_at, self.began)

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


class Erasures:
    """The content of the file."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.tombstones = Tombstones({})
        self.applied: Records = {}
        self.pending: list[Pending] = []
        self._stones: dict[str, tuple[int, int]] = {}
        self._receipts: dict[str, tuple[int, ErasureReceipt]] = {}
        self._seen: dict[str, set[str]] = {}
        self._is_changed = False

    def recover(self) -> None:
        """Start from what the disk says."""
        try:
            fields = orjson.loads(self._directory.read(_NAME) or b"{}")
            stones = {name: (erased_at, at) for name, erased_at, at in fields.get("tombstones", ())}
            pending = [Pending(**each) for each in fields.get("pending", ())]
            receipts = {
                told["op_id"]: (at, ErasureReceipt(**told))
                for at, told in fields.get("receipts", ())
            }
        except (ValueError, TypeError, AttributeError, KeyError):
            fields, stones, pending, receipts = {}, {}, [], {}
        self.applied = records_from_json(fields.get("applied")) or {}
        self.pending, self._receipts, self._seen = pending, receipts, {}
        self._keep(stones)
        self._is_changed = False

    def begin(self, operation: Erase, now: int) -> Pending:
        """Note that an erasure was asked for."""
        subject, value = operation.subject
        pending = Pending(operation.op_id, subject, value, operation.at, now)
        self.pending.append(pending)
        self.add_tombstone(subject, value, pending.erased_at, now)
        return pending

    def add_tombstone(self, subject: str, value: str, erased_at: int, now: int) -> None:
        name = self.tombstones.add(subject, value, erased_at).hex()
        self._stones[name] = max(erased_at, self._stones.get(name, (0, 0))[0]), now
        self._is_changed = True

    def takes(self, pending: Pending, session: Session) -> bool:
        """Whether this erasure is to erase the session; then it is noted here. Asked again, or
        of a session that was written to since the erasure began, the answer is no.

        Of its op ids those made of a dedup key stay: a platform may deliver a message again, and
        only they tell that it is not a new one. A tombstone keeps the others' resends out.
        """
        seen = self._seen.setdefault(pending.op_id, set())
        if session.key in seen or not _is_meant(pending, session):
            seen.add(session.key)
            return False
        seen.add(session.key)
        ids = [str(line.message.message_id) for line in session.lines]
        pending.sessions += 1
        pending.message_ids += ids
        for op_id, affected in session.known.items():
            if not _is_fresh(op_id, pending.asked_at):
                self.applied[op_id] = Record(pending.began, affected)
        known = session.known
        pending.op_ids += sum(id_ in known and _is_fresh(id_, pending.asked_at) for id_ in ids)
        self.add_tombstone("key", session.key, pending.erased_at, pending.began)
        return True

    def finish(self, op_id: str, now: int) -> ErasureReceipt | None:
        """End an erasure: its subject is forgotten. The receipt, also of one ended before."""
        for pending in self.pending:
            if pending.op_id == op_id:
                self.pending.remove(pending)
                self._receipts[op_id] = now, pending.receipt()
                self._seen.pop(op_id, None)
                self._is_changed = True
                break
        return self._receipts.get(op_id, (0, None))[1]

    def note_applied(self, op_id: str, affected: int, now: int) -> None:
        self.applied[op_id] = Record(now, affected)
        self._is_changed = True

    def compact(self, before: int) -> int:
        """Forget what was noted before; how many op ids that were."""
        stones = {name: stone for name, stone in self._stones.items() if stone[1] >= before}
        receipts = {id_: told for id_, told in self._receipts.items() if told[0] >= before}
        purged = drop_old(self.applied, before)
        if len(stones) < len(self._stones) or len(receipts) < len(self._receipts) or purged:
            self._receipts, self._is_changed = receipts, True
            self._keep(stones)
        return purged

    def stage(self, changes: Changes) -> None:
        if not self._is_changed:
            return
        fields: dict[str, Any] = {
            "version": 1,
            "tombstones": [[name, *stone] for name, stone in self._stones.items()],
            "applied": records_to_json(self.applied),
            "pending": [asdict(pending) for pending in self.pending],
            "receipts": list(self._receipts.values()),
        }
        changes.put(_NAME, orjson.dumps(fields) + b"\n")

    def settle(self) -> None:
        """What was staged is committed."""
        self._is_changed = False

    def _keep(self, stones: dict[str, tuple[int, int]]) -> None:
        self._stones = stones
        self.tombstones = Tombstones(
            {bytes.fromhex(name): erased_at for name, (erased_at, _) in stones.items()}
        )


def _is_meant(pending: Pending, session: Session) -> bool:
    if not session.exists or session.last_activity > pending.began:
        return False
    if pending.subject == "key":
        return session.key == pending.value
    sidecar = session.sidecar
    if any(record.at > pending.began for record in sidecar.applied.values()):
        return False
    return sidecar.attributes.get(pending.subject) == pending.value


def _is_fresh(op_id: str, asked_at: int) -> bool:
    """Whether it is a UUIDv7 of before, and no hash."""
    latest = f"{asked_at // 1000:012x}~"
    return len(op_id) >= 32 and op_id[12] == _UUID7 and op_id < latest
