"""Adds up the tokens of messages, from whichever side there are fewer: sessions or an author."""

from __future__ import annotations

from typing import Any, Final

import apsw

from backscroll.contract.filters import SearchFilter
from backscroll.contract.results import Usage
from backscroll_worker.stores.sqlite.scope import Scope

# CROSS JOIN fixes the order.
_OF_SESSIONS: Final = (
    "sessions s CROSS JOIN messages m INDEXED BY messagerow_session_id ON m.session_id = s.id"
)
_OF_AUTHOR: Final = (
    "messages m INDEXED BY messagerow_author_session_id"
    " CROSS JOIN sessions s ON s.id = m.session_id"
)
_OF_ALL: Final = "messages m CROSS JOIN sessions s ON s.id = m.session_id"


def usage(connection: apsw.Connection, where: SearchFilter) -> Usage:
    """The tokens of the messages that pass the filter."""
    scope = Scope.of(connection, where)
    tables = _OF_ALL if where.author is None else _OF_AUTHOR
    if any((where.key, where.channel, where.sender, where.room, where.agent)):
        tables = _OF_SESSIONS
    groups: Any = connection.execute(
        "SELECT m.role, m.author, count(*), count(m.tokens), ifnull(sum(m.tokens), 0)"  # noqa: S608
        f" FROM {tables} WHERE {scope.sql} GROUP BY m.role, m.author",
        scope.values,
    )
    return Usage.of(groups)
