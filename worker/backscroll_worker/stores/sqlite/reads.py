"""Reads of the database: histories; listings and search have modules of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

import apsw
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.answers import Answer
from backscroll.contract.attachment_reading import GetAttachment
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import FoundMessage, SearchPage
from backscroll.contract.messages import ChatMessage, SessionInfo, SessionPage, to_micros
from backscroll.contract.operations import Read
from backscroll.contract.reads import GetMessage, GetSession, ListSessions, Load, Search
from backscroll.contract.results import Usage
from backscroll.contract.states import GetStates, SessionState
from backscroll.contract.tokens import GetUsage
from backscroll.contract.validation import MAX_PAGE
from backscroll_worker.contract.answer_budget import AnswerBudget, check_bytes, check_count, history
from backscroll_worker.contract.choosing import SessionMessages, absent, by_message_id, choose
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.sqlite import edits
from backscroll_worker.stores.sqlite.attachments import get_attachment
from backscroll_worker.stores.sqlite.bound import bounded_seconds
from backscroll_worker.stores.sqlite.extra_search import search_extra
from backscroll_worker.stores.sqlite.listing import get_session, list_sessions
from backscroll_worker.stores.sqlite.message_listing import list_messages
from backscroll_worker.stores.sqlite.packed_ids import pack_id, unpack_id
from backscroll_worker.stores.sqlite.rows import MESSAGE_COLUMNS, ROWS, message_of
from backscroll_worker.stores.sqlite.search import search
from backscroll_worker.stores.sqlite.session_states import get_states
from backscroll_worker.stores.sqlite.usage import usage

# Not left to SQLite's planner, whose statistics may be missing or old.
_OF_SESSION: Final = "INDEXED BY messagerow_session_id WHERE session_id = ?"
_BACK: Final = f"SELECT {{columns}} FROM messages {_OF_SESSION} AND id < ? ORDER BY id DESC LIMIT ?"  # noqa: S608
_LAST_ROW: Final = 2**62
_BY_ID: Final = "messages INDEXED BY messagerow_message_id WHERE message_id = ? AND session_id = ?"
_BY_PLATFORM_ID: Final = (
    "messages INDEXED BY messagerow_platform_id_session_id WHERE platform_id = ? AND session_id = ?"
)
_BY_ID_ALONE: Final = (
    "messages INDEXED BY messagerow_message_id CROSS JOIN sessions ON sessions.id = session_id"
    " WHERE message_id = ? AND key IS NOT NULL"
)
_AT_ONCE: Final = 64
_ROWS_AT_ONCE: Final = 16
"""Read together, which is faster than one by one; no more of them, as each may have a megabyte."""
_LOAD_LESS: Final = "ask for less with limit=, max_tokens= or before="


def read(
    database: APSWDatabase,
    blobs: Blobs,
    now: int,
    operation: Read,
    budget: AnswerBudget | None = None,
) -> Answer:
    """Answer `operation`; raises `OperationRefusedError` for what cannot be answered.

    With a `budget` the answer is encoded, and refused if it would be too large.
    """
    if isinstance(operation, Load):
        return _load(database, operation, budget)
    if isinstance(operation, GetAttachment):
        data = get_attachment(database.connection(), blobs, operation)
        return data if budget is None else budget.encode(data)
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
    operation = by_message_id(operation, partial(_id_of, database.connection(), session))
    if operation.is_chosen:
        with bounded_seconds(database.connection(), _LOAD_LESS):
            return choose(
                operation, _Messages(database.connection(), session, operation, budget), budget
            )
    limit = -1 if operation.limit is None else operation.limit
    if operation.before is None and operation.around is None:
        check_count(count if limit < 0 else min(count, limit), budget)
    before = _LAST_ROW
    if operation.before is not None:
        before = _row(database.connection(), session, "before", operation.before)
    elif operation.around is not None:
        before, limit = _around(database.connection(), session, operation.around, *operation.sides)
    where = (session, before, limit)
    if operation.include_edits:
        found = _with_edits(database.connection(), session, _BACK, where, budget)
        return history(found, budget)
    return history(_rows(database.connection(), _BACK, where), budget, form=ROWS)


class _Messages(SessionMessages):
    """The messages in a session's row that a load's filter lets pass."""

    def __init__(
        self,
        connection: apsw.Connection,
        session: int,
        load: Load,
        budget: AnswerBudget | None,
    ) -> None:
        self._connection = connection
        self._session = session
        self._load = load
        self._budget = budget

    def back(self, before: str | None) -> Iterator[ChatMessage]:
        return self._between(None, before, "DESC")

    def onward(self, after: str | None, before: str | None) -> Iterator[ChatMessage]:
        return self._between(after, before, "ASC")

    def newest_summary(self, before: str | None) -> ChatMessage | None:
        found = self._read(
            "SELECT {columns} FROM messages INDEXED BY messagerow_session_id_upto"
            " WHERE session_id = ? AND upto IS NOT NULL AND id < ? ORDER BY id DESC LIMIT 1",
            (self._session, self._row("before", before, _LAST_ROW)),
        )
        return next(found, None)

    def has(self, message_id: str) -> bool:
        try:
            _row(self._connection, self._session, "upto", message_id)
        except OperationRefusedError:
            return False
        return True

    def _between(self, after: str | None, before: str | None, order: str) -> Iterator[ChatMessage]:
        load = self._load
        conditions, values = "", []
        for condition, value in (
            ("role = ?", load.role),
            ("author = ?", load.author),
            ("created_at >= ?", load.since),
            ("created_at < ?", load.until),
        ):
            if value is not None:
                conditions += f" AND {condition}"
                values.append(value if isinstance(value, str) else to_micros(value))
        index = "session_id" if load.author is None else "author_session_id"
        return self._read(
            f"SELECT {{columns}} FROM messages INDEXED BY messagerow_{index}"  # noqa: S608
            f" WHERE session_id = ? AND id > ? AND id < ?{conditions} ORDER BY id {order} LIMIT ?",
            (
                self._session,
                self._row("after", after, 0),
                self._row("before", before, _LAST_ROW),
                *values,
                -1 if load.limit is None or load.active else load.limit,  # summaries do not count
            ),
        )

    def _read(self, sql: str, values: tuple[Any, ...]) -> Iterator[ChatMessage]:
        if self._load.include_edits:
            return _with_edits(self._connection, self._session, sql, values, self._budget)
        return map(message_of, _rows(self._connection, sql, values))

    def _row(self, argument: str, message_id: str | None, otherwise: int) -> int:
        if message_id is None:
            return otherwise
        return _row(self._connection, self._session, argument, message_id)


def _rows(
    connection: apsw.Connection, sql: str, values: tuple[Any, ...]
) -> Iterator[tuple[Any, ...]]:
    """The rows of messages that `sql` selects, read little by little."""
    rows = connection.execute(sql.format(columns=MESSAGE_COLUMNS), values)
    while some := list(islice(rows, _ROWS_AT_ONCE)):
        yield from some


def _row(connection: apsw.Connection, session: int, argument: str, message_id: str) -> int:
    """The row of the message named by an argument; raises `OperationRefusedError` if none."""
    row = row_of(connection, session, message_id, None)
    if row is None:
        raise absent(argument, message_id)
    return row


def _id_of(connection: apsw.Connection, session: int, platform_id: str) -> str | None:
    """The id of the message with that platform id; None if there is none."""
    sql = f"SELECT message_id FROM {_BY_PLATFORM_ID}"  # noqa: S608
    message_id: bytes | str | None = connection.execute(sql, (platform_id, session)).get
    return None if message_id is None else unpack_id(message_id)


def row_of(
    connection: apsw.Connection, session: int, message_id: str | None, platform_id: str | None
) -> int | None:
    """The row of the message with one of these ids; None if there is none."""
    id_: bytes | str | None
    table, id_ = _BY_PLATFORM_ID, platform_id
    if message_id is not None:
        table, id_ = _BY_ID, pack_id(message_id)
    row: int | None = connection.execute(f"SELECT id FROM {table}", (id_, session)).get  # noqa: S608
    return row


def _around(
    connection: apsw.Connection, session: int, message_id: str, preceding: int, following: int
) -> tuple[int, int]:
    """The row before which the messages around one end, and their maximum number."""
    row = _row(connection, session, "around", message_id)
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
    return [(row, message_of(columns, earlier.get(row, ()))) for row, *columns in rows]


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
    sql: str,
    values: tuple[Any, ...],
    budget: AnswerBudget | None,
) -> Iterator[ChatMessage]:
    """The messages in the rows that `sql` selects, with their earlier versions."""
    rows = connection.execute(sql.format(columns=f"id, {MESSAGE_COLUMNS}"), values)
    while some := list(islice(rows, _AT_ONCE)):
        first, last = sorted((some[0][0], some[-1][0]))
        if budget is not None:
            check_bytes(edits.size_bytes(connection, session, first, last), budget)
        earlier = edits.of_session(connection, session, first, last)
        for row, *columns in some:
            yield message_of(columns, earlier.get(row, ()))


def _get_message(database: APSWDatabase, _now: int, operation: GetMessage) -> FoundMessage | None:
    sql = f"SELECT key, {MESSAGE_COLUMNS} FROM {_BY_ID_ALONE}"  # noqa: S608
    found: Any = database.connection().execute(sql, (pack_id(operation.message_id),)).fetchone()
    return None if found is None else FoundMessage(found[0], message_of(found[1:]))


def _get_session(database: APSWDatabase, _now: int, operation: GetSession) -> SessionInfo | None:
    return get_session(database.connection(), operation.key)


def _list_sessions(database: APSWDatabase, now: int, operation: ListSessions) -> SessionPage:
    return list_sessions(database.connection(), now, operation)


def _search(database: APSWDatabase, _now: int, operation: Search) -> SearchPage:
    find = search if operation.within is None else search_extra
    if operation.is_listing:
        find = list_messages
    return find(database.connection(), operation)


def _usage(database: APSWDatabase, _now: int, operation: GetUsage) -> Usage:
    return usage(database.connection(), operation.where)


def _get_states(database: APSWDatabase, _now: int, operation: GetStates) -> dict[str, SessionState]:
    return get_states(database.connection(), operation)


_READERS: Final[dict[type[Read], Callable[[APSWDatabase, int, Any], Answer]]] = {
    GetMessage: _get_message,
    GetSession: _get_session,
    GetStates: _get_states,
    ListSessions: _list_sessions,
    Search: _search,
    GetUsage: _usage,
}
