"""Lists the messages that pass a filter, newest first: a search without a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apsw

from backscroll.contract.filters import SearchFilter, SearchHit, SearchPage
from backscroll.contract.operations import Search
from backscroll_worker.contract.answer_budget import page_of
from backscroll_worker.stores.search.cursor import read_cursor, write_cursor
from backscroll_worker.stores.search.query import Query
from backscroll_worker.stores.search.snippet import highlighted_hit
from backscroll_worker.stores.sqlite.bound import Bound
from backscroll_worker.stores.sqlite.rows import MESSAGE_COLUMNS, message_of
from backscroll_worker.stores.sqlite.scope import FEW_MESSAGES, Scope

_LAST_ROW: Final = 2**62
_OF_AUTHOR: Final = (
    "SELECT id FROM messages INDEXED BY messagerow_author_session_id WHERE author = ?"
)


def list_messages(connection: apsw.Connection, operation: Search) -> SearchPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor.

    Where a filter lets few of very many messages pass, it ends early, as that of a search does.
    """
    top = _LAST_ROW
    if operation.cursor is not None:
        (number,) = read_cursor(operation, operation.cursor, 1)
        top = int(number)
    limit = Bound()
    rows = _scope(connection, operation.where).select(
        connection, "m.id", None, (1, top), "ORDER BY {row} DESC", bound=limit
    )
    found = (each for (row,) in rows for each in _looked_up(connection, row))
    page, has_more = page_of(found, operation.limit, lambda each: each[1])
    below = page[-1][0] - 1 if has_more else limit.met_at
    query = Query.parse("")
    hits = tuple([highlighted_hit(hit, query) for _, hit in page])
    return SearchPage(hits, None if below is None else write_cursor(operation, (below,)))


def _scope(connection: apsw.Connection, where: SearchFilter) -> Scope:
    """As for a search, but one author's messages are found by their index if they are few."""
    scope = Scope.of(connection, where)
    if scope.among is not None or where.author is None:
        return scope
    count: Any = connection.execute(
        f"SELECT count(*) FROM ({_OF_AUTHOR} LIMIT {FEW_MESSAGES})",  # noqa: S608
        (where.author,),
    ).get
    if count == FEW_MESSAGES:
        return scope
    return scope._replace(among=_OF_AUTHOR, among_values=(where.author,))


def _looked_up(connection: apsw.Connection, row: int) -> Iterator[tuple[int, SearchHit]]:
    found: Any = connection.execute(
        f"SELECT s.key, {MESSAGE_COLUMNS} FROM messages"  # noqa: S608
        " JOIN sessions s ON s.id = session_id WHERE messages.id = ?",
        (row,),
    )
    for key, *columns in found:
        yield row, SearchHit(key, message_of(*columns), "")
