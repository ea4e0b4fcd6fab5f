"""The totals of a database, by one statement over the sessions' rows."""

from __future__ import annotations

from typing import Any, Final

import apsw

from backscroll_worker.contract.findings import Totals
from backscroll_worker.stores.blobs import Blobs

_SQL: Final = (
    "SELECT count(*), ifnull(sum(message_count), 0), min(last_activity), max(last_activity)"
    " FROM sessions WHERE key IS NOT NULL"
)


def totals(connection: apsw.Connection, size_bytes: int, blobs: Blobs) -> Totals:
    """The current totals; the counts are kept in the sessions' rows."""
    row: Any = connection.execute(_SQL).fetchone()
    sessions, messages, oldest, newest = row
    waiting: Any = connection.execute("SELECT count(*) FROM waiting_changes").get
    return Totals(sessions, messages, size_bytes, oldest, newest, waiting, *blobs.totals())
