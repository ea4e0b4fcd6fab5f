"""When FTS5 merges index segments: incrementally while idle, on commit, fully in a compaction."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import apsw

from backscroll_worker.contract.pacing import Pace

INDEXES: Final = ("message_index", "name_index")

AUTOMERGE: Final = 32
_SETTINGS: Final = {
    # The number of segments that a commit merges, instead of four: each word is rewritten less
    # often. With a million messages appends take a quarter less time than with eight, and searches
    # as long as before.
    "automerge": AUTOMERGE,
    # The minimum for `merge`, which runs while the worker is idle.
    "usermerge": 8,
    # Otherwise FTS5 rewrites a segment when a tenth of its rows is deleted, whatever its size,
    # within the commit that deletes the next row.
    "deletemerge": 0,
    # Otherwise it merges all segments of a level at once when there are 16, within one commit.
    # After large groups, small ones create that many before the merge steps are done with the large
    # ones.
    "crisismerge": 256,
    # In bytes. Otherwise it writes a segment per MiB of words, and merges those at the commit.
    "hashsize": 8 * 1024 * 1024,
}


def configure(connection: apsw.Connection, index: str) -> None:
    """Configure a new index to merge as this module says."""
    for name, value in _SETTINGS.items():
        _set(connection, index, name, value)


def merge(connection: apsw.Connection, index: str, pages: int) -> bool:
    """Merge segments, if a level has enough of them, until about `pages` pages are written.

    Returns whether it merged. A negative number starts a merge of all segments of all levels.
    https://www.sqlite.org/fts5.html#the_merge_command
    """
    changes = connection.total_changes()
    connection.execute(f"INSERT INTO {index}({index}, rank) VALUES ('merge', ?)", (pages,))  # noqa: S608
    return connection.total_changes() - changes >= 2


def merge_pace() -> Pace:
    """How many pages to `merge` per step; a page of each segment is rewritten in addition."""
    return Pace(24, most=64, least=24)


def unindex(connection: apsw.Connection, index: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Delete rows from an index, within a transaction.

    FTS5 counts a deletion as a page written, and would merge accordingly more at the commit: some
    25 MB for two thousand deletions.
    """
    hold_merging(connection, index)
    connection.executemany(f"DELETE FROM {index} WHERE rowid = ?", rows)  # noqa: S608
    connection.execute(f"INSERT INTO {index}({index}) VALUES ('flush')")  # noqa: S608
    _set(connection, index, "automerge", AUTOMERGE)


def hold_merging(connection: apsw.Connection, index: str) -> None:
    """Let commits merge nothing, until `configure`."""
    _set(connection, index, "automerge", 0)


def resume_merging(connection: apsw.Connection) -> None:
    """Restore this module's settings, after a compaction that was killed or in an older store.

    Nothing is raised: `verify` reports damaged indexes.
    """
    for index in INDEXES:
        with suppress(apsw.Error):
            rows: Any = connection.execute(f"SELECT k, v FROM {index}_config")  # noqa: S608
            if not _SETTINGS.items() <= dict(rows).items():
                configure(connection, index)


def _set(connection: apsw.Connection, index: str, name: str, value: int) -> None:
    connection.execute(f"INSERT INTO {index}({index}, rank) VALUES (?, ?)", (name, value))  # noqa: S608
