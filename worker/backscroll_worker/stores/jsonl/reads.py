"""Answers reads from the files; `search` is in a module of its own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final

from backscroll.contract.answers import Answer
from backscroll.contract.attachment_reading import GetAttachment
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import (
    LATEST_MICROS,
    ChatMessage,
    SessionFilter,
    SessionInfo,
    SessionPage,
    to_micros,
)
from backscroll.contract.operations import Read
from backscroll.contract.reads import GetMessage, GetSession, ListSessions, Load, Search
from backscroll.contract.states import GetStates, SessionState
from backscroll.contract.tokens import GetUsage
from backscroll_worker.contract.answer_budget import AnswerBudget, history
from backscroll_worker.contract.choosing import (
    SessionMessages,
    absent,
    by_message_id,
    choose,
    passes,
)
from backscroll_worker.contract.states import states_asked
from backscroll_worker.stores.jsonl.attachments import get_attachment
from backscroll_worker.stores.jsonl.files import naming
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.message_by_id import get_message
from backscroll_worker.stores.jsonl.search import search
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.usage import usage
from backscroll_worker.stores.jsonl.window import AbsentError, PartReader, Window
from backscroll_worker.stores.jsonl.write_batch import Group
from backscroll_worker.stores.search.query import Query, name_query

_Place = tuple[int, str]

_CURSOR: Final = re.compile(r"([0-9]+)-([0-9a-f]{32})")


def read(group: Group, operation: Read, budget: AnswerBudget | None = None) -> Answer:
    """Answer `operation`; raises `OperationRefusedError` if that is impossible.

    With a `budget` the answer is encoded, and refused if it would be too large.
    """
    if isinstance(operation, Load):
        if operation.is_chosen and (session := group.find(operation.key)).exists:
            load = by_message_id(operation, session.message_id_of)
            with _part_of(group, session) as part:
                return choose(load, _Messages(session, load, part), budget)
        return history(_newest_first(group, operation), budget)
    answer = _READERS[type(operation)](group, operation)
    return answer if budget is None else budget.encode(answer)


def _newest_first(group: Group, operation: Load) -> Iterator[ChatMessage]:
    session = group.find(operation.key)
    if not session.exists:
        return
    operation = by_message_id(operation, session.message_id_of)
    preceding, following = operation.limit, 0
    if operation.around is not None:
        preceding, following = operation.sides
    window = None
    if preceding is not None and session.is_on_disk:
        window = _window(group, session, operation, preceding, following)
    if window is None:
        window = Window(session.lines, _position(session.lines, operation))
    lines, place = window
    start = 0 if preceding is None else max(0, place - preceding)
    for line in reversed(lines[start : place + following]):
        yield line.with_edits() if operation.include_edits else line.message


class _Messages(SessionMessages):
    """The messages of a session that a load's filter lets pass, from as few parts as possible."""

    def __init__(self, session: Session, load: Load, part: PartReader | None) -> None:
        self._session = session
        self._load = load
        self._part = part

    def back(self, before: str | None) -> Iterator[ChatMessage]:
        return self._passing(self._back(before))

    def onward(self, after: str | None, before: str | None) -> Iterator[ChatMessage]:
        if before is None and self._part is not None:
            with _refusing("after", after):
                lines = self._part.onward(after)
            if lines is not None:
                return self._passing(lines)
        whole = self._session.lines
        start = 0 if after is None else _place_of(whole, "after", after) + 1
        return self._passing(whole[start : _place_of(whole, "before", before)])

    def newest_summary(self, before: str | None) -> ChatMessage | None:
        lines = self._back(before, having=b'"upto"')
        return next((self._shown(line) for line in lines if line.message.upto is not None), None)

    def has(self, message_id: str) -> bool:
        try:
            self._back(message_id)
        except OperationRefusedError:
            return False
        return True

    def _passing(self, lines: Iterable[Line]) -> Iterator[ChatMessage]:
        return (self._shown(line) for line in lines if passes(line.message, self._load))

    def _shown(self, line: Line) -> ChatMessage:
        return line.with_edits() if self._load.include_edits else line.message

    def _back(self, before: str | None, having: bytes = b"") -> Iterator[Line]:
        if self._part is not None:
            with _refusing("before", before):
                lines = self._part.back(before, having)
            if lines is not None:
                return lines
        whole = self._session.lines
        return reversed(whole[: _place_of(whole, "before", before)])


@contextmanager
def _part_of(group: Group, session: Session) -> Iterator[PartReader | None]:
    """The session's file, to read parts of it; None when the whole of it has to be read."""
    path = group.directory.path / session.names.messages
    with naming(path), ExitStack() as stack:
        part = None
        with suppress(FileNotFoundError):
            if session.is_on_disk:
                file = stack.enter_context(path.open("rb"))
                part = PartReader(file.fileno(), session.key, session.sidecar.created_at)
        yield part


@contextmanager
def _refusing(argument: str, message_id: str | None) -> Iterator[None]:
    try:
        yield
    except AbsentError:
        raise absent(argument, message_id) from None


def _window(
    group: Group, session: Session, operation: Load, preceding: int, following: int
) -> Window | None:
    """The requested part of the file; None if the whole file has to be read."""
    path = group.directory.path / session.names.messages
    place = operation.before or operation.around
    with naming(path), suppress(FileNotFoundError), path.open("rb") as file:
        part = PartReader(file.fileno(), session.key, session.sidecar.created_at)
        if place is None:
            return part.newest(preceding)
        try:
            return part.beside(place, preceding, max(following, 1))
        except AbsentError:
            return Window([], _position([], operation))
    return None


def _position(lines: Sequence[Line], operation: Load) -> int:
    """Where the message stands that an argument names; behind the last one if none does."""
    argument = "before" if operation.around is None else "around"
    return _place_of(lines, argument, operation.before or operation.around)


def _place_of(lines: Sequence[Line], argument: str, message_id: str | None) -> int:
    if message_id is None:
        return len(lines)
    for position, line in enumerate(lines):
        if line.message.message_id == message_id:
            return position
    raise absent(argument, message_id)


def _get_session(group: Group, operation: GetSession) -> SessionInfo | None:
    session = group.find(operation.key)
    return session.info() if session.exists else None


def _get_states(group: Group, operation: GetStates) -> dict[str, SessionState]:
    session = group.find(operation.key)
    return states_asked(session.sidecar.states, operation.name) if session.exists else {}


def _list_sessions(group: Group, operation: ListSessions) -> SessionPage:
    where, limit = operation.where, operation.limit
    since = 0 if where.active_since is None else to_micros(where.active_since)
    until = LATEST_MICROS if where.active_until is None else to_micros(where.active_until)
    after = (until, "") if operation.cursor is None else _parse_cursor(operation.cursor)
    found: list[tuple[_Place, Session]] = []
    for at, sessions in group.newest_first(where.prefix or ""):
        if at < since or len(found) > limit:
            break
        if at < until and at <= after[0]:
            passing = {
                _place(session): session for session in _matching(sessions, where, group.now)
            }
            found += [
                (place, passing[place]) for place in sorted(passing, reverse=True) if place < after
            ]
    page = found[:limit]
    cursor = "{}-{}".format(*page[-1][0]) if len(found) > limit else None
    return SessionPage(tuple([session.info() for _, session in page]), cursor)


def _matching(sessions: Iterable[Session], where: SessionFilter, now: int) -> Iterator[Session]:
    named = None if where.name is None else Query.parse(name_query(where.name))
    for session in sessions:
        if session.sidecar.matches(where, now):
            name = session.sidecar.attributes.get("name")
            is_named = named is None or (isinstance(name, str) and named.matches(name))
            if is_named and (where.author is None or _has_spoken(session, where.author)):
                yield session


def _has_spoken(session: Session, author: str) -> bool:
    return any(line.message.author == author for line in session.lines)


def _place(session: Session) -> _Place:
    """A session's place in a listing. Keys can be too long for a cursor."""
    digest = hashlib.blake2b(session.key.encode(), digest_size=16).hexdigest()
    return session.last_activity, digest


def _parse_cursor(cursor: str) -> _Place:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise OperationRefusedError(f"cursor: {cursor[:40]!r} is not a valid cursor of a listing")
    return int(match[1]), match[2]


_READERS: Final[dict[type[Read], Callable[[Group, Any], Answer]]] = {
    GetMessage: get_message,
    GetSession: _get_session,
    GetStates: _get_states,
    ListSessions: _list_sessions,
    Search: search,
    GetAttachment: get_attachment,
    GetUsage: usage,
}
