"""Lists the messages that pass a filter, newest first: a search without a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import apsw

from backscroll.contract.filters import SearchHit, SearchPage
from backscroll.contract.reads import Search
from backscroll_worker.contract.answer_budget import page_of
from backscroll_worker.stores.search.cursor import read_cursor, write_cursor
from backscroll_worker.stores.search.query import Query
from backscroll_worker.stores.search.snippet import highlighted_hit
from backscroll_worker.stores.sqlite.bound import Bound
from backscroll_worker.stores.sqlite.rows import MESSAGE_COLUMNS, message_of
from backscroll_worker.stores.sqlite.scope import Scope

_LAST_ROW: Final = 2**62


def list_messages(connection: apsw.Connection, operation: Search) -> SearchPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor.

    Where a filter lets few of very many messages pass, it ends early, as that of a search does.
    """
    top = _LAST_ROW
    if operation.cursor is not None:
        (number,) = read_cursor(operation, operation.cursor, 1)
        top = int(number)
    limit = Bound()
    rows = Scope.of_rows(connection, operation.where).select(
        connection, "m.id", None, (1, top), "ORDER BY {row} DESC", bound=limit
    )
    found = (each for (row,) in rows for each in _looked_up(connection, row))
    page, has_more = page_of(found, operation.limit, lambda each: each[1])
    below = page[-1][0] - 1 if has_more else limit.met_at
    query = Query.parse("")
    hits = tuple([highlighted_hit(hit, query) for _, hit in page])
    return SearchPage(hits, None if below is None else write_cursor(operation, (below,)))


def _looked_up(connection: apsw.Connection, row: int) -> Iterator[tuple[int, SearchHit]]:
    found: Any = connection.execute(
        f"SELECT s.key, {MESSAGE_COLUMNS} FROM messages"  # noqa: S608
        " JOIN sessions s ON s.id = session_id WHERE messages.id = ?",
        (row,),
    )
    for key, *columns in found:
        yield row, SearchHit(key, message_of(columns), "")
