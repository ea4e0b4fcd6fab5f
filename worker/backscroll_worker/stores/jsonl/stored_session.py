"""A session's files while a group works on it: their content, and their changes.

A session exists if its messages file does. That file, which includes records of op ids, changes by
one append or one rename. The attributes are in the sidecar, with the op ids that changed them.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from backscroll.contract.messages import SessionInfo
from backscroll_worker.stores.jsonl.changes import Addition, Changes, Replacement
from backscroll_worker.stores.jsonl.decoding import ENCODING_BYTES, as_utf8
from backscroll_worker.stores.jsonl.file_names import SessionNames
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming
from backscroll_worker.stores.jsonl.lines import (
    Line,
    Record,
    Records,
    control_line,
    dump_records,
    joined,
    load_records,
    note_platform_ids,
    rewritten,
)
from backscroll_worker.stores.jsonl.session_cache import CachedSession, SessionCache
from backscroll_worker.stores.jsonl.sidecar import Sidecar
from backscroll_worker.stores.jsonl.transcript import Transcript, parse, tally


class StoredSession:
    """A session's files, each read when needed, and written once when the group is flushed.

    The operations are in `session.Session`.
    """

    def __init__(
        self, directory: Directory, cache: SessionCache, key: str, now: int, keep_edits: bool
    ) -> None:
        self.key = key
        self._keep_edits = keep_edits
        self.names = SessionNames.of(key)
        self._directory = directory
        self._cache = cache
        self._now = now
        self._stamp = stamp = directory.stamp(self.names.messages)
        self.exists = self._is_stored = stamp is not None
        self.last_activity = now
        if stamp is not None:
            self.last_activity = cache.activity.of(self.names.messages, stamp, now)
        self._cached: CachedSession | None = None
        self._transcript: Transcript | None = None
        self._sidecar: Sidecar | None = None
        self._pending: list[bytes] = []  # whole lines
        self._ends_line = True
        self._is_foreign = False
        self._read = 0  # the number of pending lines that are in the transcript
        self._notes: Records = {}
        self._is_touched = False
        self._is_rewritten = False
        self._is_described = False
        self._has_gone = False
        self._is_erased = False

    @property
    def count(self) -> int:
        """The number of messages."""
        return self._cached_session().count

    @property
    def lines(self) -> list[Line]:
        """All messages, including those not written yet."""
        lines = self.transcript.lines
        if self._read < len(self._pending):
            lines += parse(b"".join(self._pending[self._read :]), self.key, self._now).lines
            self._read = len(self._pending)
        return lines

    @property
    def transcript(self) -> Transcript:
        """The messages file's content, or that of its rewrite."""
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
        """Whether the session equals its file, so that reading a part of it is enough."""
        is_read = self._transcript is not None
        return self._is_stored and not (is_read or self._pending or self._is_rewritten)

    @property
    def sidecar(self) -> Sidecar:
        """The attributes; without a sidecar, the file's time counts as that of creation."""
        if self._sidecar is None:
            self._sidecar = self._load_sidecar()
        return self._sidecar

    def info(self) -> SessionInfo:
        """The session as in a listing."""
        return self.sidecar.info(self.last_activity, self.count)

    @property
    def known(self) -> dict[str, int]:
        """All recorded op ids, with the number of messages each affected."""
        return self._cached_session().known

    def applied(self, op_id: str) -> int | None:
        """The number of messages the operation affected; None if it was not applied before."""
        return (self._cached or self._cached_session()).known.get(op_id)

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more messages; known without reading the sidecar again."""
        known = self._cached_session() if self._sidecar is None else self._sidecar
        return known.is_closed

    def stage(self, changes: Changes) -> None:
        """Add the changes of the session's files to `changes`."""
        names = self.names
        if not self.exists:
            self._stage_absence(changes)
            return
        if self._is_described:
            changes.put(names.sidecar, self.sidecar.dumps())
            self._cached_session().is_closed = self.sidecar.is_closed
        is_added_to = bool(self._pending or self._notes)
        if is_added_to and self._cached_session().is_foreign:
            self._is_rewritten = True
        if self._is_rewritten or self._stamp is None:
            content = self._content()
            changes.replacements[names.messages] = Replacement(
                content, self.last_activity, self._stamp
            )
            if damage := self.transcript.damage:
                damaged = joined(each.raw for each in damage)
                changes.set_aside(self._directory, names.messages, damaged)
            if self._has_gone:
                changes.remove(names.gone)  # the messages file has its op ids
        elif is_added_to:
            content = b"".join(self._pending)
            if self._notes:
                content += control_line(self._notes) + b"\n"
            if not self._cached_session().ends_line:
                content = b"\n" + content  # or it would be joined to a torn line
            addition = Addition(content, self.last_activity, self._stamp)
            changes.additions[names.messages] = addition

    def settle(self, stamps: Mapping[str, Stamp]) -> None:
        """Update the caches after the commit."""
        if not (self._is_rewritten or self._pending or self._notes or not self._is_stored):
            return
        stamp = stamps.get(self.names.messages)
        if stamp is not None:
            self._cache.activity.note(self.names.messages, self.last_activity, stamp.size)
        elif not self.exists:
            self._cache.activity.forget(self.names.messages)
        if stamp is None:  # it was removed, or another program has written to it
            self._cache.drop(self.key)
        else:
            cached = self._cached_session()
            cached.stamp, cached.ends_line, cached.is_foreign = stamp, True, False
            cached.has_sidecar = cached.has_sidecar or self._is_described
            self._cache.put(self.key, cached)

    def _stage_absence(self, changes: Changes) -> None:
        if self._is_stored:
            changes.remove(self.names.messages, self._stamp)
            changes.remove(self.names.sidecar)
        if (self._is_rewritten or self._notes) and (records := self._records({})):
            changes.put(self.names.gone, dump_records(records))
        elif self._is_erased:
            changes.remove(self.names.gone)
            changes.remove(self.names.sidecar)

    def _cached_session(self) -> CachedSession:
        if self._cached is None:
            self._cached = self._cache.get(self.key, self._stamp)
        if self._cached is None:
            self._cached = self._read_known()
            if self._is_stored:
                self._cache.put(self.key, self._cached)
        return self._cached

    def _read_known(self) -> CachedSession:
        found = self._counted() if self.is_on_disk else None
        if found is None:
            known, transcript = self._known(), self.transcript
            found = CachedSession(
                self._stamp,
                known,
                len(transcript.lines),
                self._ends_line,
                is_foreign=self._is_foreign,
                platform_ids=note_platform_ids(transcript.lines, {}),
            )
        found.is_closed = self.sidecar.is_closed
        return found

    def _counted(self) -> CachedSession | None:
        """Count the file's lines without keeping them; None if it has to be read as a whole."""
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
            return CachedSession(self._stamp, known, count, ends_line, platform_ids=platform_ids)
        return None

    def _known(self) -> dict[str, int]:
        if not self._is_stored:
            content = self._directory.read(self.names.gone)
            self._has_gone = content is not None
            self.transcript.records.update(load_records(content))
        return {**self._described(), **self.transcript.known()}

    def _described(self) -> dict[str, int]:
        return {op_id: record.affected for op_id, record in self.sidecar.applied.items()}

    def _load_sidecar(self) -> Sidecar:
        content = self._directory.read(self.names.sidecar) if self._is_stored else None
        began = self.last_activity
        loaded = None if content is None else Sidecar.loads(content, self.key, began)
        if loaded is None:
            return Sidecar(self.key, began, is_damaged=content is not None)
        loaded.bring_back(self._now, self._cache.activity.fell_back_to)
        return loaded

    def _create(self) -> None:
        if not self.exists:
            self._cached_session()
            self.exists = self._is_described = True

    def _touch(self) -> None:
        """Record activity. A session without a sidecar gets one, to keep its time of creation."""
        if self._is_touched:
            return
        cached = self._cached_session()
        if not (cached.has_sidecar or self._is_described):
            cached.has_sidecar = self._directory.stamp(self.names.sidecar) is not None
            if not cached.has_sidecar:
                self._sidecar = self._load_sidecar()  # while the file still has its old time
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
        self._cached_session().known[op_id] = affected
        return affected

    def _content(self) -> bytes:
        lines = rewritten(self.lines)
        records = self._records({**self._described(), **Transcript(lines).known()})
        control = [control_line(records)] if records else []
        return joined([*control, *(line.raw for line in lines)])

    def _records(self, written: Mapping[str, int]) -> Records:
        """The known op ids except those in `written`, which the lines themselves record."""
        times = {**self.sidecar.applied, **self.transcript.records}
        return {
            op_id: times.get(op_id) or Record(self._now, affected)
            for op_id, affected in self._cached_session().known.items()
            if written.get(op_id) != affected
        }
