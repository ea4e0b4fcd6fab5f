"""Sessions' own keys and values: a JSON object in each row, and a table to find them by.

Triggers keep the table in step with the rows, whatever changes them: a description, an import, a
row that takes another's place, a deletion.
"""

from __future__ import annotations

from typing import Any, Final

import apsw
import orjson
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.messages import Meta, SessionAttributes
from backscroll_worker.contract.attributes import with_meta

# Blobs for true and false, which SQLite has as 1 and 0; no other value is a blob.
_ENTRIES: Final = (
    "key, CASE type WHEN 'true' THEN x'01' WHEN 'false' THEN x'00' ELSE atom END"
)  # fmt: skip
_GONE: Final = (
    'DELETE FROM "session_meta" WHERE session_id = old.id AND (name, value) IN'  # noqa: S608
    f" (SELECT {_ENTRIES} FROM json_each(old.meta))"
)
_COME: Final = f'INSERT INTO "session_meta" SELECT {_ENTRIES}, new.id FROM json_each(new.meta)'  # noqa: S608
_SCHEMA: Final = (
    'CREATE TABLE IF NOT EXISTS "session_meta" (name TEXT NOT NULL, value NOT NULL,'
    " session_id INTEGER NOT NULL, PRIMARY KEY (name, value, session_id)) WITHOUT ROWID",
    'CREATE TRIGGER IF NOT EXISTS "session_meta_new" AFTER INSERT ON "sessions"'
    f" WHEN new.meta IS NOT NULL BEGIN {_COME}; END",
    'CREATE TRIGGER IF NOT EXISTS "session_meta_changed" AFTER UPDATE OF meta ON "sessions"'
    f" BEGIN {_GONE}; {_COME}; END",
    'CREATE TRIGGER IF NOT EXISTS "session_meta_gone" AFTER DELETE ON "sessions"'
    f" WHEN old.meta IS NOT NULL BEGIN {_GONE}; END",
)


def create_meta_index(database: APSWDatabase) -> None:
    """Create the table and its triggers."""
    for statement in _SCHEMA:
        database.execute_sql(statement)


def described(
    connection: apsw.Connection, session: int, attributes: SessionAttributes
) -> SessionAttributes:
    """The `attributes` to set for a session, with all that its `meta` will be.

    Raises `OperationRefusedError` if that is too much.
    """
    if "meta" not in attributes:
        return attributes
    meta: Any = connection.execute("SELECT meta FROM sessions WHERE id = ?", (session,)).get
    return with_meta({"meta": loads(meta)}, attributes)


def sessions_with(name: str, value: Any) -> tuple[Any, ...]:
    """A SELECT of the sessions with that value, by the table's key, and what it is given."""
    place = "?"
    if isinstance(value, bool):
        value = b"\x01" if value else b"\x00"
    elif isinstance(value, float):  # read by SQLite, as those in the table
        place, value = "json_extract(?, '$')", orjson.dumps(value).decode()
    return f"SELECT session_id FROM session_meta WHERE name = ? AND value = {place}", name, value  # noqa: S608


def dumps(meta: Meta) -> str:
    """As it is in a row."""
    return orjson.dumps(meta).decode()


def loads(stored: str | None) -> dict[str, Any]:
    """The inverse of `dumps`; empty for none."""
    return {} if stored is None else orjson.loads(stored)
