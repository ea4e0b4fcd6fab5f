"""The version of the folding rules by which the database's two indexes were made.

It is in a table beside the schema's, which earlier versions ignore: a store without this table was
made by one of them. What such a store has is indexed again a slice at a time (`refolded`), while
the worker is idle or by a compaction; until then a search looks for the words in both forms.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import apsw

from backscroll_worker.contract.pacing import Pace
from backscroll_worker.stores.search.query import Query
from backscroll_worker.stores.search.text import FOLDING, folded, formerly_folded
from backscroll_worker.stores.sqlite.access import Door
from backscroll_worker.stores.sqlite.fts_merge import unindex

_SOURCES: Final = {"message_index": ("messages", "content"), "name_index": ("sessions", "name")}
_ANY_ROW: Final = (1 << 63) - 1


def is_folded_by_older_rules(connection: apsw.Connection) -> bool:
    """Whether some words in the indexes may differ from those that a search now looks for."""
    return _version(connection) < FOLDING


def write_folding(connection: apsw.Connection) -> None:
    """Record that all words in the indexes were folded by the current rules."""
    connection.execute("CREATE TABLE IF NOT EXISTS folding(version INTEGER NOT NULL)")
    connection.execute("DELETE FROM folding")
    connection.execute("INSERT INTO folding VALUES (?)", (FOLDING,))
    connection.execute("DROP TABLE IF EXISTS refolding")


def query_of_index(connection: apsw.Connection, text: str) -> Query:
    """The query for the index: where older rules made it, the words in their form count too."""
    return Query.parse(text, formerly=is_folded_by_older_rules(connection))


def refolded(door: Door) -> Generator[None]:
    """Index again what older rules have indexed, newest first; a commit for each slice.

    Its place is recorded with it, so that a slice is done once, wherever this is killed. What is
    written meanwhile has newer rows, or is indexed by the current rules already.
    """
    pace = Pace(8, most=2_000)
    while True:
        with pace.slice() as count, door() as connection:
            if not (is_folded_by_older_rules(connection) and _refold(connection, count)):
                return
        yield


def _refold(connection: apsw.Connection, count: int) -> bool:
    """Index the next rows again; whether there may be more."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS refolding(name TEXT PRIMARY KEY, below INTEGER NOT NULL)"
    )
    places: dict[Any, Any] = dict(connection.execute("SELECT name, below FROM refolding"))
    is_known = _version(connection) == FOLDING - 1
    for index, (table, column) in _SOURCES.items():
        rows: list[Any] = connection.execute(
            f"SELECT id, {column} FROM {table} WHERE id < ? AND {column} IS NOT NULL"  # noqa: S608
            " ORDER BY id DESC LIMIT ?",
            (places.get(index, _ANY_ROW), count),
        ).fetchall()
        if rows:
            texts = [(row, text, folded(text)) for row, text in rows]
            changed = [
                (row, new)
                for row, text, new in texts
                if not is_known or new != formerly_folded(text)
            ]
            _index_again(connection, index, changed)
            connection.execute("REPLACE INTO refolding VALUES (?, ?)", (index, rows[-1][0]))
            return True
    write_folding(connection)
    return False


def _index_again(connection: apsw.Connection, index: str, rows: list[tuple[int, str]]) -> None:
    if rows:
        unindex(connection, index, [(row,) for row, _ in rows])
        column = "text" if index == "message_index" else "name"
        connection.executemany(f"INSERT INTO {index}(rowid, {column}) VALUES (?, ?)", rows)  # noqa: S608


def _version(connection: apsw.Connection) -> int:
    """The version of the rules; 0 before there was a record of it."""
    if not connection.table_exists(None, "folding"):
        return 0
    found: Any = connection.execute("SELECT ifnull(max(version), 0) FROM folding").get
    return int(found)
