"""Answers from the files: histories and sessions; search has a file of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from producer.answers import Answer
from producer.errors import OperationRefusedError
from producer.messages import (
    LATEST_MICROS,
    ChatMessage,
    SessionFilter,
    SessionInfo,
    SessionPage,
    to_micros,
)
from producer.operations import GetSession, ListSessions, Load, Read, Search
from worker.backends.budget import AnswerBudget, history
from worker.backends.jsonl.group import Group
from worker.backends.jsonl.lines import Line
from worker.backends.jsonl.search import search
from worker.backends.jsonl.session import Session
from worker.backends.query import name_query

_Place = tuple[int, str]

_CURSOR: Final = re.compile(r"([0-9]+)-([0-9a-f]{32})")


def read(group: Group, operation: Read, budget: AnswerBudget | None = None) -> Answer:
    """Answer `operation`; raises `OperationRefusedError` for what cannot be answered.

    With a `budget` the answer is encoded, and refused where it would be too large.
    """
    if isinstance(operation, Load):
        return history(_newest_first(group, operation), budget)
    answer = _READERS[type(operation)](group, operation)
    return answer if budget is None else budget.encode(answer)


def _newest_first(group: Group, operation: Load) -> Iterator[ChatMessage]:
    session = group.find(operation.key)
    if not session.exists:
        return
    lines = session.lines
    end, limit = len(lines), operation.limit
    if operation.before is not None:
        end = _position(lines, "before", operation.before)
    elif operation.around is not None:
        preceding, following = operation.sides
        place = _position(lines, "around", operation.around)
        end = min(place + following, end)
        limit = end - place + preceding
    start = 0 if limit is None else max(0, end - limit)
    for line in islice(reversed(lines), len(lines) - end, len(lines) - start):
        yield line.with_edits() if operation.include_edits else line.message


def _position(lines: Sequence[Line], argument: str, message_id: str) -> int:
    """Where the message stands that an argument names."""
    for position, line in enumerate(lines):
        if line.message.message_id == message_id:
            return position
    raise OperationRefusedError(
        f"{argument}: the session has no message {message_id!r}; it may be rolled back"
    )


def _get_session(group: Group, operation: GetSession) -> SessionInfo | None:
    session = group.find(operation.key)
    return _info(session) if session.exists else None


def _list_sessions(group: Group, operation: ListSessions) -> SessionPage:
    sessions = {
        _place(session): session
        for session in _listed(group.sessions(), operation.where, group.now)
    }
    places = sorted(sessions, reverse=True)
    if operation.cursor is not None:
        after = _parse_cursor(operation.cursor)
        places = [place for place in places if place < after]
    page = places[: operation.limit]
    cursor = "{}-{}".format(*page[-1]) if len(places) > len(page) else None
    return SessionPage(tuple(_info(sessions[place]) for place in page), cursor)


def _listed(sessions: Iterable[Session], where: SessionFilter, now: int) -> Iterator[Session]:
    since = 0 if where.active_since is None else to_micros(where.active_since)
    until = LATEST_MICROS if where.active_until is None else to_micros(where.active_until)
    named = None if where.name is None else name_query(where.name)
    for session in sessions:
        if since <= session.last_activity < until and session.sidecar.passes(where, now):
            name = session.sidecar.attributes.get("name")
            if named is None or (isinstance(name, str) and named.matches(name)):
                yield session


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
    GetSession: _get_session,
    ListSessions: _list_sessions,
    Search: search,
}
