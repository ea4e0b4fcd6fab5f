"""The one that writes: changes go into the journal, durably, and then into the files.

1. Whole new contents are written beside their files, so that a full disk is met before anything
   has happened.
2. One frame with everything goes into the journal, and one sync makes it durable. That is the
   commit: from here on a kill or a power cut leads to `redo`.
3. The files are added to, replaced and removed, where readers see it. None is synced.

A failure in 1 or 2 leaves nothing. One in 3 takes the additions back, and then the frame; once a
file has been replaced or removed there is no way back, and what is left is redone before anything
else happens.

A journal that has grown large is retired: the files written since it began are synced one by one,
some with each group, in proportion to its size, so that none waits for all. Then it is removed.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

from backscroll.private_files import write_all
from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.changes import Addition, Changes
from backscroll_worker.stores.jsonl.files import (
    Directory,
    Stamp,
    naming,
    set_mtime,
    unavailable,
)
from backscroll_worker.stores.jsonl.journal import Journal, entries, journals
from backscroll_worker.stores.jsonl.redo import redo, sync_files
from backscroll_worker.stores.jsonl.temporary import TEMPORARY, rename, sweep, write_temporary

JOURNAL_BYTES: Final = 32 * 1024 * 1024
FILES_A_SLICE: Final = 32
_APPENDING: Final = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC

Stamps = dict[str, Stamp]


class _Retired(NamedTuple):
    """A journal that is to go, and after how many bytes in the next one each file is synced."""

    journal: Journal
    bytes_a_file: int


class Writer:
    """Commits changes to the files of a directory; nobody else may write there meanwhile."""

    def __init__(self, directory: Directory, activity: Activity) -> None:
        self._directory = directory
        self._activity = activity
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._numbers = itertools.count(1)
        self._journal: Journal | None = None
        self._retired: deque[_Retired] = deque()
        self._bytes_ahead = 0

    def recover(self) -> None:
        """Rely on nothing but the disk, after a crash or a failure."""
        if self._journal is not None:
            self._journal.cut(self._journal.end)
        sweep(self._directory)
        for journal in self._journals():  # should somebody have removed one, this is all there is
            sync_files(self._directory, journal.written)
        names = journals(self._directory)
        if names:
            told = (entries(self._directory, name) for name in names)
            redo(self._directory, self._activity.noting(itertools.chain.from_iterable(told)))
            self._activity.flush()
        for name in names:
            # The older one first, and durably so: it alone would undo what the younger one did.
            self._unlink(name)
            self._directory.sync()
        self.abandon()

    def commit(self, changes: Changes, meanwhile: Callable[[], None] | None = None) -> Stamps:
        """Make `changes`, all or none; the stamps of the files that are as they leave them.

        `meanwhile` is called while the disk has the journal.
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
            rename(self._directory, _temporary(number), name)
        for name in changes.removals:
            self._unlink(name)
        written = journal.written
        for name, addition in changes.additions.items():
            written.setdefault(name, addition.before.size)
        written.update(dict.fromkeys(changes.replacements, 0))
        if self._retired:
            self._bytes_ahead += journal.end - start
        return stamps

    def retire(self) -> int:
        """Begin to make everything so far durable in its place; a number for `is_removed`."""
        if self._journal is not None:
            files = len(self._journal.written) + 1
            self._retired.append(_Retired(self._journal, JOURNAL_BYTES // 2 // files))
            self._journal, self._bytes_ahead = None, 0
        return self._retired[-1].journal.number if self._retired else 0

    def is_removed(self, number: int) -> bool:
        """Whether the journal of that number is gone, and all before it."""
        return not self._retired or self._retired[0].journal.number > number

    def sync_some(self) -> None:
        """Sync files that the oldest retired journal speaks of, and remove it after the last."""
        if not self._retired:
            return
        journal = self._retired[0].journal
        names = list(itertools.islice(journal.written, FILES_A_SLICE))
        sync_files(self._directory, {name: journal.written.pop(name) for name in names})
        if not journal.written:
            self._directory.sync()  # the names, too, and the end of the journal before this one
            self._activity.flush()
            journal.remove()
            self._retired.popleft()

    def close(self) -> None:
        """Make everything durable in its place, and leave no journal."""
        number = self.retire()
        while not self.is_removed(number):
            self.sync_some()
        if number:
            self._directory.sync()

    def abandon(self) -> None:
        """Leave the journals as they are, to be redone by whoever writes next."""
        for journal in self._journals():
            journal.close()
        self._journal = None
        self._retired.clear()

    def shut_down(self) -> None:
        """Let go of everything that is open."""
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
            self._directory.sync()  # a journal whose name is lost is none
        else:
            self._journal.check()
        return self._journal

    def _catch_up(self) -> None:
        """Sync as many files as are due for the retired journal to go before this one is full."""
        while self._retired and self._bytes_ahead > 0:
            self._bytes_ahead -= self._retired[0].bytes_a_file * FILES_A_SLICE
            self.sync_some()

    def _prepare(self, changes: Changes) -> Stamps:
        return {
            name: write_temporary(
                self._directory, name, _temporary(number), replacement.content, replacement.mtime
            )
            for number, (name, replacement) in enumerate(changes.replacements.items())
        }

    def _add(self, additions: Mapping[str, Addition], journal: Journal, start: int) -> Stamps:
        """Add to the files. Should one fail, none is added to, and the frame at `start` is void."""
        stamps: Stamps = {}
        tried: list[str] = []
        locate = self._directory.locate
        try:
            for name, addition in additions.items():
                tried.append(name)
                stamp = _add(locate(name), addition)
                # When somebody else has written meanwhile, the file is to be read again.
                if stamp.size == addition.before.size + len(addition.content):
                    stamps[name] = stamp
        except BaseException:
            if _take_back((locate(name), additions[name]) for name in tried):
                journal.cut(start)
            raise
        return stamps

    def _unlink(self, name: str) -> None:
        path = self._directory.locate(name)
        with naming(path), suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - a string; see `locate`


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


def _take_back(additions: Iterable[tuple[str, Addition]]) -> bool:
    """Cut files back to their old ends; whether all are as they were."""
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
