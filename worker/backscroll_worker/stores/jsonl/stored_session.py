"""A session's files while a group works on it: what they hold, and what is to become of them.

A session exists when its messages file does. Everything in that file, the records of op ids
included, changes in one append or in one rename; the attributes are in the sidecar, with the op ids
that changed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from backscroll_worker.stores.jsonl.changes import Addition, Changes, Replacement
from backscroll_worker.stores.jsonl.decoding import ENCODING_BYTES, as_utf8
from backscroll_worker.stores.jsonl.file_names import SessionNames, damaged_name
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming
from backscroll_worker.stores.jsonl.lines import (
    Line,
    Record,
    Records,
    control_line,
    joined,
    note_platform_ids,
    rewritten,
)
from backscroll_worker.stores.jsonl.session_cache import Memories, Memory
from backscroll_worker.stores.jsonl.sidecar import Sidecar, gone_dumps, gone_loads
from backscroll_worker.stores.jsonl.transcript import Transcript, parse, tally


class StoredSession:
    """A session's files, each read when it is asked for, and written once by who flushes the group.

    What the operations do to a session is in `session.Session`.
    """

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
        self.last_activity = now
        if stamp is not None:
            self.last_activity = memories.activity.of(self.names.messages, stamp, now)
        self._memory: Memory | None = None
        self._transcript: Transcript | None = None
        self._sidecar: Sidecar | None = None
        self._pending: list[bytes] = []  # whole lines
        self._ends_line = True
        self._is_foreign = False
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
            self._is_foreign = as_utf8(content) is not content
            self._transcript = parse(content, self.key, self.sidecar.created_at)
        return self._transcript

    @property
    def is_on_disk(self) -> bool:
        """Whether the session is as its file says, so that a part of that can be read."""
        is_read = self._transcript is not None
        return self._is_stored and not (is_read or self._pending or self._is_rewritten)

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

    def stage(self, changes: Changes) -> None:
        """Say what is to become of the files."""
        names = self.names
        if not self.exists:
            self._stage_absence(changes)
            return
        if self._is_described:
            changes.put(names.sidecar, self.sidecar.dumps())
        is_added_to = bool(self._pending or self._notes)
        if is_added_to and self._recall().is_foreign:
            self._is_rewritten = True
        if self._is_rewritten or self._stamp is None:
            changes.replace(
                names.messages, Replacement(self._content(), self.last_activity, self._stamp)
            )
            self._set_damage_aside(changes)
            if self._has_gone:
                changes.remove(names.gone)  # the messages file has its op ids
        elif is_added_to:
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
        if stamp is not None:
            self._memories.activity.note(self.names.messages, self.last_activity, stamp.size)
        elif not self.exists:
            self._memories.activity.forget(self.names.messages)
        if stamp is None:  # it is gone, or somebody else has written to it
            self._memories.drop(self.key)
        else:
            memory = self._recall()
            memory.stamp, memory.ends_line, memory.is_foreign = stamp, True, False
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

    def _set_damage_aside(self, changes: Changes) -> None:
        """Keep what of the old file could not be read, in a file beside the new one."""
        if damage := self.transcript.damage:
            aside = damaged_name(self.names.messages)
            before = self._directory.read(aside) or b""
            changes.put(aside, before + joined(each.raw for each in damage))

    def _recall(self) -> Memory:
        if self._memory is None:
            self._memory = self._memories.get(self.key, self._stamp)
        if self._memory is None:
            self._memory = self._remembered()
            if self._is_stored:
                self._memories.put(self.key, self._memory)
        return self._memory

    def _remembered(self) -> Memory:
        if self.is_on_disk and (found := self._counted()) is not None:
            return found
        known, transcript = self._known(), self.transcript
        return Memory(
            self._stamp,
            known,
            len(transcript.lines),
            self._ends_line,
            is_foreign=self._is_foreign,
            platform_ids=note_platform_ids(transcript.lines, {}),
        )

    def _counted(self) -> Memory | None:
        """Go through the file and keep no line of it; None when it must be read as a whole."""
        path, began = self._directory.path / self.names.messages, self.sidecar.created_at
        with naming(path), suppress(FileNotFoundError), path.open("rb") as file:
            start = file.read(ENCODING_BYTES)
            if as_utf8(start) is not start:
                return None
            file.seek(0)
            known, count, platform_ids = tally(file, self.key, began)
            file.seek(max(0, file.tell() - 1))
            ends_line = file.read(1) in (b"", b"\n")
            known = {**self._described(), **known}
            return Memory(self._stamp, known, count, ends_line, platform_ids=platform_ids)
        return None

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
        if loaded is None:
            return Sidecar(self.key, began, is_damaged=content is not None)
        loaded.bring_back(self._now, self._memories.activity.fell_back_to)
        return loaded

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
