"""By which rules the words in the database's two indexes were folded.

It is in a table beside the schema's, which earlier versions leave alone: a store without it was
made by one of those. Nothing is indexed anew when a store is opened: `verify` reports older rules,
and `repair` makes the indexes anew.
"""

from __future__ import annotations

from typing import Any

import apsw

from backscroll_worker.stores.search.text import FOLDING


def is_folded_by_older_rules(connection: apsw.Connection) -> bool:
    """Whether some words in the indexes may be other than a search looks for now."""
    if not connection.table_exists(None, "folding"):
        return True
    found: Any = connection.execute("SELECT max(version) FROM folding").get
    return found is None or found < FOLDING


def write_folding(connection: apsw.Connection) -> None:
    """Note that all words in the indexes were folded by the rules of now."""
    connection.execute("CREATE TABLE IF NOT EXISTS folding(version INTEGER NOT NULL)")
    connection.execute("DELETE FROM folding")
    connection.execute("INSERT INTO folding VALUES (?)", (FOLDING,))
