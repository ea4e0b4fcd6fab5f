"""One session while a group works on it: the effect of each operation.

Operations change only this object, and reads see their changes; `Group.flush` then writes each file
once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.lifecycle import Rewind
from backscroll.contract.messages import (
    LATEST_MICROS,
    ChatMessage,
    SessionAttributes,
    from_micros,
    to_micros,
)
from backscroll.contract.operations import (
    Append,
    BeginTurn,
    Clear,
    Delete,
    Describe,
    EndTurn,
    Replace,
    Rollback,
    Write,
)
from backscroll.contract.validation import check_attributes
from backscroll_worker.contract.attributes import differing
from backscroll_worker.contract.clock import Cutoff, no_later
from backscroll_worker.contract.takeover import (
    ImportSession,
    RestoreSession,
    has_another_history,
)
from backscroll_worker.contract.tombstones import Tombstones, digest, emptied_by, undone_by
from backscroll_worker.contract.turns import CONFLICT, is_conditional, lease_of
from backscroll_worker.stores.jsonl.lines import Line, Record, drop_old, lines_of
from backscroll_worker.stores.jsonl.sidecar import Sidecar
from backscroll_worker.stores.jsonl.stored_session import StoredSession
from backscroll_worker.stores.jsonl.transcript import Damage, Transcript

_MARK: Final = "~"  # never in an op id


class Session(StoredSession):
    """A session after the operations so far."""

    def append(self, operation: Append) -> int:
        if is_conditional(operation) and not self._holds(operation):
            return self._note(operation.op_id, CONFLICT)
        if self.is_closed:
            return self._note(operation.op_id, CONFLICT)
        op_id, count = operation.op_id, len(operation.messages)
        cached = self._cached or self._cached_session()
        if count > 1 and any(map(cached.known.__contains__, operation.message_ids)):
            raise OperationRefusedError(
                "a message with this operation's id is stored already, though its op id is "
                "forgotten"
            )
        lines = lines_of(operation)
        if not self._is_touched:
            self._create()
            self._touch()
        if operation.session is not None:
            self._describe_anew(operation.session)
        self._pending += lines
        cached.count += count
        cached.known[op_id] = count
        return count

    def _holds(self, operation: Append | Replace) -> bool:
        """Whether the condition of a write holds; one under a turn id renews the lease."""
        if isinstance(operation, Append) and (tail := operation.expect_tail) is not None:
            last = self.lines[-1].message.message_id if self.exists and self.count else ""
            if tail != last:
                return False
        if operation.turn_id is not None:
            if not self.exists or not self.sidecar.turn.is_that_of(operation.turn_id):
                return False
            if self.sidecar.turn_lease is not None:
                self.sidecar.turn_expires_at = self.sidecar.turn.renewed(self._now)
                self._is_described = True
        return True

    def begin_turn(self, operation: BeginTurn) -> int:
        if self.exists and not (operation.supersedes or self.sidecar.turn.is_free(self._now)):
            return self._note(operation.op_id, CONFLICT)
        affected = self.append(operation)
        if affected != CONFLICT:
            sidecar, lease = self.sidecar, lease_of(operation)
            sidecar.describe({"state": "running", "turn_id": operation.op_id}, self._now)
            sidecar.turn_lease, sidecar.turn_expires_at = lease, self._now + lease
            self._is_described = True
        return affected

    def end_turn(self, operation: EndTurn) -> int:
        if not self.exists or not self.sidecar.turn.is_that_of(operation.turn_id):
            return self._note(operation.op_id, CONFLICT)
        self.sidecar.describe({"state": operation.state}, self._now)
        self._is_described = True
        places = [self._index(message_id) for message_id in operation.remove]
        gone = sorted({place for place in places if place is not None}, reverse=True)
        if not gone:
            return self._note(operation.op_id, 0)
        self._touch()
        for place in gone:
            del self._rewrite()[place]
        self._cached_session().count -= len(gone)
        return self._done(operation.op_id, len(gone))

    def rollback(self, operation: Rollback) -> int:
        index = self._index(operation.message_id)
        if index is None:
            return self._note(operation.op_id, 0)
        self._touch()
        del self._rewrite()[index]
        self._cached_session().count -= 1
        return self._done(operation.op_id, 1)

    def rewind(self, operation: Rewind) -> int:
        index = self._index(operation.to)
        count = 0 if index is None else self.count - 1 - index
        if not count:
            return self._note(operation.op_id, 0)
        self._touch()
        del self._rewrite()[-count:]
        self._cached_session().count -= count
        return self._done(operation.op_id, count)

    def replace(self, operation: Replace) -> int:
        if is_conditional(operation) and not self._holds(operation):
            return self._note(operation.op_id, CONFLICT)
        index = self._index(operation.message_id)
        if index is None:
            return self._note(operation.op_id, 0)
        kept_at = self._now if self._keep_edits else None
        line = self.lines[index].with_message(operation.message, kept_at)
        self._touch()
        self._rewrite()[index] = line
        return self._done(operation.op_id, 1)

    def clear(self, operation: Clear) -> int:
        if not self.exists:
            self._note_emptied(operation)
            return self._note(operation.op_id, 0)
        count = self.count
        self._touch()
        self._rewrite().clear()
        self.transcript.damage.clear()
        self._cached_session().count = 0
        self._note_emptied(operation)
        return self._done(operation.op_id, count)

    def delete(self, operation: Delete) -> int:
        self._note_emptied(operation)
        affected = self._note(operation.op_id, int(self.exists))
        if self.exists:
            self.leave()
        return affected

    def is_late(
        self,
        operation: Write,
        tombstones: Tombstones,
        since: int = -1,
        until: int = LATEST_MICROS,
    ) -> bool:
        """Whether the session was deleted or cleared after the operation was requested.

        Before `since` and after `until` another session had the key.
        """
        moments = [self.applied(_MARK + how) for how in undone_by(operation)]
        return any(
            moment is not None
            and since < moment <= until
            and tombstones.is_before(operation.at, moment)
            for moment in moments
        )

    def note(self, op_id: str, affected: int) -> int:
        """Record an operation of the group that changes nothing here."""
        return self._note(op_id, affected)

    def take_place_of(self, other: Session) -> None:
        """Be the other session, under this key; the other one is to leave."""
        self._create()
        self._rewrite()[:] = other.lines
        self._sidecar = replace(other.sidecar, key=self.key)
        self._is_described = True
        self.transcript.damage += other.transcript.damage
        self.last_activity, self._is_touched = other.last_activity, False
        records = {**other.sidecar.applied, **other.transcript.records}
        known = {op_id: n for op_id, n in other.known.items() if not op_id.startswith(_MARK)}
        self.transcript.records.update(
            {op_id: record for op_id, record in records.items() if op_id in known}
        )
        cached = self._cached_session()
        cached.count = other.count
        cached.known.update(known)

    def drop_late(self, operation: Write) -> int:
        """Record the operation without applying it; a resend that was not spooled is dropped."""
        return self._note(operation.op_id, 0)

    def _note_emptied(self, operation: Clear | Delete) -> None:
        """Record the time before which spooled operations are late, under an impossible op id."""
        name = f"{_MARK}{emptied_by(operation)}"
        self.transcript.records.pop(name, None)
        self._note(name, max(min(operation.at, self._now), self.applied(name) or 0))

    def describe(self, operation: Describe) -> int:
        check_attributes(operation.attributes)
        self._create()
        self.sidecar.describe(operation.attributes, self._now)
        self.sidecar.applied[operation.op_id] = Record(self._now, 1)
        self._is_described = True
        return self._done(operation.op_id, 1)

    def _describe_anew(self, attributes: SessionAttributes) -> None:
        """Set the attributes that the session lacks; usually it has all of them.

        An unreadable sidecar is left for a repair: it may contain more than these.
        """
        sidecar = self.sidecar
        changed = None if sidecar.is_damaged else differing(sidecar.attributes, attributes)
        if changed:
            sidecar.describe(changed, self._now)
            self._is_described = True

    def rename_agent(self, old: str, new: str | None) -> bool:
        """Change the agent's alias if it is `old`; returns whether it was."""
        if self.sidecar.attributes.get("agent") != old:
            return False
        self.sidecar.attributes["agent"] = new
        self._is_described = True
        return True

    def take_over(self, operation: ImportSession) -> int:
        """Import the session."""
        if self.exists and self.count:
            raise has_another_history(self.key)
        lines = [_line_of(message) for message in operation.messages]
        if len({line.op_id for line in lines}) < len(lines):
            raise OperationRefusedError("two of the messages have the same id")
        if operation.attributes:
            check_attributes(operation.attributes)
        self._create()
        if operation.attributes:
            self.sidecar.attributes.update(operation.attributes)
            self.sidecar.turn_started_at = no_later(operation.turn_started_at, self._now)
        self.sidecar.created_at = min(operation.created_at, self._now)
        self._is_described = True
        self._rewrite().extend(lines)
        self.last_activity = min(operation.last_activity, self._now)
        self._is_touched = False
        cached = self._cached_session()
        cached.count = len(lines)
        cached.known.update((line.op_id, 1) for line in lines)
        return self._done(operation.op_id, len(lines))

    def put_back(self, operation: RestoreSession, elsewhere: Iterable[Session]) -> int:
        """Insert archived messages before all others, except those in the store already: here or
        in the sessions `elsewhere`.
        """
        sessions = [self, *elsewhere]
        present = {line.message.message_id for session in sessions for line in session.lines}
        lines = [_line_of(m) for m in operation.messages if m.message_id not in present]
        info, is_new = operation.info, not self.exists
        if is_new and operation.messages and not lines:
            return self._note(operation.op_id, 0)  # they are in another session
        self._create()
        if is_new:
            self.sidecar.restore(info, self._now)
            self.last_activity = min(to_micros(info.last_activity), self._now)
        self.sidecar.created_at = min(self.sidecar.created_at, to_micros(info.created_at))
        if info.pinned:
            self.sidecar.attributes["pinned"] = True
        if lines and operation.source != self.key:
            self.sidecar.restored_from = digest("key", operation.source).hex()
        self._is_described = True
        self._rewrite()[:0] = lines
        cached = self._cached_session()
        cached.count += len(lines)
        for line in lines:
            cached.known.setdefault(line.op_id, 1)
        return self._done(operation.op_id, len(lines))

    def leave(self) -> None:
        """Remove the session, but keep its op ids; a later operation begins a new one."""
        self._transcript = Transcript(records=self._records({}))
        self._sidecar = Sidecar(self.key, self._now)
        self._pending, self._read, self._notes = [], 0, {}
        self._cached_session().count = 0
        self.last_activity = self._now
        self.exists = self._is_described = self._is_touched = False
        self._is_rewritten = True

    def drop_oldest(self, count: int) -> None:
        """Remove the oldest messages, which does not count as activity."""
        del self._rewrite()[:count]
        self._cached_session().count -= count

    def erase(self) -> None:
        """Remove every trace of the session, including op ids."""
        self.leave()
        self._transcript = Transcript()
        self._cached_session().known.clear()
        self._has_gone = self._is_erased = True

    def erase_until(self, moment: int) -> None:
        """Erase the messages sent until `moment`, and the session if those are all it has."""
        if not self.exists:
            return
        latest = from_micros(moment)
        kept = [line for line in self.lines if (line.message.created_at or latest) > latest]
        if not kept:
            self.erase()
        elif len(kept) < len(self.lines):
            self._touch()
            self._rewrite()[:] = kept
            self.transcript.damage.clear()  # it may be as old
            self._cached_session().count = len(kept)

    def repeated(self) -> list[Line]:
        """The lines with the message id of an earlier line."""
        first = {line.message.message_id: line for line in reversed(self.lines)}
        return [line for line in self.lines if first[line.message.message_id] is not line]

    def drop_damage(self) -> None:
        """Set unreadable and repeated lines aside, which does not count as activity."""
        repeated = self.repeated()
        ids = set(map(id, repeated))
        lines = self._rewrite()
        lines[:] = [line for line in lines if id(line) not in ids]
        self.transcript.damage += [Damage(0, line.raw, "repeated") for line in repeated]
        self._cached_session().count = len(lines)

    def forget_attributes(self) -> None:
        """Reset the sidecar to the time of creation, as far as it is known."""
        self._sidecar = Sidecar(self.key, self.sidecar.created_at)
        self._is_described = True

    def compact(self, old: Cutoff) -> tuple[int, int]:
        """Drop expired records and set damage aside; returns the number of both."""
        transcript = self.transcript
        damaged = len(transcript.damage)
        purged = drop_old(transcript.records, old)
        described = drop_old(self.sidecar.applied, old)
        self._is_rewritten = purged > 0 or damaged > 0
        self._is_described = described > 0
        self._cached = self._read_known()
        self._cached.is_closed = self.sidecar.is_closed
        return purged + described, damaged

    def _index(self, message_id: str | None) -> int | None:
        """The index of the last message, or of the one with that id."""
        if not self.exists or not self.count:
            return None
        if message_id is None:
            return self.count - 1
        for index, line in enumerate(self.lines):
            if line.message.message_id == message_id:
                return index
        return None


def _line_of(message: ChatMessage) -> Line:
    if message.message_id is None or message.created_at is None:
        raise OperationRefusedError("a message has no id or no time")
    return Line.of(message, message.message_id)
