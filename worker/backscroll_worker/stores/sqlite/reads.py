"""Reads of the database: histories; listings and search have modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import apsw
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchPage
from backscroll.contract.messages import ChatMessage, SessionInfo, SessionPage
from backscroll.contract.operations import GetSession, ListSessions, Load, Read, Search
from backscroll.contract.results import Answer
from backscroll.contract.validation import MAX_PAGE
from backscroll_worker.contract.answer_budget import AnswerBudget, check_bytes, check_count, history
from backscroll_worker.stores.sqlite import edits
from backscroll_worker.stores.sqlite.bound import bounded_seconds
from backscroll_worker.stores.sqlite.listing import get_session, list_sessions
from backscroll_worker.stores.sqlite.rows import MESSAGE_COLUMNS, message_of
from backscroll_worker.stores.sqlite.schema import pack_id
from backscroll_worker.stores.sqlite.search import search

# Not left to SQLite's planner, whose statistics may be missing or old.
_OF_SESSION: Final = "INDEXED BY messagerow_session_id WHERE session_id = ?"
_BACK: Final = f"SELECT {{columns}} FROM messages {_OF_SESSION} AND id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608
_ROW: Final = {
    column: f"SELECT id FROM messages INDEXED BY {index} WHERE {column} = ? AND session_id = ?"  # noqa: S608
    for column, index in (
        ("message_id", "messagerow_message_id"),
        ("platform_id", "messagerow_platform_id_session_id"),
    )
}
_AT_ONCE: Final = 64


def read(
    database: APSWDatabase, now: int, operation: Read, budget: AnswerBudget | None = None
) -> Answer:
    """Answer `operation`; raises `OperationRefusedError` for what cannot be answered.

    With a `budget` the answer is encoded, and refused if it would be too large.
    """
    if isinstance(operation, Load):
        return _load(database, operation, budget)
    reader = _READERS[type(operation)]
    if budget is None:
        return reader(database, now, operation)
    with bounded_seconds(database.connection()):
        answer = reader(database, now, operation)
    return budget.encode(answer)


def _load(database: APSWDatabase, operation: Load, budget: AnswerBudget | None) -> Answer:
    # Adapters wait for this read, and its query plan makes it fast.
    execute = database.connection().execute
    found: Any = execute(
        "SELECT id, message_count FROM sessions WHERE key = ?", (operation.key,)
    ).fetchone()
    if found is None:
        return history((), budget)
    session, count = found
    limit = -1 if operation.limit is None else operation.limit
    before = 2**62
    if operation.place is None:
        check_count(count if limit < 0 else min(count, limit), budget)
    else:
        argument, id_ = operation.place
        before = _row(database.connection(), session, argument, id_)
        if argument.startswith("around"):
            before, limit = _around(database.connection(), session, before, *operation.sides)
    read_back = _with_edits if operation.include_edits else _without_edits
    return history(read_back(database.connection(), session, before, limit, budget), budget)


def _without_edits(
    connection: apsw.Connection, session: int, before: int, limit: int, _: AnswerBudget | None
) -> Iterator[ChatMessage]:
    """The session's messages before a row, newest first, read lazily."""
    rows = connection.execute(_BACK.format(columns=MESSAGE_COLUMNS), (session, before, limit))
    return (message_of(*row) for row in rows)


def row_of(
    connection: apsw.Connection, session: int, message_id: str | None, platform_id: str | None
) -> int | None:
    """The row of the message with one of these ids; None if there is none."""
    index, id_ = "message_id", pack_id(message_id or "")
    if platform_id is not None:
        index, id_ = "platform_id", platform_id
    row: int | None = connection.execute(_ROW[index], (id_, session)).get
    return row


def _row(connection: apsw.Connection, session: int, argument: str, id_: str) -> int:
    """The row of the message named by an argument; raises `OperationRefusedError` if none."""
    is_platforms = argument.endswith("platform_id")
    ids = (None, id_) if is_platforms else (id_, None)
    row = row_of(connection, session, *ids)
    if row is None:
        raise OperationRefusedError(
            f"{argument}: the session has no message {id_!r}; it may be rolled back"
        )
    return row


def _around(
    connection: apsw.Connection, session: int, row: int, preceding: int, following: int
) -> tuple[int, int]:
    """The row before which the messages around that row end, and their maximum number."""
    last: Any
    ((last, count),) = connection.execute(
        "SELECT max(id), count(*) FROM"  # noqa: S608
        f" (SELECT id FROM messages {_OF_SESSION} AND id >= ? ORDER BY id LIMIT ?)",
        (session, row, following),
    )
    return last + 1, preceding + count


def stored_messages(
    connection: apsw.Connection, session: int, first: int, end: int, most: int
) -> list[tuple[int, ChatMessage]]:
    """A session's oldest messages in rows from `first` to before `end`, with edits and rows."""
    rows: list[Any] = connection.execute(
        f"SELECT id, {MESSAGE_COLUMNS} FROM messages {_OF_SESSION} AND id >= ? AND id < ?"  # noqa: S608
        " ORDER BY id LIMIT ?",
        (session, first, end, most),
    ).fetchall()
    if not rows:
        return []
    earlier = edits.of_session(connection, session, rows[0][0], rows[-1][0])
    return [(row, message_of(*columns, edits=earlier.get(row, ()))) for row, *columns in rows]


def messages_after(
    connection: apsw.Connection, key: str, row: int
) -> list[tuple[int, ChatMessage]]:
    """A page of a session's messages after that row; empty at the end."""
    session: int | None = connection.execute("SELECT id FROM sessions WHERE key = ?", (key,)).get
    if session is None:
        return []
    return stored_messages(connection, session, row + 1, 2**62, MAX_PAGE)


def _with_edits(
    connection: apsw.Connection,
    session: int,
    before: int,
    limit: int,
    budget: AnswerBudget | None,
) -> Iterator[ChatMessage]:
    """As `_without_edits`, but with the earlier versions."""
    rows = connection.execute(
        _BACK.format(columns=f"id, {MESSAGE_COLUMNS}"), (session, before, limit)
    )
    while some := list(islice(rows, _AT_ONCE)):
        first, last = some[-1][0], some[0][0]
        if budget is not None:
            check_bytes(edits.size_bytes(connection, session, first, last), budget)
        earlier = edits.of_session(connection, session, first, last)
        for row, *columns in some:
            yield message_of(*columns, edits=earlier.get(row, ()))


def _get_session(database: APSWDatabase, _now: int, operation: GetSession) -> SessionInfo | None:
    return get_session(database.connection(), operation.key)


def _list_sessions(database: APSWDatabase, now: int, operation: ListSessions) -> SessionPage:
    return list_sessions(database.connection(), now, operation)


def _search(database: APSWDatabase, _now: int, operation: Search) -> SearchPage:
    return search(database.connection(), operation)


_READERS: Final[dict[type[Read], Callable[[APSWDatabase, int, Any], Answer]]] = {
    GetSession: _get_session,
    ListSessions: _list_sessions,
    Search: _search,
}
