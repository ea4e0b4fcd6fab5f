"""One session while a group works on it: what its files hold, and what is to become of them.

The operations change only this object, and reads see what they changed; `Group.flush` then has
each file written once. A session exists when its messages file does. Everything in that file,
the records of op ids included, changes in one append or in one rename; the sidecar is a second
file, so nothing that one operation does is ever spread over both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from producer.arguments import check_attributes
from producer.errors import OperationRefusedError
from producer.ids import message_id as derived_message_id
from producer.messages import ChatMessage
from worker.backends.jsonl.files import Addition, Directory
from worker.backends.jsonl.lines import (
    WHOLE,
    Line,
    Part,
    Record,
    Records,
    control_line,
    drop_old,
    joined,
    rewritten,
)
from worker.backends.jsonl.memory import Memories, Memory
from worker.backends.jsonl.names import SessionNames
from worker.backends.jsonl.sidecar import Sidecar, gone_dumps, gone_loads
from worker.backends.jsonl.transcript import Transcript, parse


class Session:
    """A session as the operations so far have left it."""

    def __init__(self, directory: Directory, memories: Memories, key: str, now: int) -> None:
        self.key = key
        self.names = SessionNames.of(key)
        self._directory = directory
        self._memories = memories
        self._now = now
        self._stamp = directory.stamp(self.names.messages)
        self.exists = self._is_stored = self._stamp is not None
        self.last_activity = now if self._stamp is None else self._stamp.mtime
        self._memory: Memory | None = None
        self._transcript: Transcript | None = None
        self._sidecar: Sidecar | None = None
        self._pending: list[Line] = []
        self._notes: Records = {}
        self._is_rewritten = False
        self._is_described = False
        self._must_sync = False

    @property
    def is_new(self) -> bool:
        """Whether the session is to come into being."""
        return self.exists and not self._is_stored

    @property
    def count(self) -> int:
        """How many messages there are."""
        return self._recall().count

    @property
    def lines(self) -> list[Line]:
        """All messages, those not yet written included."""
        return [*self.transcript.lines, *self._pending]

    @property
    def transcript(self) -> Transcript:
        """The messages file's content, as it is or as it is to be rewritten."""
        if self._transcript is None:
            content = self._directory.read(self.names.messages) if self._is_stored else None
            self._transcript = parse(content or b"", self.key, self.sidecar.created_at)
        return self._transcript

    @property
    def sidecar(self) -> Sidecar:
        """The attributes; a session of the original began when its file was last written."""
        if self._sidecar is None:
            self._sidecar = self._load_sidecar()
        return self._sidecar

    def applied(self, op_id: str) -> int | None:
        """How much the operation touched when it was applied before; None if it was not."""
        memory = self._recall()
        affected = memory.known.get(op_id)
        if affected is not None and self._is_stored and not memory.is_synced:
            self._must_sync = True  # before anybody is told that it is done
        return affected

    def append(self, op_id: str, messages: Sequence[ChatMessage]) -> int:
        count = len(messages)
        lines = []
        for index, message in enumerate(messages):
            if message.message_id != derived_message_id(op_id, index):
                raise OperationRefusedError("the messages were not stamped with the op id")
            lines.append(_line(message, op_id, Part(index, count) if count > 1 else WHOLE))
        memory = self._recall()
        if any(line.message.message_id in memory.known for line in lines):
            raise OperationRefusedError(
                "a message with this operation's id is stored already, though its op id is "
                "forgotten"
            )
        self._create()
        self._touch()
        self._pending += lines
        memory.count += count
        return self._done(op_id, count)

    def rollback(self, op_id: str, message_id: str | None) -> int:
        index = self._index(message_id)
        if index is None:
            return self._note(op_id)
        self._touch()
        del self._rewrite()[index]
        self._recall().count -= 1
        return self._done(op_id, 1)

    def replace(self, op_id: str, message: ChatMessage, message_id: str | None) -> int:
        index = self._index(message_id)
        if index is None:
            return self._note(op_id)
        line = self.lines[index].with_message(message)
        self._touch()
        self._rewrite()[index] = line
        return self._done(op_id, 1)

    def clear(self, op_id: str) -> int:
        if not self.exists:
            return self._note(op_id)
        count = self.count
        self._touch()
        self._rewrite().clear()
        self._recall().count = 0
        return self._done(op_id, count)

    def describe(self, op_id: str, attributes: Mapping[str, str | bool | None]) -> int:
        check_attributes(attributes)
        self._create()
        self.sidecar.describe(attributes, self._now)
        self.sidecar.applied[op_id] = Record(self._now, 1)
        self._is_described = True
        return self._done(op_id, 1)

    def take_over(
        self,
        op_id: str,
        messages: Sequence[ChatMessage],
        attributes: Mapping[str, str | bool | None],
        created_at: int,
        last_activity: int,
    ) -> int:
        """Become a session that was elsewhere.

        Its attributes come first and without a record: when only they get to the disk, the same
        import sets them again.
        """
        if self.exists and self.count:
            raise OperationRefusedError(
                f"the store has a session {self.key!r} with another history already"
            )
        lines = [_line(message, message.message_id or "") for message in messages]
        if len({line.op_id for line in lines}) < len(lines):
            raise OperationRefusedError("two of the messages have the same id")
        if attributes:
            check_attributes(attributes)
        self._create()
        self.sidecar.describe(attributes, self._now)
        self.sidecar.created_at = created_at
        self._is_described = True
        self._rewrite().extend(lines)
        self.last_activity = last_activity
        memory = self._recall()
        memory.count = len(lines)
        memory.known.update((line.op_id, 1) for line in lines)
        return self._done(op_id, len(lines))

    def note(self, op_id: str, affected: int) -> None:
        """Record an operation that changed nothing here, or whose effect is on the disk."""
        self._notes[op_id] = Record(self._now, affected)
        self._recall().known[op_id] = affected

    def leave_records(self) -> None:
        """Lay down every op id known here, for when the session is gone."""
        records = self._records({})
        if records:
            self._directory.replace(self.names.gone, gone_dumps(records))

    def compact(self, op_ids_before: int) -> tuple[int, int]:
        """Drop corrupt lines and old records; how many records and lines that were."""
        transcript = self.transcript
        corrupt = len(transcript.corrupt)
        purged = drop_old(transcript.records, op_ids_before)
        described = drop_old(self.sidecar.applied, op_ids_before)
        self._is_rewritten = purged > 0 or corrupt > 0
        self._is_described = described > 0
        self._memory = Memory(self._stamp, self._known(), len(transcript.lines))
        return purged + described, corrupt

    def write_sidecar(self) -> None:
        if self._is_described:
            self._directory.replace(self.names.sidecar, self.sidecar.dumps())

    def write_messages(self) -> Addition | None:
        """Write what has to be written anew; returns what there is to append instead."""
        if not self.exists:
            if self._notes:
                self.leave_records()
            return None
        if self._is_rewritten or not self._is_stored:
            self._directory.replace(self.names.messages, self._content(), self.last_activity)
            return None
        if not (self._pending or self._notes or self._must_sync):
            return None
        lines = [line.raw for line in self._pending]
        if self._notes:
            lines.append(control_line(self._notes))
        return Addition(self.names.messages, joined(lines), self.last_activity)

    def settle(self) -> None:
        """Remember what is durable now."""
        if self.is_new:
            self._directory.remove(self.names.gone)  # the messages file has its op ids
        is_written = self._is_rewritten or self._pending or self._notes or self._must_sync
        if self.exists and (is_written or self.is_new):
            memory = self._recall()
            memory.stamp = self._directory.stamp(self.names.messages)
            memory.is_synced = True
            self._memories.put(self.key, memory)

    def _recall(self) -> Memory:
        if self._memory is None:
            self._memory = self._memories.get(self.key, self._stamp)
        if self._memory is None:
            self._memory = Memory(self._stamp, self._known(), len(self.transcript.lines))
            if self._is_stored:
                self._memories.put(self.key, self._memory)
        return self._memory

    def _known(self) -> dict[str, int]:
        if not self._is_stored:
            gone = gone_loads(self._directory.read(self.names.gone))
            self.transcript.records.update(gone)
        return {**self._described(), **self.transcript.known()}

    def _described(self) -> dict[str, int]:
        return {op_id: record.affected for op_id, record in self.sidecar.applied.items()}

    def _load_sidecar(self) -> Sidecar:
        content = self._directory.read(self.names.sidecar) if self._is_stored else None
        began = self.last_activity
        loaded = None if content is None else Sidecar.loads(content, self.key, began)
        return loaded or Sidecar(self.key, began)

    def _create(self) -> None:
        if not self.exists:
            self._recall()
            self.exists = self._is_described = True

    def _touch(self) -> None:
        may_lack = self._is_stored and not self._is_described
        if may_lack and self._directory.stamp(self.names.sidecar) is None:
            self._sidecar = self._load_sidecar()  # as long as the file has its old time
            self._is_described = True
        self.last_activity = self._now

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
        self._recall()
        self.transcript.lines += self._pending
        self._pending = []
        self._is_rewritten = True
        return self.transcript.lines

    def _note(self, op_id: str) -> int:
        self.note(op_id, 0)
        return 0

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


def _line(message: ChatMessage, op_id: str, part: Part = WHOLE) -> Line:
    if message.message_id is None or message.created_at is None:
        raise OperationRefusedError("a message was never stamped with its id and time")
    return Line.of(message, op_id, part)
