"""Overwrites what the database's pages hold besides their rows, a slice at a time.

SQLite forgets without wiping: between the cells of a page, in its free blocks and behind the end of
a row's last overflow page lies what was there before, and its `secure_delete` misses copies that a
page split leaves. Only VACUUM gets rid of these, in one go. Here the unused bytes are set to zero
in the file itself; `pages` knows which they are.

That is safe inside of a write transaction that has written nothing, for a page of which the log has
nothing, nor of any page that says what it is: then the file has all of them as they are, and nobody
else writes to a store. No byte that means anything is touched, so neither a reader nor a crash can
see a page half done. What this connection has cached is dropped, or it would bring back what was
wiped. Nearly all pages are done like this. The few that are left wait for an empty log, and so for
the disk.

A commit between two slices may copy unused bytes from a page that is still to be wiped: SQLite does
so when it splits a page, or moves one. So each page that a commit writes is left for another visit;
`written` knows them. In the end all pages are wiped while the log is empty, within one slice. As a
slice visits more pages than were written since the one before, this comes however much is written.

A file that SQLite finds damaged is not touched at all, as nobody can tell what means something
there.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.contract.errors import StoreUnusableError
from backscroll_worker.contract.pacing import SliceClock, aside
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.scrub.pages import Pages, sync_pages
from backscroll_worker.stores.sqlite.scrub.written import WrittenPages
from backscroll_worker.stores.sqlite.wal import checkpoint, sync

_PAUSE_SECONDS: Final = 0.01
_SLICES_PER_CHECKPOINT: Final = 16
_TURNS: Final = 5
_VISITS_PER_WRITTEN: Final = 1.5  # above 1, or it might never end
_FEW: Final = 50
"""Pages that one slice does without noticeably more time than the checkpoint before it."""


def scrub(access: Access, patience_seconds: float) -> Generator[None, None, bool]:
    """Go through the file and empty the log; False when a reader has kept the log for so long.

    A file that somebody rebuilt without auto-vacuum has no pointer map, and is left as it is.
    Raises `StoreUnusableError` for a damaged one.
    """
    with access.unbounded_log():
        yield from aside(partial(_refuse_damaged, access.path))
        yield from aside(partial(checkpoint, access.path))  # of what came in the meantime
    with access.outside() as connection:
        is_mapped: Any = connection.pragma("auto_vacuum")
        written = WrittenPages(access.path, connection)
    with access.watched_log(written.note):
        earlier = yield from aside(written.earlier)
        written.logged |= earlier
        sweep = _Sweep(access.path, written) if is_mapped else None
        if sweep is not None:
            yield from _scrub_beside_log(access, sweep)
            yield from _take_to_disk(access)
        is_empty = yield from _scrub_without_log(access, written, sweep, patience_seconds)
    yield from aside(partial(sync_pages, access.path))
    return is_empty


class _Sweep:
    """Which pages are wiped, and not written since: those before `page` that are not left."""

    def __init__(self, path: Path, written: WrittenPages) -> None:
        self._path = path
        self._written = written
        self._page = 1
        self._due = list[int]()  # in this turn
        self._later = set[int]()
        self._least = 0.0  # number of pages for the next slice

    @property
    def left(self) -> int:
        """The number of pages for the next turn."""
        return len(self._later)

    def begin_turn(self) -> None:
        """Have another look at the pages that are left."""
        self._due = sorted(self._later.union(self._due), reverse=True)
        self._later.clear()

    def note_written(self, connection: apsw.Connection) -> None:
        """Leave what was written since the slice before; the next one makes up for it."""
        written = self._written.take(connection)
        self._later.update(page for page in written if page < self._page)
        self._least = _VISITS_PER_WRITTEN * len(written)

    def go_on(self, connection: apsw.Connection, clock: SliceClock) -> bool:
        """Scrub pages for as long as a slice lasts; returns whether this turn is over.

        It lasts longer where much was written. Those are left that depend on a page that the log
        has.
        """
        has_wiped, visited = False, 0
        connection.execute("BEGIN IMMEDIATE")
        try:
            with closing(Pages(connection, self._path, self._written.logged)) as pages:
                self._page = min(self._page, pages.count + 1)  # the file may be shorter now
                while (page := self._next(pages.count)) is not None:
                    unused = pages.unused(page)
                    if unused is None:
                        self._later.add(page)
                    for start, end in unused or ():
                        pages.wipe(start, end)
                        has_wiped = True
                    visited += 1
                    if visited >= self._least and clock.is_over:
                        return False
        finally:
            connection.execute("ROLLBACK")
            if has_wiped:
                connection.execute("PRAGMA shrink_memory")
        return True

    def _next(self, count: int) -> int | None:
        if self._page <= count:
            self._page += 1
            return self._page - 1
        while self._due:
            if (page := self._due.pop()) <= count:
                return page
        return None


def _scrub_beside_log(access: Access, sweep: _Sweep) -> Generator[None]:
    """Scrub the pages that have nothing to do with what is in the log, without waiting for it."""
    number = 0
    for _ in range(_TURNS):
        sweep.begin_turn()
        is_over = False
        while not is_over:
            clock = SliceClock()
            with access.outside() as connection:
                sweep.note_written(connection)
                is_over = sweep.go_on(connection, clock)
            yield
            number += 1
            if is_over or number % _SLICES_PER_CHECKPOINT == 0:
                yield from aside(partial(checkpoint, access.path))
        if sweep.left <= _FEW:
            return


def _take_to_disk(access: Access) -> Generator[None]:
    """Sync what was wiped so far, by a checkpoint of something: SQLite lets other threads run
    meanwhile, and `sync_pages` does not.
    """
    with access.repeatable() as connection:
        version: Any = connection.pragma("user_version")
        connection.pragma("user_version", version)
    yield from aside(partial(checkpoint, access.path))
    yield from aside(partial(sync, access.path))  # where a reader has kept it from that


def _scrub_without_log(
    access: Access, written: WrittenPages, sweep: _Sweep | None, patience_seconds: float
) -> Generator[None, None, bool]:
    """Empty the log, and scrub the pages that are left while it is empty."""
    deadline = time.monotonic() + patience_seconds
    while True:
        with access.outside() as connection:
            if written.empty_log(connection):
                if sweep is None:
                    return True
                deadline = time.monotonic() + patience_seconds
                sweep.note_written(connection)
                sweep.begin_turn()
                if sweep.go_on(connection, SliceClock()):
                    return True
            elif time.monotonic() > deadline:
                return False
            else:
                time.sleep(_PAUSE_SECONDS)
        yield


def _refuse_damaged(path: Path) -> None:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        try:
            problem: Any = connection.execute("PRAGMA quick_check(1)").get
        except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError) as error:  # FTS5's is the last
            problem = str(error)
    if problem != "ok":
        raise StoreUnusableError(
            f"{path} is damaged, so what was deleted cannot be wiped: {problem.splitlines()[-1]}. "
            "`backscroll check` says more; restore it from a backup"
        )
