"""Overwrites what the database's pages hold besides their rows, a slice at a time.

SQLite forgets without wiping: between the cells of a page, in its free blocks and behind the end of
a row's last overflow page lies what was there before, and its `secure_delete` misses copies that a
page split leaves. Only VACUUM gets rid of these, in one go. Here the unused bytes are set to zero
in the file itself; `pages` knows which they are.

That is safe since it happens with the log empty, inside of a write transaction that has written
nothing, and with no page in this connection's cache; nobody else writes to a store. No byte that
means anything is touched, so neither a reader nor a crash can see a page half done. A file that
SQLite finds damaged is not touched at all, as nobody can tell what means something there.
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
from backscroll_worker.stores.sqlite.scrub.pages import Pages
from backscroll_worker.stores.sqlite.wal import BUSY_MS, checkpoint

_PAUSE_SECONDS: Final = 0.01


def scrub(access: Access, patience_seconds: float) -> Generator[None, None, bool]:
    """Empty the log and go through the file; False when a reader has kept the log for so long.

    A file that somebody rebuilt without auto-vacuum has no pointer map, and is left as it is.
    Raises `StoreUnusableError` for a damaged one.
    """
    yield from aside(partial(_refuse_damaged, access.path))
    yield from aside(partial(checkpoint, access.path))  # of what came in the meantime
    page, deadline = 1, time.monotonic() + patience_seconds
    with access.outside() as connection:
        is_mapped: Any = connection.pragma("auto_vacuum")
    while True:
        clock = SliceClock()
        with access.outside() as connection:
            if _empty_log(connection):
                if not is_mapped:
                    return True
                deadline = time.monotonic() + patience_seconds
                next_page = _scrub_some(connection, access.path, page, clock)
                if next_page is None:
                    return _empty_log(connection)
                page = next_page
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


def _scrub_some(
    connection: apsw.Connection, path: Path, page: int, clock: SliceClock
) -> int | None:
    """Scrub pages for as long as a slice lasts; the first of the next, None after the last."""
    connection.execute("PRAGMA shrink_memory")
    connection.execute("BEGIN IMMEDIATE")
    try:
        with closing(Pages(connection, path)) as pages:
            while page <= pages.count:
                for start, end in pages.unused(page):
                    pages.wipe(start, end)
                page += 1
                if clock.is_over:
                    return page
    finally:
        connection.execute("ROLLBACK")
    return None
