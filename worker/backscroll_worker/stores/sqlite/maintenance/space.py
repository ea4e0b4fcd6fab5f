"""Gives the disk back what deleted rows held, a slice at a time.

Merge the indexes, move what is left closer together, cut the free pages off the file.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import apsw

from backscroll_worker.contract.pacing import Pace, Slices, T, aside
from backscroll_worker.stores.sqlite.access import Access, Door
from backscroll_worker.stores.sqlite.fts_merge import INDEXES, bites, configure, hold_merging, merge
from backscroll_worker.stores.sqlite.wal import checkpoint, sync

_REPACKED: Final = (("messages", "id"), ("edits", "id"), ("applied", "op_id"))
_MOST_SLACK: Final = 0.15
_FEWEST_PAGES: Final = 250  # of less than a megabyte nobody wants half back
_SLICES_A_CHECKPOINT: Final = 4


def merge_indexes(door: Door) -> Generator[None]:
    """Rewrite each index as one piece, without the words of what was deleted.

    It is what FTS5's 'optimize' does in one go: the first step is negative.
    """
    for index in INDEXES:
        pace, sign, is_merged = bites(), -1, False
        while not is_merged:
            with pace.slice() as pages, door() as connection:
                if sign < 0:  # appends would take the work over, in bites too large for a commit
                    hold_merging(connection, index)
                is_merged = not merge(connection, index, sign * pages)
                if is_merged:
                    configure(connection, index)
            sign = 1
            yield


def repack(access: Access) -> Generator[None]:
    """Fill the pages of the tables anew in which deletions left much room.

    SQLite joins neighbouring pages only when they are nearly empty, so half of the rows may keep
    all of the pages. Rows that are taken out and put back in order fill them.
    """
    for table, key in _REPACKED:
        slack = yield from aside(partial(_slack, access.path, table))
        if slack > _MOST_SLACK:
            yield from _repack_table(access, table, key)


def give_pages_back(door: Door) -> Generator[None]:
    """Move the pages at the file's end into the free ones, and cut it off."""
    pace, before = Pace(100, most=5_000), -1
    while True:
        with pace.slice() as pages, door() as connection:
            free: Any = connection.pragma("freelist_count")
            # They do not become fewer when somebody rebuilt the file without auto-vacuum.
            if not free or free == before:
                return
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            before = free
        yield


def with_checkpoints(access: Access, slices: Slices[T]) -> Slices[T]:
    """`slices`, and every few of them what the log has so far is put in its place.

    Otherwise one commit would have to do it for all of them. At the end all is on the disk.
    """
    put_in_place = partial(aside, partial(checkpoint, access.path))
    yield from put_in_place()
    number = 0
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            yield from put_in_place()
            yield from aside(partial(sync, access.path))
            return cast(T, stop.value)
        yield
        number += 1
        if number % _SLICES_A_CHECKPOINT == 0:
            yield from put_in_place()


def _slack(path: Path, table: str) -> float:
    """How much of a table's pages is unused, from 0 to 1; 0 for a small one."""
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        pages, unused, size = connection.execute(
            "SELECT pageno, unused, pgsize FROM dbstat WHERE name = ? AND aggregate = 1", (table,)
        ).fetchone() or (0, 0, 1)
    return float(unused / size) if pages >= _FEWEST_PAGES else 0.0


def _repack_table(access: Access, table: str, key: str) -> Generator[None]:
    with access.outside() as connection:
        end: Any = connection.execute(f"SELECT max({key}) FROM {table}").get  # noqa: S608
    pace, after = Pace(100, most=2_000), None
    while after != end:
        with pace.slice() as count, _replacing(access) as connection:
            after = _repack_rows(connection, table, key, (after, end), count)
        yield


@contextmanager
def _replacing(access: Access) -> Iterator[apsw.Connection]:
    """A transaction in which a row that goes, and comes back, takes nothing else with it."""
    with access.outside() as connection:
        connection.pragma("foreign_keys", False)
        try:
            with access.repeatable():
                yield connection
        finally:
            connection.pragma("foreign_keys", True)


def _repack_rows(
    connection: apsw.Connection, table: str, key: str, stretch: tuple[Any, Any], count: int
) -> Any:
    """Take the first rows of a stretch out and put them back; the key of the last one."""
    after, end = stretch
    lower = "" if after is None else f"{key} > ?1 AND"
    rows: list[Any] = connection.execute(
        f"SELECT {key}, * FROM {table} WHERE {lower} {key} <= ?2 ORDER BY {key} LIMIT ?3",  # noqa: S608
        (after, end, count),
    ).fetchall()
    if not rows:
        return end
    connection.execute(
        f"DELETE FROM {table} WHERE {key} BETWEEN ? AND ?",  # noqa: S608
        (rows[0][0], rows[-1][0]),
    )
    marks = ", ".join("?" * (len(rows[0]) - 1))
    connection.executemany(
        f"INSERT INTO {table} VALUES ({marks})",  # noqa: S608
        [row[1:] for row in rows],
    )
    return rows[-1][0]
