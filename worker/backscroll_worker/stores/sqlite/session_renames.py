"""Renames of sessions in their table, in their order; see `contract.session_renames`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import apsw
from playhouse.apsw_ext import APSWDatabase

from backscroll_worker.contract.session_renames import SessionRename, SessionRenames

_SCHEMA: Final = (
    'CREATE TABLE IF NOT EXISTS "session_renames" (id INTEGER PRIMARY KEY, old_key TEXT NOT NULL,'
    " new_key TEXT NOT NULL, asked_at INTEGER NOT NULL, noted_at INTEGER NOT NULL,"
    " is_reset INTEGER NOT NULL)"
)


def create_renames(database: APSWDatabase) -> None:
    """Create the table."""
    database.execute_sql(_SCHEMA)


def load_renames(connection: apsw.Connection) -> SessionRenames:
    """The renames of sessions that the store knows."""
    rows: Any = connection.execute(
        "SELECT old_key, new_key, asked_at, noted_at, is_reset FROM session_renames ORDER BY id"
    )
    return SessionRenames(
        SessionRename(old, new, asked_at, noted_at, bool(is_reset))
        for old, new, asked_at, noted_at, is_reset in rows
    )


def put_renames(connection: apsw.Connection, renames: Iterable[SessionRename]) -> None:
    """Add these renames after all others."""
    connection.executemany(
        "INSERT INTO session_renames(old_key, new_key, asked_at, noted_at, is_reset)"
        " VALUES (?, ?, ?, ?, ?)",
        list(renames),
    )
