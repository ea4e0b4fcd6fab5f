"""Answers from the database: histories, sessions, search."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from operator import and_
from typing import Any, Final

import orjson
import peewee
from playhouse.apsw_ext import APSWDatabase

from producer.answers import Answer
from producer.errors import OperationRefusedError
from producer.messages import (
    ChatMessage,
    SearchFilter,
    SearchHit,
    SessionFilter,
    SessionInfo,
    SessionPage,
    from_micros,
    to_micros,
)
from producer.operations import GetSession, ListSessions, Load, Read, Search
from worker.backends.sqlite.schema import MessageRow, SessionRow, pack_id, unpack_id
from worker.backends.text import Query, highlighted_hit

_MESSAGE: Final = "role, content, extra, message_id, created_at"
_SESSION: Final = (
    SessionRow.id,
    SessionRow.key,
    SessionRow.created_at,
    SessionRow.last_activity,
    SessionRow.message_count,
    SessionRow.name,
    SessionRow.agent,
    SessionRow.channel,
    SessionRow.room,
    SessionRow.sender,
    SessionRow.state,
    SessionRow.turn_id,
    SessionRow.turn_started_at,
    SessionRow.pinned,
)


def read(database: APSWDatabase, now: int, operation: Read) -> Answer:
    """Answer `operation`; raises `OperationRefusedError` for what cannot be answered."""
    return _READERS[type(operation)](database, now, operation)


def _load(database: APSWDatabase, _now: int, operation: Load) -> list[ChatMessage]:
    # By hand: this is the read adapters wait for, and the plan is what makes it fast.
    execute = database.connection().execute
    session: int | None = execute("SELECT id FROM sessions WHERE key = ?", (operation.key,)).get
    if session is None:
        return []
    limit = -1 if operation.limit is None else operation.limit
    before = 2**62
    if operation.before is not None:
        before = execute(
            "SELECT id FROM messages WHERE message_id = ? AND session_id = ?",
            (pack_id(operation.before), session),
        ).get
        if before is None:
            raise OperationRefusedError(
                f"before: the session has no message {operation.before!r}; it may be rolled back"
            )
    rows = execute(
        f"SELECT {_MESSAGE} FROM messages WHERE session_id = ? AND id < ?"  # noqa: S608
        " ORDER BY id DESC LIMIT ?",
        (session, before, limit),
    ).fetchall()
    return [_message(*row) for row in reversed(rows)]


def _get_session(database: APSWDatabase, _now: int, operation: GetSession) -> SessionInfo | None:
    query = SessionRow.select(*_SESSION).where(SessionRow.key == operation.key)
    rows: list[Any] = list(query.tuples().bind(database))
    return _info(*rows[0][1:]) if rows else None


def _list_sessions(database: APSWDatabase, now: int, operation: ListSessions) -> SessionPage:
    conditions = [SessionRow.key.is_null(False), *_session_conditions(operation.where, now)]
    if operation.cursor is not None:
        activity, row_id = _parse_cursor(operation.cursor)
        place = peewee.Tuple(SessionRow.last_activity, SessionRow.id)
        conditions.append(place < peewee.Tuple(activity, row_id))
    query = (
        SessionRow.select(*_SESSION)
        .where(reduce(and_, conditions))
        .order_by(SessionRow.last_activity.desc(), SessionRow.id.desc())
        .limit(operation.limit + 1)
    )
    rows: list[Any] = list(query.tuples().bind(database))
    page = rows[: operation.limit]
    cursor = f"{page[-1][3]}-{page[-1][0]}" if len(rows) > operation.limit else None
    return SessionPage(tuple(_info(*row[1:]) for row in page), cursor)


def _search(database: APSWDatabase, _now: int, operation: Search) -> list[SearchHit]:
    query = Query.parse(operation.query)
    if query.fts5 is None:
        return []
    rank = peewee.SQL("message_index.rank")
    rows: Any = (
        MessageRow.select(
            SessionRow.key,
            rank,
            MessageRow.role,
            MessageRow.content,
            MessageRow.extra,
            MessageRow.message_id,
            MessageRow.created_at,
        )
        .from_(peewee.SQL("message_index"))
        .join(MessageRow, on=(MessageRow.id == peewee.SQL("message_index.rowid")))
        .join(SessionRow, on=(MessageRow.session == SessionRow.id))
        .where(
            reduce(
                and_,
                [
                    peewee.SQL("message_index MATCH ?", [query.fts5]),
                    SessionRow.key.is_null(False),
                    *_search_conditions(operation.where),
                ],
            )
        )
        .order_by(rank, MessageRow.id.desc())  # the lower its bm25, the better a hit
        .limit(operation.limit)
    )
    return [
        highlighted_hit(SearchHit(key, _message(*columns), "", (), -score), query)
        for key, score, *columns in rows.tuples().bind(database)
    ]


def _session_conditions(where: SessionFilter, now: int) -> list[Any]:
    conditions = [
        getattr(SessionRow, name) == value
        for name in ("agent", "channel", "room", "sender", "state")
        if (value := getattr(where, name)) is not None
    ]
    if where.pinned is not None:
        conditions.append(SessionRow.pinned == int(where.pinned))
    if where.stuck_seconds is not None:
        latest = now - int(where.stuck_seconds * 1e6)
        conditions += [SessionRow.state == "running", SessionRow.turn_started_at < latest]
    return conditions


def _search_conditions(where: SearchFilter) -> list[Any]:
    conditions = [
        column == value
        for column, value in (
            (SessionRow.key, where.key),
            (SessionRow.channel, where.channel),
            (SessionRow.sender, where.sender),
            (MessageRow.role, where.role),
        )
        if value is not None
    ]
    if where.since is not None:
        conditions.append(MessageRow.created_at >= to_micros(where.since))
    if where.until is not None:
        conditions.append(MessageRow.created_at < to_micros(where.until))
    return conditions


def _parse_cursor(cursor: str) -> tuple[int, int]:
    activity, _, row_id = cursor.partition("-")
    try:
        return int(activity), int(row_id)
    except ValueError:
        raise OperationRefusedError(f"cursor: {cursor[:40]!r} is not one a page gave") from None


def _message(
    role: str, content: str, extra: str | None, message_id: bytes | str, created_at: int
) -> ChatMessage:
    return ChatMessage(
        role,
        content,
        None if extra is None else orjson.loads(extra),
        unpack_id(message_id),
        from_micros(created_at),
    )


def _info(
    key: str, created_at: int, last_activity: int, message_count: int, *attributes: Any
) -> SessionInfo:
    name, agent, channel, room, sender, state, turn_id, turn_started_at, pinned = attributes
    return SessionInfo(
        key,
        from_micros(created_at),
        from_micros(last_activity),
        message_count,
        name,
        agent,
        channel,
        room,
        sender,
        state,
        turn_id,
        None if turn_started_at is None else from_micros(turn_started_at),
        bool(pinned),
    )


_READERS: Final[dict[type[Read], Callable[[APSWDatabase, int, Any], Answer]]] = {
    Load: _load,
    GetSession: _get_session,
    ListSessions: _list_sessions,
    Search: _search,
}
