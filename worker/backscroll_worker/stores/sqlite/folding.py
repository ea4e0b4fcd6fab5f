"""The version of the folding rules by which the database's two indexes were made.

It is in a table beside the schema's, which earlier versions ignore: a store without this table was
made by one of them. Opening a store does not rebuild indexes: `verify` reports older rules, and
`repair` rebuilds the indexes.
"""

from __future__ import annotations

from typing import Any

import apsw

from backscroll_worker.stores.search.text import FOLDING


def is_folded_by_older_rules(connection: apsw.Connection) -> bool:
    """Whether some words in the indexes may differ from those that a search now looks for."""
    if not connection.table_exists(None, "folding"):
        return True
    found: Any = connection.execute("SELECT max(version) FROM folding").get
    return found is None or found < FOLDING


def write_folding(connection: apsw.Connection) -> None:
    """Record that all words in the indexes were folded by the current rules."""
    connection.execute("CREATE TABLE IF NOT EXISTS folding(version INTEGER NOT NULL)")
    connection.execute("DELETE FROM folding")
    connection.execute("INSERT INTO folding VALUES (?)", (FOLDING,))
