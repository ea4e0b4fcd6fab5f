"""When each session was last active: the store's own record, `.activity`.

Other programs set a file's modification time: a copy, a backup, `touch`. So it counts only for
sessions that the store has not seen yet, and if another program has written to the file since. A
line is `<hash of the messages file's name> <last activity> <size>`; the last line of a session is
valid, and a size of -1 means that it was removed. Times are microseconds since 1970 UTC. A line in
JSON is the history of the store's clock; see `contract.clock`.

A group writes nothing here: its journal has the times, and the clock's history if that has to match
them after a kill. Both are added to this file before that journal is removed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Final

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import open_private, write_all
from backscroll_worker.contract.clock import TOLERANCE, ClockRecord, StoreClock
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming, sync_data
from backscroll_worker.stores.jsonl.journal import Added, ClockNoted, Entry, FileEntry, Put

NAME: Final = ".activity"  # the file name of a key never begins with a dot
_REMOVED: Final = -1
_MIN_LINES_TO_REWRITE: Final = 1_000


class Activity:
    """The record, by file name. A reader's record is not written."""

    def __init__(self, directory: Directory, *, read_only: bool) -> None:
        self._directory = directory
        self._read_only = read_only
        self.history: ClockRecord | None = None
        self.clock: StoreClock | None = None
        self.fell_back_to: int | None = None
        """The time since which the clock is behind a time that it had before."""
        self._records: dict[int, tuple[int, int]] = {}
        self._changed: set[int] = set()
        self._is_clock_noted = False  # in a journal, and not in this file yet
        self._lines = 0
        self._stamp: Stamp | None = None
        self.load()

    def load(self) -> None:
        """Read the file if it has changed."""
        try:
            stamp = self._directory.stamp(NAME)
            if stamp == self._stamp:
                return
            content = self._directory.read(NAME) or b""
        except StoreUnavailableError:
            if self._read_only:  # a reader without the permission uses the files' times
                return
            raise
        lines = content.split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self.history = ClockRecord.loads(line) or self.history
        self._records = dict(filter(None, map(_record, lines)))
        for number in [n for n, (_, size) in self._records.items() if size == _REMOVED]:
            del self._records[number]
        self._lines, self._stamp = len(lines), stamp

    @property
    def is_new(self) -> bool:
        """Whether the store has no record yet."""
        return self._stamp is None

    @property
    def latest(self) -> int:
        return max((at for at, _ in self._records.values()), default=0)

    def of(self, name: str, stamp: Stamp, now: int) -> int:
        """The last activity of the session whose messages file has this stamp, at most `now`.

        A change by another program never makes it older.
        """
        number = _number(name)
        at, size = self._records.get(number, (-1, _REMOVED))
        if size != stamp.size:
            at = max(at, min(stamp.mtime, now))
            if not self._read_only:
                self._note(number, at, stamp.size)
        return at

    def note(self, name: str, at: int, size: int) -> None:
        """Record that the session's file has been written."""
        self._note(_number(name), at, size)

    def forget(self, name: str) -> None:
        """Record that the session was removed."""
        number = _number(name)
        if self._records.pop(number, None) is not None:
            self._changed.add(number)

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget sessions whose files were removed by another program."""
        for number in self._records.keys() - set(map(_number, names)):
            del self._records[number]
            self._changed.add(number)

    def stage(self, changes: Changes) -> None:
        """Commit the clock's history with the changes that rely on it."""
        if changes and self.clock is not None and self.clock.must_save:
            changes.clock = self.clock.dumps()

    def settle(self, changes: Changes) -> None:
        """The staged history is committed."""
        if changes.clock is not None and self.clock is not None:
            self.clock.settle()
            self._is_clock_noted = True

    def noting(self, entries: Iterable[Entry]) -> Iterator[FileEntry]:
        """Record the entries of a journal, and pass on those about files."""
        for entry in entries:
            if isinstance(entry, ClockNoted):
                self.history = ClockRecord.loads(entry.history) or self.history
                self._is_clock_noted = True
                continue
            if entry.name.endswith(MESSAGES_SUFFIX):
                if isinstance(entry, Added):
                    self.note(entry.name, entry.mtime, entry.offset + len(entry.content))
                elif isinstance(entry, Put) and entry.mtime is not None:
                    self.note(entry.name, entry.mtime, len(entry.content))
                else:
                    self.forget(entry.name)
            yield entry

    def bring_back(self, now: int) -> None:
        """Move activity in the future, by a clock that was ahead, to now; the order is kept."""
        ahead = [(at, number) for number, (at, _) in self._records.items() if at > now + TOLERANCE]
        for place, (_, number) in enumerate(sorted(ahead)):
            self._note(number, now + place, self._records[number][1])

    def flush(self) -> None:
        """Make all that was recorded durable."""
        is_clock_due = self._is_clock_noted or (self.clock is not None and self.clock.has_changed)
        if self._read_only or not (self._changed or is_clock_due):
            return
        if self._lines + len(self._changed) > 2 * len(self._records) + _MIN_LINES_TO_REWRITE:
            self._rewrite()
        else:
            self._add()
        self._stamp = self._directory.stamp(NAME)
        self._changed.clear()
        self._is_clock_noted = False
        if self.clock is not None:
            self.clock.settle()

    def _note(self, number: int, at: int, size: int) -> None:
        self._records[number] = at, size
        self._changed.add(number)

    def _add(self) -> None:
        path, is_new = self._directory.locate(NAME), self._directory.stamp(NAME) is None
        with naming(path):
            descriptor = open_private(path, os.O_WRONLY | os.O_APPEND)
            try:
                # A line that a crash cut off must not be joined to the next.
                write_all(descriptor, b"\n" + self._dumps(self._changed))
                sync_data(descriptor)
            finally:
                os.close(descriptor)
        if is_new:
            self._directory.sync()
        self._lines += len(self._changed) + 1

    def _rewrite(self) -> None:
        self._directory.replace(NAME, self._dumps(self._records))
        self._directory.sync()
        self._lines = len(self._records)

    def _dumps(self, numbers: Iterable[int]) -> bytes:
        removed = 0, _REMOVED
        records = ((number, *self._records.get(number, removed)) for number in numbers)
        clock = self.clock or self.history
        noted = b"" if clock is None else clock.dumps() + b"\n"
        return b"".join([noted, *(b"%016x %d %d\n" % record for record in records)])


def _number(name: str) -> int:
    # Not the name itself: it contains the key, which an erasure has to remove.
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big")


def _record(line: bytes) -> tuple[int, tuple[int, int]] | None:
    """The record in a line; None if it was cut off."""
    try:
        number, at, size = line.split(b" ")
        return int(number, 16), (int(at), int(size))
    except ValueError:
        return None
