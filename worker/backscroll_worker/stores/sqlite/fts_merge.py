"""When FTS5 merges the pieces of an index: in bites, at rest, as rows come in, in a compaction."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import apsw

from backscroll_worker.contract.pacing import Pace

INDEXES: Final = ("message_index", "name_index")

AUTOMERGE: Final = 32
_SETTINGS: Final = {
    # So many pieces at a time, instead of four, when a commit has to: each word is rewritten less
    # often. With a million messages appends take a quarter less than with eight, and searches as
    # long as before.
    "automerge": AUTOMERGE,
    # When nothing waits, `merge` may have fewer.
    "usermerge": 8,
    # Else it rewrites a piece of the index when a tenth of its rows is deleted, however large the
    # piece is, and within the commit of whoever deletes the next one.
    "deletemerge": 0,
    # Else it rewrites all pieces of a size at once when there are 16, within one commit. After
    # large groups, small ones make so many pieces before the bites are through with the large.
    "crisismerge": 256,
    # In bytes. Else it writes a piece for every MiB of words, and merges those at the commit.
    "hashsize": 8 * 1024 * 1024,
}


def configure(connection: apsw.Connection, index: str) -> None:
    """Have the index, just made, merge as this module says."""
    for name, value in _SETTINGS.items():
        _set(connection, index, name, value)


def merge(connection: apsw.Connection, index: str, pages: int) -> bool:
    """Merge pieces, if there are enough of a size, until about so many pages are written.

    Returns whether there were. A negative number has it begin to merge all pieces, of any size.
    https://www.sqlite.org/fts5.html#the_merge_command
    """
    changes = connection.total_changes()
    connection.execute(f"INSERT INTO {index}({index}, rank) VALUES ('merge', ?)", (pages,))  # noqa: S608
    return connection.total_changes() - changes >= 2


def bites() -> Pace:
    """How many pages to `merge` at a time; a page of every piece is written anew besides."""
    return Pace(24, most=64, least=24)


def unindex(connection: apsw.Connection, index: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Take rows out of an index, in a transaction.

    FTS5 counts a deletion as a page written, and would merge so much the more at the commit: for
    two thousand deletions some 25 MB.
    """
    hold_merging(connection, index)
    connection.executemany(f"DELETE FROM {index} WHERE rowid = ?", rows)  # noqa: S608
    connection.execute(f"INSERT INTO {index}({index}) VALUES ('flush')")  # noqa: S608
    _set(connection, index, "automerge", AUTOMERGE)


def hold_merging(connection: apsw.Connection, index: str) -> None:
    """Have commits merge nothing, until `configure`."""
    _set(connection, index, "automerge", 0)


def resume_merging(connection: apsw.Connection) -> None:
    """Have commits merge as this module says, after a compaction that was killed or in a store
    made before it said so.

    Nothing is raised: what is wrong with an index is for `verify` to find.
    """
    for index in INDEXES:
        with suppress(apsw.Error):
            rows: Any = connection.execute(f"SELECT k, v FROM {index}_config")  # noqa: S608
            if not _SETTINGS.items() <= dict(rows).items():
                configure(connection, index)


def _set(connection: apsw.Connection, index: str, name: str, value: int) -> None:
    connection.execute(f"INSERT INTO {index}({index}, rank) VALUES (?, ?)", (name, value))  # noqa: S608
