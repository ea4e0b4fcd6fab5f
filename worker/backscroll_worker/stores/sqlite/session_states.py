"""Sessions' states in their table: a row each, also for one that was deleted, with its version."""

from __future__ import annotations

from typing import Any, Final

import apsw
import orjson
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.states import GetStates, SessionState
from backscroll_worker.contract.states import States, states_asked

_SCHEMA: Final = (
    'CREATE TABLE IF NOT EXISTS "session_states" (session_id INTEGER NOT NULL, name TEXT NOT NULL,'
    " version INTEGER NOT NULL, value TEXT, UNIQUE (session_id, name))",
    'CREATE TRIGGER IF NOT EXISTS "session_states_gone" AFTER DELETE ON "sessions"'
    ' BEGIN DELETE FROM "session_states" WHERE session_id = old.id; END',
)


def create_states(database: APSWDatabase) -> None:
    """Create the table, and what empties it with its sessions."""
    for statement in _SCHEMA:
        database.execute_sql(statement)


def get_states(connection: apsw.Connection, operation: GetStates) -> dict[str, SessionState]:
    """What the operation asks for; empty where there is no such session."""
    sql = "SELECT id FROM sessions WHERE key = ?"
    session: Any = connection.execute(sql, (operation.key,)).get
    return {} if session is None else states_asked(stored(connection, session), operation.name)


def stored(connection: apsw.Connection, session: int) -> dict[str, SessionState]:
    """All states of a session, by name."""
    rows: list[Any] = connection.execute(
        "SELECT name, value, version FROM session_states WHERE session_id = ?", (session,)
    ).fetchall()
    return {
        name: SessionState(None if value is None else orjson.loads(value), version)
        for name, value, version in sorted(rows)
    }


def put(connection: apsw.Connection, session: int, states: States) -> None:
    """Set these states as they are."""
    connection.executemany(
        "INSERT INTO session_states(session_id, name, version, value) VALUES (?, ?, ?, ?)"
        " ON CONFLICT(session_id, name) DO UPDATE SET version = excluded.version,"
        " value = excluded.value",
        [
            (session, name, each.version, None if each.value is None else _text(each.value))
            for name, each in states.items()
        ],
    )


def move(connection: apsw.Connection, session: int, successor: int) -> None:
    """Give the states of a session to the row that takes its place."""
    connection.execute(
        "UPDATE session_states SET session_id = ? WHERE session_id = ?", (successor, session)
    )


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
