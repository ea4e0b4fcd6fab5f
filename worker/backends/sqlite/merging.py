"""When FTS5 merges the pieces of an index: in bites, as rows come in or in a compaction."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

import apsw

INDEXES: Final = ("message_index", "name_index")

_AUTOMERGE: Final = 8
_SETTINGS: Final = {
    # Eight pieces at a time instead of four: each word is rewritten less often. With a million
    # messages appends take a fifth less for it, and searches take as long as before.
    "automerge": _AUTOMERGE,
    # Else it rewrites a piece of the index when a tenth of its rows is deleted, however large the
    # piece is, and within the commit of whoever deletes the next one.
    "deletemerge": 0,
    # Else it rewrites all pieces of a size at once when there are 16, within one commit. After
    # large groups, small ones make so many pieces before the bites are through with the large.
    "crisismerge": 128,
    # In bytes. Else it writes a piece for every MiB of words, and merges those at the commit.
    "hashsize": 8 * 1024 * 1024,
}


def configure(connection: apsw.Connection, index: str) -> None:
    """Have the index, just made, merge as this module says."""
    for name, value in _SETTINGS.items():
        _set(connection, index, name, value)


def unindex(connection: apsw.Connection, index: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """Take rows out of an index, in a transaction.

    FTS5 counts a deletion as a page written, and would merge so much the more at the commit: for
    two thousand deletions some 25 MB.
    """
    hold_merging(connection, index)
    connection.executemany(f"DELETE FROM {index} WHERE rowid = ?", rows)  # noqa: S608
    connection.execute(f"INSERT INTO {index}({index}) VALUES ('flush')")  # noqa: S608
    _set(connection, index, "automerge", _AUTOMERGE)


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
