"""Answers from the files: histories, sessions, search by scan."""

from __future__ import annotations

import hashlib
import heapq
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from producer.answers import Answer
from producer.errors import OperationRefusedError
from producer.messages import (
    ChatMessage,
    SearchFilter,
    SearchHit,
    SessionInfo,
    SessionPage,
)
from producer.operations import GetSession, ListSessions, Load, Read, Search
from worker.backends.jsonl.group import Group
from worker.backends.jsonl.session import Session
from worker.backends.text import Query, highlighted_hit

_Place = tuple[int, str]

_CURSOR: Final = re.compile(r"([0-9]+)-([0-9a-f]{32})")


def read(group: Group, operation: Read) -> Answer:
    """Answer `operation`; raises `OperationRefusedError` for what cannot be answered."""
    return _READERS[type(operation)](group, operation)


def _load(group: Group, operation: Load) -> list[ChatMessage]:
    session = group.find(operation.key)
    if not session.exists:
        return []
    messages = [line.message for line in session.lines]
    end = len(messages)
    if operation.before is not None:
        ids = [message.message_id for message in messages]
        if operation.before not in ids:
            raise OperationRefusedError(
                f"before: the session has no message {operation.before!r}; it may be rolled back"
            )
        end = ids.index(operation.before)
    start = 0 if operation.limit is None else max(0, end - operation.limit)
    return messages[start:end]


def _get_session(group: Group, operation: GetSession) -> SessionInfo | None:
    session = group.find(operation.key)
    return _info(session) if session.exists else None


def _list_sessions(group: Group, operation: ListSessions) -> SessionPage:
    sessions = {
        _place(session): session
        for session in group.sessions()
        if session.sidecar.passes(operation.where, group.now)
    }
    places = sorted(sessions, reverse=True)
    if operation.cursor is not None:
        after = _parse_cursor(operation.cursor)
        places = [place for place in places if place < after]
    page = places[: operation.limit]
    cursor = "{}-{}".format(*page[-1]) if len(places) > len(page) else None
    return SessionPage(tuple(_info(sessions[place]) for place in page), cursor)


def _search(group: Group, operation: Search) -> list[SearchHit]:
    query = Query.parse(operation.query)
    if not query.wanted:
        return []
    found = heapq.nlargest(
        operation.limit,
        (
            (message.created_at, position, session.key, message)
            for session in _searched(group, operation.where)
            for position, message in enumerate(line.message for line in session.lines)
            if _is_wanted(message, operation.where) and query.matches(message.content)
        ),
        key=lambda hit: hit[:2],
    )
    return [highlighted_hit(SearchHit(key, message, ""), query) for _, _, key, message in found]


def _searched(group: Group, where: SearchFilter) -> Iterator[Session]:
    sessions = group.sessions() if where.key is None else [group.find(where.key)]
    for session in sessions:
        attributes = session.sidecar.attributes
        if session.exists and all(
            wanted is None or attributes.get(name) == wanted
            for name, wanted in (("channel", where.channel), ("sender", where.sender))
        ):
            yield session


def _is_wanted(message: ChatMessage, where: SearchFilter) -> bool:
    at = message.created_at
    return (
        (where.role is None or message.role == where.role)
        and at is not None
        and (where.since is None or at >= where.since)
        and (where.until is None or at < where.until)
    )


def _info(session: Session) -> SessionInfo:
    return session.sidecar.info(session.last_activity, session.count)


def _place(session: Session) -> _Place:
    """Where a session stands in a listing. Keys can be too long for a cursor."""
    digest = hashlib.blake2b(session.key.encode(), digest_size=16).hexdigest()
    return session.last_activity, digest


def _parse_cursor(cursor: str) -> _Place:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise OperationRefusedError(f"cursor: {cursor[:40]!r} is not one a page gave")
    return int(match[1]), match[2]


_READERS: Final[dict[type[Read], Callable[[Group, Any], Answer]]] = {
    Load: _load,
    GetSession: _get_session,
    ListSessions: _list_sessions,
    Search: _search,
}
