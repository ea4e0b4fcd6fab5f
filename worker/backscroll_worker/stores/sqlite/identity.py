"""A database's own id, in a table beside the schema's, which earlier versions ignore."""

from __future__ import annotations

import secrets
from typing import Any

import apsw


def read_identity(connection: apsw.Connection) -> str | None:
    """The id; None when the database has none yet."""
    if not connection.table_exists(None, "identity"):
        return None
    found: Any = connection.execute("SELECT store_id FROM identity").get
    return found if isinstance(found, str) else None


def write_identity(connection: apsw.Connection) -> None:
    """Give the database an id."""
    connection.execute("CREATE TABLE IF NOT EXISTS identity(store_id TEXT NOT NULL)")
    connection.execute("INSERT INTO identity VALUES (?)", (secrets.token_hex(16),))
