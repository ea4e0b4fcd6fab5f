"""The forks that are being copied, in their table; see `forks`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import apsw
from playhouse.apsw_ext import APSWDatabase

_SCHEMA: Final = (
    'CREATE TABLE IF NOT EXISTS "forks" (target INTEGER PRIMARY KEY, source INTEGER NOT NULL,'
    " op_id BLOB NOT NULL, new_key TEXT NOT NULL UNIQUE, next_row INTEGER NOT NULL,"
    " places INTEGER NOT NULL, base INTEGER NOT NULL)"
)


class Copying(NamedTuple):
    """A fork that is being copied from one session to another, by their rows.

    `places` messages are left at most, in the source's rows before `next_row`. The copy with the
    number `place` among them is in row `base + place`.
    """

    target: int
    source: int
    op_id: bytes | str
    new_key: str
    next_row: int
    places: int
    base: int


def create_forks(database: APSWDatabase) -> None:
    """Create the table."""
    database.execute_sql(_SCHEMA)


def load(connection: apsw.Connection) -> list[Copying]:
    """All of them."""
    rows: Iterable[Any] = connection.execute("SELECT * FROM forks ORDER BY target")
    return [Copying(*row) for row in rows]


def find(connection: apsw.Connection, column: str, value: Any) -> Copying | None:
    """The one with that value in "target" or "op_id"."""
    row: Any = connection.execute(f"SELECT * FROM forks WHERE {column} = ?", (value,)).fetchone()  # noqa: S608
    return None if row is None else Copying(*row)


def put(connection: apsw.Connection, copying: Copying) -> None:
    """Record how far it is."""
    connection.execute("INSERT OR REPLACE INTO forks VALUES (?, ?, ?, ?, ?, ?, ?)", copying)


def drop(connection: apsw.Connection, target: int) -> None:
    """Forget it."""
    connection.execute("DELETE FROM forks WHERE target = ?", (target,))


def is_source(connection: apsw.Connection, session: int) -> bool:
    """Whether a fork of the session is being copied."""
    return connection.execute("SELECT 1 FROM forks WHERE source = ?", (session,)).get is not None


def last_reserved_row(connection: apsw.Connection) -> int:
    """The last row that a copy will have, beyond those that have been made; 0 if there is none."""
    row: Any = connection.execute("SELECT ifnull(max(base + places), 0) FROM forks").get
    return int(row)


def erase(connection: apsw.Connection, subject: str, value: str) -> None:
    """Have an erasure find the forks that are its subject's, and no trace of its keys in others.

    `subject` is "key", "sender" or "room"; the subject's sessions have their keys still.
    """
    column = "new_key" if subject == "key" else subject
    found: list[Any] = connection.execute(
        f"SELECT new_key, target FROM forks CROSS JOIN sessions ON id = target WHERE {column} = ?",  # noqa: S608
        (value,),
    ).fetchall()
    connection.executemany("UPDATE sessions SET key = ? WHERE id = ?", found)
    for _, target in found:
        drop(connection, target)
    keys = "(SELECT ?)" if subject == "key" else f"(SELECT key FROM sessions WHERE {subject} = ?)"  # noqa: S608
    connection.execute(
        "UPDATE sessions SET forked_from = NULL, forked_upto = NULL"  # noqa: S608
        f" WHERE forked_from IS NOT NULL AND forked_from IN {keys}",
        (value,),
    )
