"""The index of words in session names, for listings.

The index contains no text, only folded words by session id; the text is in `sessions`.
"""

from __future__ import annotations

from typing import Final

import apsw
from playhouse.apsw_ext import APSWDatabase

from backscroll_worker.stores.search.text import folded
from backscroll_worker.stores.sqlite.fts_merge import configure

_SCHEMA: Final = (
    # Names are searched for while they are typed, so their first letters are indexed too.
    'CREATE VIRTUAL TABLE "name_index" USING fts5'
    " (\"name\", content='', contentless_delete=1, prefix='1 2 3', tokenize=\"ascii\")",
    # Deleting a session also deletes its name here.
    'CREATE TRIGGER "session_name_gone" AFTER DELETE ON "sessions" WHEN old."name" IS NOT NULL'
    ' BEGIN DELETE FROM "name_index" WHERE rowid = old."id"; END',
)


def create_name_index(database: APSWDatabase) -> None:
    """Create the index, and fill it from the existing sessions."""
    for statement in _SCHEMA:
        database.execute_sql(statement)
    connection = database.connection()
    configure(connection, "name_index")
    for session, name in connection.execute(
        "SELECT id, name FROM sessions WHERE name IS NOT NULL"
    ).fetchall():
        _add(connection, session, name)


def index_name(connection: apsw.Connection, session: int, name: str | None) -> None:
    """Replace the session's name by `name`; None removes it."""
    connection.execute("DELETE FROM name_index WHERE rowid = ?", (session,))
    if name is not None:
        _add(connection, session, name)


def _add(connection: apsw.Connection, session: int, name: str) -> None:
    connection.execute("INSERT INTO name_index(rowid, name) VALUES (?, ?)", (session, folded(name)))
