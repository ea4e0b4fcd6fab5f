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
the disk. A file that SQLite finds damaged is not touched at all, as nobody can tell what means
something there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Set
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.contract.errors import StoreUnusableError
from backscroll_worker.contract.pacing import SliceClock, aside
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.scrub.logged import LoggedPages
from backscroll_worker.stores.sqlite.scrub.pages import Pages, sync_pages
from backscroll_worker.stores.sqlite.wal import BUSY_MS, checkpoint

_PAUSE_SECONDS: Final = 0.01
_SLICES_PER_CHECKPOINT: Final = 16
_TURNS: Final = 5
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
    sweep = _Sweep(access.path)
    if is_mapped:
        yield from _scrub_beside_log(access, sweep)
    is_empty = yield from _scrub_without_log(access, sweep if is_mapped else None, patience_seconds)
    yield from aside(partial(sync_pages, access.path))
    return is_empty


class _Sweep:
    """Which pages are done: those before `page`, without those that `left` has."""

    def __init__(self, path: Path) -> None:
        self.left = deque[int]()
        self._path = path
        self._page = 1
        self._due = 0

    def begin_turn(self) -> None:
        """Have another look at the pages that are left."""
        self._due = len(self.left)

    def go_on(self, connection: apsw.Connection, logged: Set[int], clock: SliceClock) -> bool:
        """Scrub pages for as long as a slice lasts; returns whether this turn is over.

        Those are left that depend on a page that is `logged`.
        """
        has_wiped = False
        connection.execute("BEGIN IMMEDIATE")
        try:
            with closing(Pages(connection, self._path, logged)) as pages:
                while (page := self._next(pages.count)) is not None:
                    unused = pages.unused(page)
                    if unused is None:
                        self.left.append(page)
                    for start, end in unused or ():
                        pages.wipe(start, end)
                        has_wiped = True
                    if clock.is_over:
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
            self._due -= 1
            if (page := self.left.popleft()) <= count:
                return page
        return None


def _scrub_beside_log(access: Access, sweep: _Sweep) -> Generator[None]:
    """Scrub the pages that have nothing to do with what is in the log, without waiting for it."""
    logged, number = LoggedPages(access.path), 0
    for _ in range(_TURNS):
        sweep.begin_turn()
        is_over = False
        while not is_over:
            clock = SliceClock()
            with access.outside() as connection:
                if (numbers := logged.read(connection)) is not None:
                    is_over = sweep.go_on(connection, numbers, clock)
            yield
            number += 1
            if is_over or number % _SLICES_PER_CHECKPOINT == 0:
                yield from aside(partial(checkpoint, access.path))
        if len(sweep.left) <= _FEW:
            return


def _scrub_without_log(
    access: Access, sweep: _Sweep | None, patience_seconds: float
) -> Generator[None, None, bool]:
    """Empty the log, and scrub the pages that are left while it is empty."""
    deadline = time.monotonic() + patience_seconds
    while True:
        with access.outside() as connection:
            if _empty_log(connection):
                if sweep is None:
                    return True
                deadline = time.monotonic() + patience_seconds
                sweep.begin_turn()
                if sweep.go_on(connection, frozenset(), SliceClock()):
                    return _empty_log(connection)
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


def _empty_log(connection: apsw.Connection) -> bool:
    """Put the log in its place and cut it to nothing; False when a reader keeps it."""
    connection.set_busy_timeout(0)
    try:
        rows: Any = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.set_busy_timeout(BUSY_MS)
    return not rows[0][0]
