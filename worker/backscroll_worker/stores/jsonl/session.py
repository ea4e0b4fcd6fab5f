"""One session while a group works on it: what each operation makes of it.

The operations change only this object, and reads see what they changed; `Group.flush` then has
each file written once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionAttributes, from_micros, to_micros
from backscroll.contract.operations import Append, Clear, Delete, Describe, Replace, Rollback, Write
from backscroll.contract.validation import check_attributes
from backscroll_worker.contract.attributes import differing
from backscroll_worker.contract.clock import Cutoff, no_later
from backscroll_worker.contract.platform_ids import platform_digest
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.contract.tombstones import Tombstones, digest, emptied_by, undone_by
from backscroll_worker.stores.jsonl.lines import (
    Line,
    Record,
    drop_old,
    lines_of,
    note_platform_ids,
)
from backscroll_worker.stores.jsonl.sidecar import Sidecar
from backscroll_worker.stores.jsonl.stored_session import StoredSession
from backscroll_worker.stores.jsonl.transcript import Damage, Transcript

_MARK: Final = "~"  # no op id has it
_GONE: Final = f"{_MARK}platform "


class Session(StoredSession):
    """A session as the operations so far have left it."""

    def append(self, operation: Append) -> int:
        op_id, count = operation.op_id, len(operation.messages)
        memory = self._memory or self._recall()
        if count > 1 and any(map(memory.known.__contains__, operation.message_ids)):
            raise OperationRefusedError(
                "a message with this operation's id is stored already, though its op id is "
                "forgotten"
            )
        new = self._new_ones(operation)
        lines = lines_of(operation, new)
        if new is not None:
            count = self._note(op_id, len(new))
        if lines and not self._is_touched:
            self._create()
            self._touch()
        if operation.session is not None:
            self._describe_anew(operation.session)
        self._pending += lines
        memory.count += count
        memory.known[op_id] = count
        return count

    def named(self, operation: Append) -> tuple[str, ...] | None:
        """The ids of its messages as they are stored; None if they follow from the op id."""
        known = self._recall().platform_ids
        ids = tuple(
            known.get(message.platform_id or "", id_)
            for message, id_ in zip(operation.messages, operation.message_ids, strict=True)
        )
        return None if ids == operation.message_ids else ids

    def message_id_of(self, platform_id: str) -> str | None:
        """The id of the message that the platform calls so; None if there is none."""
        return self._recall().platform_ids.get(platform_id)

    def rollback(self, operation: Rollback) -> int:
        affected = self._remove(self._index(operation))
        return self._done(operation.op_id, 1) if affected else self._note(operation.op_id, 0)

    def replace(self, operation: Replace) -> int:
        affected = self._put(self._index(operation), operation.message)
        return self._done(operation.op_id, 1) if affected else self._note(operation.op_id, 0)

    def may_come(self, change: Rollback | Replace) -> bool:
        """Whether the change is about a message of the platform's that never was there."""
        memory, id_ = self._recall(), change.platform_id
        return not (id_ is None or id_ in memory.platform_ids or _gone(id_) in memory.known)

    def catch_up(self, change: Rollback | Replace, op_id: str, affected: int) -> int:
        """Carry out what has waited for the append `op_id`; returns what that has affected then."""
        index = self._index(change)
        if isinstance(change, Replace):
            self._put(index, change.message)
            return affected
        return self._note(op_id, affected - self._remove(index))

    def _remove(self, index: int | None) -> int:
        if index is None:
            return 0
        self._touch()
        self._note_gone(self.lines[index : index + 1])
        del self._rewrite()[index]
        self._recall().count -= 1
        return 1

    def _put(self, index: int | None, message: ChatMessage) -> int:
        if index is None:
            return 0
        kept_at = self._now if self._keep_edits else None
        line = self.lines[index].with_message(message, kept_at)
        self._touch()
        self._rewrite()[index] = line
        return 1

    def clear(self, operation: Clear) -> int:
        if not self.exists:
            self._note_emptied(operation)
            return self._note(operation.op_id, 0)
        count = self.count
        self._touch()
        self._note_gone(self.lines)
        self._rewrite().clear()
        self.transcript.damage.clear()
        self._recall().count = 0
        self._note_emptied(operation)
        return self._done(operation.op_id, count)

    def delete(self, operation: Delete) -> int:
        self._note_emptied(operation)
        affected = self._note(operation.op_id, int(self.exists))
        if self.exists:
            self.leave()
        return affected

    def is_late(self, operation: Write, tombstones: Tombstones) -> bool:
        """Whether what it is about was deleted or cleared after it was asked for."""
        moments = [self.applied(_MARK + how) for how in undone_by(operation)]
        return any(
            moment is not None and tombstones.is_before(operation.at, moment) for moment in moments
        )

    def drop_late(self, operation: Write) -> int:
        """Do nothing of it, nor when it is sent again by another way than the spool."""
        return self._note(operation.op_id, 0)

    def _note_emptied(self, operation: Clear | Delete) -> None:
        """Note until when what comes out of a spool is late, as no op id that there could be."""
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
        """Set those attributes that the session does not have; mostly it has them all.

        What a sidecar says that cannot be read may be more than these, and is left for a repair.
        """
        sidecar = self.sidecar
        changed = None if sidecar.is_damaged else differing(sidecar.attributes, attributes)
        if changed:
            sidecar.describe(changed, self._now)
            self._is_described = True

    def rename_agent(self, old: str, new: str | None) -> bool:
        """Give the agent another alias if it has this one; whether it had."""
        if self.sidecar.attributes.get("agent") != old:
            return False
        self.sidecar.attributes["agent"] = new
        self._is_described = True
        return True

    def take_over(self, operation: ImportSession) -> int:
        """Become a session that was elsewhere."""
        if self.exists and self.count:
            raise OperationRefusedError(
                f"the store has a session {self.key!r} with another history already"
            )
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
        memory = self._recall()
        memory.count = len(lines)
        memory.known.update((line.op_id, 1) for line in lines)
        note_platform_ids(lines, memory.platform_ids)
        return self._done(operation.op_id, len(lines))

    def put_back(self, operation: RestoreSession, elsewhere: Iterable[Session]) -> int:
        """Have messages from the archive before all others, those excepted that are there, or in
        the sessions `elsewhere`.
        """
        places = [self, *elsewhere]
        there = {line.message.message_id for place in places for line in place.lines}
        lines = [_line_of(m) for m in operation.messages if m.message_id not in there]
        platform_ids = self._recall().platform_ids
        info, is_new = operation.info, not self.exists
        if is_new and operation.messages and not lines:
            return self._note(operation.op_id, 0)  # they are elsewhere in the store
        lines = [line for line in lines if line.message.platform_id not in platform_ids]
        self._create()
        if is_new:
            self.sidecar.take_over(info, self._now)
            self.last_activity = min(to_micros(info.last_activity), self._now)
        self.sidecar.created_at = min(self.sidecar.created_at, to_micros(info.created_at))
        if info.pinned:
            self.sidecar.attributes["pinned"] = True
        if lines and operation.source != self.key:
            self.sidecar.restored_from = digest("key", operation.source).hex()
        self._is_described = True
        self._rewrite()[:0] = lines
        memory = self._recall()
        memory.count += len(lines)
        for line in lines:
            memory.known.setdefault(line.op_id, 1)
        note_platform_ids(lines, memory.platform_ids)
        return self._done(operation.op_id, len(lines))

    def leave(self) -> None:
        """Be gone, but for the op ids; what comes after begins a new session."""
        memory = self._recall()
        memory.platform_ids.clear()
        for mark in [name for name in memory.known if name.startswith(_GONE)]:
            del memory.known[mark]
        self._transcript = Transcript(records=self._records({}))
        self._sidecar = Sidecar(self.key, self._now)
        self._pending, self._read, self._notes = [], 0, {}
        self._recall().count = 0
        self.last_activity = self._now
        self.exists = self._is_described = self._is_touched = False
        self._is_rewritten = True

    def drop_oldest(self, count: int) -> None:
        """Lose the oldest messages, which is no activity."""
        self._note_gone(self.lines[:count])
        del self._rewrite()[:count]
        self._recall().count -= count

    def erase(self) -> None:
        """Be gone without a trace, op ids included."""
        self.leave()
        self._transcript = Transcript()
        self._recall().known.clear()
        self._has_gone = self._is_erased = True

    def erase_until(self, moment: int) -> None:
        """Erase what was said until `moment`, and everything if that is all there is."""
        if not self.exists:
            return
        latest = from_micros(moment)
        kept = [line for line in self.lines if (line.message.created_at or latest) > latest]
        if not kept:
            self.erase()
        elif len(kept) < len(self.lines):
            self._touch()
            self._rewrite()[:] = kept
            self.transcript.damage.clear()  # it may be of then, too
            memory = self._recall()
            memory.count, memory.platform_ids = len(kept), note_platform_ids(kept, {})

    def repeated(self) -> list[Line]:
        """The lines whose message id another one before them has."""
        first = {line.message.message_id: line for line in reversed(self.lines)}
        return [line for line in self.lines if first[line.message.message_id] is not line]

    def drop_damage(self) -> None:
        """Set aside what cannot be read, and repeated lines; which is no activity."""
        repeated = self.repeated()
        places = set(map(id, repeated))
        lines = self._rewrite()
        lines[:] = [line for line in lines if id(line) not in places]
        self.transcript.damage += [Damage(0, line.raw, "repeated") for line in repeated]
        self._recall().count = len(lines)

    def forget_attributes(self) -> None:
        """Have a sidecar that says nothing but when the session began, as far as is known."""
        self._sidecar = Sidecar(self.key, self.sidecar.created_at)
        self._is_described = True

    def compact(self, old: Cutoff) -> tuple[int, int]:
        """Drop old records and set damage aside; how many records and damaged lines there were."""
        transcript = self.transcript
        damaged = len(transcript.damage)
        purged = drop_old(transcript.records, old)
        described = drop_old(self.sidecar.applied, old)
        self._is_rewritten = purged > 0 or damaged > 0
        self._is_described = described > 0
        self._memory = self._remembered()
        return purged + described, damaged

    def _new_ones(self, operation: Append) -> list[int] | None:
        """Which of its messages are to be stored; None for all of them.

        A message is not stored again whose platform id the session has, or had.
        """
        memory, new, ids = self._recall(), list[int](), operation.message_ids
        for index, message in enumerate(operation.messages):
            platform_id = message.platform_id
            if platform_id is not None:
                if platform_id in memory.platform_ids or _gone(platform_id) in memory.known:
                    continue
                memory.platform_ids[platform_id] = ids[index]
            new.append(index)
        return None if len(new) == len(ids) else new

    def _note_gone(self, lines: Iterable[Line]) -> None:
        """Note that messages are gone which are not to be stored again."""
        platform_ids = self._recall().platform_ids
        for line in lines if platform_ids else ():
            platform_id = line.message.platform_id
            if platform_id is not None:
                platform_ids.pop(platform_id, None)
                self._note(_gone(platform_id), 0)

    def _index(self, operation: Rollback | Replace) -> int | None:
        """Where the last message stands, or the one named."""
        if not self.exists or not self.count:
            return None
        message_id = operation.message_id
        if operation.platform_id is not None:
            message_id = self.message_id_of(operation.platform_id)
        elif message_id is None:
            return self.count - 1
        for index, line in enumerate(self.lines):
            if line.message.message_id == message_id:
                return index
        return None


def _gone(platform_id: str) -> str:
    return _GONE + platform_digest(platform_id).hex()


def _line_of(message: ChatMessage) -> Line:
    if message.message_id is None or message.created_at is None:
        raise OperationRefusedError("a message was never stamped with its id and time")
    return Line.of(message, message.message_id)
