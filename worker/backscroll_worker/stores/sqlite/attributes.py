"""The attributes of a session, which are columns of its row.

Their names are those that `check_attributes` lets through, and none of the user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import apsw

from backscroll.contract.messages import SessionAttributes
from backscroll.contract.validation import ATTRIBUTES
from backscroll_worker.contract.attributes import differing
from backscroll_worker.stores.sqlite import session_meta
from backscroll_worker.stores.sqlite.name_index import index_name


def lacking(
    connection: apsw.Connection, session: int, attributes: SessionAttributes
) -> SessionAttributes:
    """The attributes that the session lacks; usually it has all of them."""
    sql = f"SELECT {', '.join(ATTRIBUTES)} FROM sessions WHERE id = ?"  # noqa: S608
    row: Any = connection.execute(sql, (session,)).fetchone()
    has = dict(zip(ATTRIBUTES, row, strict=True))
    has["meta"] = session_meta.loads(has["meta"])
    return differing(has, attributes)


def put(connection: apsw.Connection, session: int, values: Mapping[str, Any]) -> None:
    """Set these columns of a session."""
    assignments = ", ".join(f"{name} = ?" for name in values)
    if values.get("meta") is not None:
        values = {**values, "meta": session_meta.dumps(values["meta"])}
    connection.execute(
        f"UPDATE sessions SET {assignments} WHERE id = ?",  # noqa: S608
        (*values.values(), session),
    )
    if "name" in values:
        index_name(connection, session, values["name"])
