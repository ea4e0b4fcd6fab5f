"""One session while a group works on it: what its files hold, and what is to become of them.

The operations change only this object, and reads see what they changed; `Group.flush` then has
each file written once. A session exists when its messages file does. Everything in that file,
the records of op ids included, changes in one append or in one rename; the attributes are in the
sidecar, with the op ids that changed them.
"""

from __future__ import annotations

from collections.abc import Mapping

from producer.arguments import check_attributes
from producer.errors import OperationRefusedError
from producer.messages import ChatMessage, from_micros, to_micros
from producer.operations import Append, Clear, Delete, Describe, Replace, Rollback
from worker.backends.base import ImportSession, RestoreSession
from worker.backends.jsonl.changes import Addition, Changes, Replacement
from worker.backends.jsonl.files import Directory, Stamp
from worker.backends.jsonl.lines import (
    Line,
    Record,
    Records,
    control_line,
    drop_old,
    joined,
    lines_of,
    rewritten,
)
from worker.backends.jsonl.memory import Memories, Memory
from worker.backends.jsonl.names import SessionNames
from worker.backends.jsonl.sidecar import Sidecar, gone_dumps, gone_loads
from worker.backends.jsonl.transcript import Transcript, parse


class Session:
    """A session as the operations so far have left it."""

    def __init__(
        self, directory: Directory, memories: Memories, key: str, now: int, keep_edits: bool
    ) -> None:
        self.key = key
        self._keep_edits = keep_edits
        self.names = SessionNames.of(key)
        self._directory = directory
        self._memories = memories
        self._now = now
        self._stamp = stamp = directory.stamp(self.names.messages)
        self.exists = self._is_stored = stamp is not None
        self.last_activity = now if stamp is None else stamp.mtime
        self._memory: Memory | None = None
        self._transcript: Transcript | None = None
        self._sidecar: Sidecar | None = None
        self._pending: list[bytes] = []  # whole lines
        self._ends_line = True
        self._read = 0  # how many of these are in the transcript
        self._notes: Records = {}
        self._is_touched = False
        self._is_rewritten = False
        self._is_described = False
        self._has_gone = False
        self._is_erased = False

    @property
    def count(self) -> int:
        """How many messages there are."""
        return self._recall().count

    @property
    def lines(self) -> list[Line]:
        """All messages, those not yet written included."""
        lines = self.transcript.lines
        if self._read < len(self._pending):
            lines += parse(b"".join(self._pending[self._read :]), self.key, self._now).lines
            self._read = len(self._pending)
        return lines

    @property
    def transcript(self) -> Transcript:
        """The messages file's content, as it is or as it is to be rewritten."""
        if self._transcript is None:
            content = (
                self._directory.read(self.names.messages) if self._is_stored else None
            ) or b""
            self._ends_line = not content or content.endswith(b"\n")
            self._transcript = parse(content, self.key, self.sidecar.created_at)
        return self._transcript

    @property
    def sidecar(self) -> Sidecar:
        """The attributes; a session of the original began when its file was last written."""
        if self._sidecar is None:
            self._sidecar = self._load_sidecar()
        return self._sidecar

    @property
    def known(self) -> dict[str, int]:
        """All op ids on record, with how much each touched."""
        return self._recall().known

    def applied(self, op_id: str) -> int | None:
        """How much the operation touched when it was applied before; None if it was not."""
        return (self._memory or self._recall()).known.get(op_id)

    def append(self, operation: Append) -> int:
        op_id, count = operation.op_id, len(operation.messages)
        memory = self._memory or self._recall()
        if count > 1 and any(map(memory.known.__contains__, operation.message_ids)):
            raise OperationRefusedError(
                "a message with this operation's id is stored already, though its op id is "
                "forgotten"
            )
        lines = lines_of(operation)
        if not self._is_touched:
            self._create()
            self._touch()
        self._pending += lines
        memory.count += count
        memory.known[op_id] = count
        return count

    def rollback(self, operation: Rollback) -> int:
        index = self._index(operation.message_id)
        if index is None:
            return self._note(operation.op_id, 0)
        self._touch()
        del self._rewrite()[index]
        self._recall().count -= 1
        return self._done(operation.op_id, 1)

    def replace(self, operation: Replace) -> int:
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
            return self._note(operation.op_id, 0)
        count = self.count
        self._touch()
        self._rewrite().clear()
        self._recall().count = 0
        return self._done(operation.op_id, count)

    def delete(self, operation: Delete) -> int:
        affected = self._note(operation.op_id, int(self.exists))
        if self.exists:
            self.leave()
        return affected

    def describe(self, operation: Describe) -> int:
        check_attributes(operation.attributes)
        self._create()
        self.sidecar.describe(operation.attributes, self._now)
        self.sidecar.applied[operation.op_id] = Record(self._now, 1)
        self._is_described = True
        return self._done(operation.op_id, 1)

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
            self.sidecar.turn_started_at = operation.turn_started_at
        self.sidecar.created_at = operation.created_at
        self._is_described = True
        self._rewrite().extend(lines)
        self.last_activity, self._is_touched = operation.last_activity, False
        memory = self._recall()
        memory.count = len(lines)
        memory.known.update((line.op_id, 1) for line in lines)
        return self._done(operation.op_id, len(lines))

    def put_back(self, operation: RestoreSession) -> int:
        """Have messages from the archive before all others, those excepted that are there."""
        places = [self]
        if operation.source != self.key:
            places.append(
                Session(self._directory, self._memories, operation.source, self._now, False)
            )
        there = {line.message.message_id for place in places for line in place.lines}
        lines = [_line_of(m) for m in operation.messages if m.message_id not in there]
        info, is_new = operation.info, not self.exists
        if is_new and operation.messages and not lines:
            return self._note(operation.op_id, 0)  # they are elsewhere in the store
        self._create()
        if is_new:
            self.sidecar.take_over(info)
            self.last_activity = to_micros(info.last_activity)
        self.sidecar.created_at = min(self.sidecar.created_at, to_micros(info.created_at))
        if info.pinned:
            self.sidecar.attributes["pinned"] = True
        self._is_described = True
        self._rewrite()[:0] = lines
        memory = self._recall()
        memory.count += len(lines)
        for line in lines:
            memory.known.setdefault(line.op_id, 1)
        return self._done(operation.op_id, len(lines))

    def leave(self) -> None:
        """Be gone, but for the op ids; what comes after begins a new session."""
        self._transcript = Transcript(records=self._records({}))
        self._sidecar = Sidecar(self.key, self._now)
        self._pending, self._read, self._notes = [], 0, {}
        self._recall().count = 0
        self.last_activity = self._now
        self.exists = self._is_described = self._is_touched = False
        self._is_rewritten = True

    def drop_oldest(self, count: int) -> None:
        """Lose the oldest messages, which is no activity."""
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
            self._recall().count = len(kept)

    def repeated(self) -> list[Line]:
        """The lines whose message id another one before them has."""
        first = {line.message.message_id: line for line in reversed(self.lines)}
        return [line for line in self.lines if first[line.message.message_id] is not line]

    def drop_damage(self) -> None:
        """Lose the lines that are no messages, and repeated ones; which is no activity."""
        repeated = set(map(id, self.repeated()))
        lines = self._rewrite()
        lines[:] = [line for line in lines if id(line) not in repeated]
        self._recall().count = len(lines)

    def forget_attributes(self) -> None:
        """Have a sidecar that says nothing but when the session began, as far as is known."""
        self._sidecar = Sidecar(self.key, self.sidecar.created_at)
        self._is_described = True

    def compact(self, op_ids_before: int) -> tuple[int, int]:
        """Drop corrupt lines and old records; how many records and lines that were."""
        transcript = self.transcript
        corrupt = len(transcript.corrupt)
        purged = drop_old(transcript.records, op_ids_before)
        described = drop_old(self.sidecar.applied, op_ids_before)
        self._is_rewritten = purged > 0 or corrupt > 0
        self._is_described = described > 0
        self._memory = self._remembered()
        return purged + described, corrupt

    def stage(self, changes: Changes) -> None:
        """Say what is to become of the files."""
        names = self.names
        if not self.exists:
            self._stage_absence(changes)
            return
        if self._is_described:
            changes.put(names.sidecar, self.sidecar.dumps())
        if self._is_rewritten or self._stamp is None:
            changes.replace(
                names.messages, Replacement(self._content(), self.last_activity, self._stamp)
            )
            if self._has_gone:
                changes.remove(names.gone)  # the messages file has its op ids
        elif self._pending or self._notes:
            content = b"".join(self._pending)
            if self._notes:
                content += control_line(self._notes) + b"\n"
            if not self._recall().ends_line:
                content = b"\n" + content  # a torn line must not swallow what comes after it
            changes.add(names.messages, Addition(content, self.last_activity, self._stamp))

    def settle(self, stamps: Mapping[str, Stamp]) -> None:
        """Remember what is committed now."""
        if not (self._is_rewritten or self._pending or self._notes or not self._is_stored):
            return
        stamp = stamps.get(self.names.messages)
        if stamp is None:  # it is gone, or somebody else has written to it
            self._memories.drop(self.key)
        else:
            memory = self._recall()
            memory.stamp, memory.ends_line = stamp, True
            memory.has_sidecar = memory.has_sidecar or self._is_described
            self._memories.put(self.key, memory)

    def _stage_absence(self, changes: Changes) -> None:
        if self._is_stored:
            changes.remove(self.names.messages, self._stamp)
            changes.remove(self.names.sidecar)
        if (self._is_rewritten or self._notes) and (records := self._records({})):
            changes.put(self.names.gone, gone_dumps(records))
        elif self._is_erased:
            changes.remove(self.names.gone)
            changes.remove(self.names.sidecar)

    def _recall(self) -> Memory:
        if self._memory is None:
            self._memory = self._memories.get(self.key, self._stamp)
        if self._memory is None:
            self._memory = self._remembered()
            if self._is_stored:
                self._memories.put(self.key, self._memory)
        return self._memory

    def _remembered(self) -> Memory:
        known, count = self._known(), len(self.transcript.lines)
        return Memory(self._stamp, known, count, self._ends_line)

    def _known(self) -> dict[str, int]:
        if not self._is_stored:
            content = self._directory.read(self.names.gone)
            self._has_gone = content is not None
            self.transcript.records.update(gone_loads(content))
        return {**self._described(), **self.transcript.known()}

    def _described(self) -> dict[str, int]:
        return {op_id: record.affected for op_id, record in self.sidecar.applied.items()}

    def _load_sidecar(self) -> Sidecar:
        content = self._directory.read(self.names.sidecar) if self._is_stored else None
        began = self.last_activity
        loaded = None if content is None else Sidecar.loads(content, self.key, began)
        return loaded or Sidecar(self.key, began, is_damaged=content is not None)

    def _create(self) -> None:
        if not self.exists:
            self._recall()
            self.exists = self._is_described = True

    def _touch(self) -> None:
        """Note the activity; what has no sidecar gets one, lest it began when it is touched."""
        if self._is_touched:
            return
        memory = self._recall()
        if not (memory.has_sidecar or self._is_described):
            memory.has_sidecar = self._directory.stamp(self.names.sidecar) is not None
            if not memory.has_sidecar:
                self._sidecar = self._load_sidecar()  # as long as the file has its old time
                self._is_described = True
        self.last_activity, self._is_touched = self._now, True

    def _index(self, message_id: str | None) -> int | None:
        """Where the last message stands, or the one named."""
        if not self.exists or not self.count:
            return None
        if message_id is None:
            return self.count - 1
        for index, line in enumerate(self.lines):
            if line.message.message_id == message_id:
                return index
        return None

    def _rewrite(self) -> list[Line]:
        lines = self.lines
        self._pending, self._read = [], 0
        self._is_rewritten = True
        return lines

    def _note(self, op_id: str, affected: int) -> int:
        """Record an operation that changed nothing in the file."""
        self._notes[op_id] = Record(self._now, affected)
        return self._done(op_id, affected)

    def _done(self, op_id: str, affected: int) -> int:
        self._recall().known[op_id] = affected
        return affected

    def _content(self) -> bytes:
        lines = rewritten(self.lines)
        records = self._records({**self._described(), **Transcript(lines).known()})
        control = [control_line(records)] if records else []
        return joined([*control, *(line.raw for line in lines)])

    def _records(self, told: Mapping[str, int]) -> Records:
        """The op ids known here, but not those that `told`, the lines, tell by themselves."""
        times = {**self.sidecar.applied, **self.transcript.records}
        return {
            op_id: times.get(op_id) or Record(self._now, affected)
            for op_id, affected in self._recall().known.items()
            if told.get(op_id) != affected
        }


def _line_of(message: ChatMessage) -> Line:
    if message.message_id is None or message.created_at is None:
        raise OperationRefusedError("a message was never stamped with its id and time")
    return Line.of(message, message.message_id)
