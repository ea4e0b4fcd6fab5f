"""The only writer: changes go into the journal, durably, and then into the files.

1. Whole new contents are written to temporary files, so that a full disk is noticed before
   anything has changed.
2. One frame with all changes is written to the journal and synced. That is the commit: from here
   on a kill or a power cut leads to `redo`.
3. Files are appended to, replaced and removed, where readers see it. None is synced.

A failure in 1 or 2 has no effect. After one in 3 the additions are undone, then the frame; once a
file has been replaced or removed that is impossible, and the rest is redone before anything else.

A large journal is retired: the files written since it began are synced a few at a time with each
group, in proportion to the group's size, so that no group waits for all. Then it is removed.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from backscroll.private_files import write_all
from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.changes import Addition, Changes
from backscroll_worker.stores.jsonl.files import (
    TEMPORARY,
    Directory,
    Stamp,
    set_mtime,
    unavailable,
)
from backscroll_worker.stores.jsonl.journal import Journal, entries, journals
from backscroll_worker.stores.jsonl.redo import redo, sync_files

JOURNAL_BYTES: Final = 32 * 1024 * 1024
FILES_PER_STEP: Final = 32
_APPENDING: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC

Stamps = dict[str, Stamp]


class _Retired(NamedTuple):
    """A journal to remove, and after how many bytes in the next one each file is synced."""

    journal: Journal
    bytes_per_file: int


class Writer:
    """Commits changes to the files of a directory, which no other process may write to."""

    def __init__(self, directory: Directory, activity: Activity) -> None:
        self._directory = directory
        self._activity = activity
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._numbers = itertools.count(1)
        self._journal: Journal | None = None
        self._retired: deque[_Retired] = deque()
        self._bytes_ahead = 0

    def recover(self) -> None:
        """Redo the journals, after a crash or a failure; only the disk is relied on."""
        if self._journal is not None:
            self._journal.cut(self._journal.end)
        self._directory.remove_temporary()
        for journal in self._journals():  # if one was removed by hand, only the files have it
            sync_files(self._directory, journal.written)
        names = journals(self._directory)
        if names:
            found = (entries(self._directory, name) for name in names)
            redo(self._directory, self._activity.noting(itertools.chain.from_iterable(found)))
            self._activity.flush()
        for name in names:
            # The older one first, durably: alone it would undo the changes of the newer one.
            self._directory.unlink(name)
            self._directory.sync()
        self.abandon()

    def commit(self, changes: Changes, meanwhile: Callable[[], None] | None = None) -> Stamps:
        """Commit `changes`, all or none. `meanwhile` is called during the journal's sync.

        Returns the new stamps of files, without those that another program wrote to meanwhile.
        """
        if not changes:
            return {}
        self._catch_up()
        journal = self._current()
        stamps = self._prepare(changes)
        start = journal.end
        journal.write(changes, meanwhile)
        stamps.update(self._add(changes.additions, journal, start))
        for number, name in enumerate(changes.replacements):
            self._directory.rename(_temporary(number), name)
        for name in changes.removals:
            self._directory.unlink(name)
        written = journal.written
        for name, addition in changes.additions.items():
            written.setdefault(name, addition.before.size)
        written.update(dict.fromkeys(changes.replacements, 0))
        if self._retired:
            self._bytes_ahead += journal.end - start
        return stamps

    def retire(self) -> int:
        """Begin to sync all files written so far; returns a number for `is_removed`."""
        if self._journal is not None:
            files = len(self._journal.written) + 1
            self._retired.append(_Retired(self._journal, JOURNAL_BYTES // 2 // files))
            self._journal, self._bytes_ahead = None, 0
        return self._retired[-1].journal.number if self._retired else 0

    def is_removed(self, number: int) -> bool:
        """Whether the journal with that number was removed, and all before it."""
        return not self._retired or self._retired[0].journal.number > number

    def sync_some(self, most: int | None = None) -> None:
        """Sync some files of the oldest retired journal, and remove it after the last one."""
        if not self._retired:
            return
        journal = self._retired[0].journal
        names = list(itertools.islice(journal.written, most or FILES_PER_STEP))
        sync_files(self._directory, {name: journal.written.pop(name) for name in names})
        if not journal.written:
            self._directory.sync()  # names too, and the removal of the journal before this one
            self._activity.flush()
            journal.remove()
            self._retired.popleft()

    def close(self) -> None:
        """Sync all files, and leave no journal."""
        number = self.retire()
        while not self.is_removed(number):
            self.sync_some()
        if number:
            self._directory.sync()

    def abandon(self) -> None:
        """Close the journals as they are; the next writer redoes them."""
        for journal in self._journals():
            journal.close()
        self._journal = None
        self._retired.clear()

    def shut_down(self) -> None:
        """Close all files and stop the thread."""
        self.abandon()
        self._syncer.shutdown()

    def _journals(self) -> list[Journal]:
        current = [] if self._journal is None else [self._journal]
        return [*(retired.journal for retired in self._retired), *current]

    def _current(self) -> Journal:
        if self._journal is not None and self._journal.end > JOURNAL_BYTES:
            self.retire()
        if self._journal is None:
            self._journal = Journal(self._directory, next(self._numbers), self._syncer)
            self._directory.sync()  # without its name a journal is lost
        else:
            self._journal.check()
        return self._journal

    def _catch_up(self) -> None:
        """Sync the files that are due, so that the retired journal is gone before this is full."""
        while self._retired and self._bytes_ahead > 0:
            self._bytes_ahead -= self._retired[0].bytes_per_file * FILES_PER_STEP
            self.sync_some()

    def _prepare(self, changes: Changes) -> Stamps:
        return {
            name: self._directory.write_beside(
                name, replacement.content, replacement.mtime, temporary=_temporary(number)
            )
            for number, (name, replacement) in enumerate(changes.replacements.items())
        }

    def _add(self, additions: Mapping[str, Addition], journal: Journal, start: int) -> Stamps:
        """Append to the files. If one fails, all are cut back, and the frame at `start` too."""
        stamps: Stamps = {}
        tried: list[str] = []
        locate = self._directory.locate
        try:
            for name, addition in additions.items():
                tried.append(name)
                stamp = _add(locate(name), addition)
                # If another program has written meanwhile, the file has to be read again.
                if stamp.size == addition.before.size + len(addition.content):
                    stamps[name] = stamp
        except BaseException:
            if _undo((locate(name), additions[name]) for name in tried):
                journal.cut(start)
            raise
        return stamps


def _temporary(number: int) -> str:
    return f"{TEMPORARY}.{number}"


def _add(path: str, addition: Addition) -> Stamp:
    try:
        descriptor = os.open(path, _APPENDING)
        try:
            write_all(descriptor, addition.content)
            set_mtime(descriptor, addition.mtime * 1000)
            return Stamp.of(os.fstat(descriptor))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unavailable(path, error) from error


def _undo(additions: Iterable[tuple[str, Addition]]) -> bool:
    """Cut files back to their old ends; returns whether all were restored."""
    is_done = True
    for path, addition in additions:
        before = addition.before
        try:
            descriptor = os.open(path, _APPENDING)
            try:
                if os.fstat(descriptor).st_size > before.size:
                    os.ftruncate(descriptor, before.size)
                    set_mtime(descriptor, before.mtime_ns)
            finally:
                os.close(descriptor)
        except FileNotFoundError:
            continue
        except OSError:
            is_done = False
    return is_done
