"""Returns the space of deleted rows to the file system, a slice at a time.

It merges the indexes, packs the tables, and truncates the free pages off the file.
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
from backscroll_worker.stores.sqlite.fts_merge import (
    INDEXES,
    configure,
    hold_merging,
    merge,
    merge_pace,
)
from backscroll_worker.stores.sqlite.wal import checkpoint, sync, waiting_frames

_REPACKED: Final = (("messages", "id"), ("edits", "id"), ("applied", "op_id"))
_MOST_SLACK: Final = 0.15
_FEWEST_PAGES: Final = 250  # not worthwhile below a megabyte
_FRAMES_PER_CHECKPOINT: Final = 500  # two megabytes


def merge_indexes(door: Door) -> Generator[None]:
    """Rewrite each index as one segment, without the words of deleted messages.

    FTS5's 'optimize' does the same in one step: the first step here is negative.
    """
    for index in INDEXES:
        pace, sign, is_merged = merge_pace(), -1, False
        while not is_merged:
            with pace.slice() as pages, door() as connection:
                if sign < 0:  # appends would continue the work, in steps too large for a commit
                    hold_merging(connection, index)
                is_merged = not merge(connection, index, sign * pages)
                if is_merged:
                    configure(connection, index)
            sign = 1
            yield


def repack(access: Access) -> Generator[None]:
    """Repack tables whose pages have much unused space after deletions.

    SQLite joins neighbouring pages only when they are nearly empty, so half of the rows may occupy
    all of the pages. Rows that are deleted and inserted again in order fill the pages.
    """
    for table, key in _REPACKED:
        with access.unbounded_log():
            slack = yield from aside(partial(_slack, access.path, table))
        if slack > _MOST_SLACK:
            yield from _repack_table(access, table, key)


def give_pages_back(door: Door) -> Generator[None]:
    """Move the pages at the file's end into free ones, and truncate the file."""
    pace, before = Pace(25, most=5_000), -1
    while True:
        with pace.slice() as pages, door() as connection:
            free: Any = connection.pragma("freelist_count")
            # Their number does not decrease if another program rebuilt the file without
            # auto-vacuum.
            if not free or free == before:
                return
            connection.execute(f"PRAGMA incremental_vacuum({pages})").fetchall()
            before = free
        yield


def with_checkpoints(access: Access, slices: Slices[T]) -> Slices[T]:
    """`slices`, with a checkpoint whenever they have written so much.

    Otherwise one commit would have to write all of it. At the end everything is synced.
    """
    put_in_place = partial(aside, partial(checkpoint, access.path))
    yield from put_in_place()
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            yield from put_in_place()
            yield from aside(partial(sync, access.path))
            return cast(T, stop.value)
        yield
        with access.outside() as connection:
            is_due = waiting_frames(connection) >= _FRAMES_PER_CHECKPOINT
        if is_due:
            yield from put_in_place()


def _slack(path: Path, table: str) -> float:
    """The unused share of a table's pages, from 0 to 1; 0 for a small table."""
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
    """A transaction in which deleting and reinserting a row affects no other rows."""
    with access.outside() as connection:
        connection.pragma("foreign_keys", False)
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        try:
            with access.repeatable():
                yield connection
        finally:
            connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
            connection.pragma("foreign_keys", True)


def _repack_rows(
    connection: apsw.Connection, table: str, key: str, stretch: tuple[Any, Any], count: int
) -> Any:
    """Delete the first rows of a range and insert them again; returns the key of the last one."""
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
