"""Answers from the files: histories and sessions; search has a file of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import (
    LATEST_MICROS,
    ChatMessage,
    SessionFilter,
    SessionInfo,
    SessionPage,
    to_micros,
)
from backscroll.contract.operations import GetSession, ListSessions, Load, Read, Search
from backscroll.contract.results import Answer
from backscroll_worker.contract.answer_budget import AnswerBudget, history
from backscroll_worker.stores.jsonl.files import naming
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.search import search
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.window import AbsentError, PartReader, Window
from backscroll_worker.stores.jsonl.write_batch import Group
from backscroll_worker.stores.search.query import name_query

_Place = tuple[int, str]
_Named = tuple[str, str]  # an argument, and the id of a message in it

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
    preceding, following = operation.limit, 0
    named = _meant(session, operation)
    if named is not None and named[0].startswith("around"):
        preceding, following = operation.sides
    window = None
    if preceding is not None and session.is_on_disk:
        window = _window(group, session, named, preceding, following)
    if window is None:
        window = Window(session.lines, _position(session.lines, named))
    lines, place = window
    start = 0 if preceding is None else max(0, place - preceding)
    for line in reversed(lines[start : place + following]):
        yield line.with_edits() if operation.include_edits else line.message


def _meant(session: Session, operation: Load) -> _Named | None:
    """The argument that names a message, with its message id."""
    place = operation.place
    if place is None or not place[0].endswith("platform_id"):
        return place
    argument, platform_id = place
    message_id = session.message_id_of(platform_id)
    if message_id is None:
        raise _absent(argument, platform_id)
    return argument, message_id


def _window(
    group: Group, session: Session, named: _Named | None, preceding: int, following: int
) -> Window | None:
    """As much of the file as is asked for; None when the whole of it has to be read."""
    path = group.directory.path / session.names.messages
    with naming(path), suppress(FileNotFoundError), path.open("rb") as file:
        part = PartReader(file.fileno(), session.key, session.sidecar.created_at)
        if named is None:
            return part.newest(preceding)
        try:
            return part.beside(named[1], preceding, max(following, 1))
        except AbsentError:
            raise _absent(*named) from None
    return None


def _position(lines: Sequence[Line], named: _Named | None) -> int:
    """Where the message stands that an argument names; behind the last one if none does."""
    if named is None:
        return len(lines)
    for position, line in enumerate(lines):
        if line.message.message_id == named[1]:
            return position
    raise _absent(*named)


def _absent(argument: str, id_: str) -> OperationRefusedError:
    return OperationRefusedError(
        f"{argument}: the session has no message {id_!r}; it may be rolled back"
    )


def _get_session(group: Group, operation: GetSession) -> SessionInfo | None:
    session = group.find(operation.key)
    return _info(session) if session.exists else None


def _list_sessions(group: Group, operation: ListSessions) -> SessionPage:
    where, limit = operation.where, operation.limit
    since = 0 if where.active_since is None else to_micros(where.active_since)
    until = LATEST_MICROS if where.active_until is None else to_micros(where.active_until)
    after = (until, "") if operation.cursor is None else _parse_cursor(operation.cursor)
    found: list[tuple[_Place, Session]] = []
    for at, sessions in group.newest_first():
        if at < since or len(found) > limit:
            break
        if at < until and at <= after[0]:
            passing = {_place(session): session for session in _passing(sessions, where, group.now)}
            found += [
                (place, passing[place]) for place in sorted(passing, reverse=True) if place < after
            ]
    page = found[:limit]
    cursor = "{}-{}".format(*page[-1][0]) if len(found) > limit else None
    return SessionPage(tuple([_info(session) for _, session in page]), cursor)


def _passing(sessions: Iterable[Session], where: SessionFilter, now: int) -> Iterator[Session]:
    named = None if where.name is None else name_query(where.name)
    for session in sessions:
        if session.sidecar.passes(where, now):
            name = session.sidecar.attributes.get("name")
            is_named = named is None or (isinstance(name, str) and named.matches(name))
            if is_named and (where.author is None or _has_spoken(session, where.author)):
                yield session


def _has_spoken(session: Session, author: str) -> bool:
    return any(line.message.author == author for line in session.lines)


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
