"""Search by scan: every message is read, so all hits are ranked, however many there are."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from producer.messages import ChatMessage, to_micros
from producer.operations import Search
from producer.search import SearchFilter, SearchHit, SearchPage
from worker.backends.cursor import read_cursor, write_cursor
from worker.backends.jsonl.group import Group
from worker.backends.jsonl.session import Session
from worker.backends.query import Query
from worker.backends.snippet import highlighted_hit

_SESSION_FILTERS: Final = ("channel", "sender", "room", "agent")


class _Place(NamedTuple):
    """Where a hit stands: the larger is the better, and of equal ones the newer."""

    score: float
    at: int
    digest: int
    """Says which comes first of hits that are as good and as new."""


class _Found(NamedTuple):
    place: _Place
    hit: SearchHit


def search(group: Group, operation: Search) -> SearchPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor."""
    after = None
    if operation.cursor is not None:
        after = read_cursor(operation, operation.cursor, len(_Place._fields))
    query = Query.parse(operation.query)
    if not query.wanted:
        return SearchPage(())
    sessions = _searched(group, operation.where)
    if operation.by_session:
        found = _best_of_sessions(sessions, query, operation.where)
    else:
        found = (hit for session in sessions for hit in _hits(session, query, operation.where))
    left = (hit for hit in found if after is None or list(hit.place) < after)
    best = heapq.nlargest(operation.limit + 1, left, key=lambda found: found.place)
    page = best[: operation.limit]
    cursor = write_cursor(operation, page[-1].place) if len(best) > len(page) else None
    return SearchPage(tuple([highlighted_hit(hit, query) for _, hit in page]), cursor)


def _searched(group: Group, where: SearchFilter) -> Iterator[Session]:
    sessions = group.sessions() if where.key is None else [group.find(where.key)]
    wanted = {name: getattr(where, name) for name in _SESSION_FILTERS}
    for session in sessions:
        attributes = session.sidecar.attributes
        if session.exists and all(
            value is None or attributes.get(name) == value for name, value in wanted.items()
        ):
            yield session


def _hits(session: Session, query: Query, where: SearchFilter) -> Iterator[_Found]:
    for position, line in enumerate(session.lines):
        message = line.message
        if message.created_at is None or not _is_wanted(message, where):
            continue
        score = query.score(message.content)
        if score is not None:
            name = f"{message.message_id} {position} {session.key}".encode()
            digest = int.from_bytes(blake2b(name, digest_size=6).digest(), "big")
            place = _Place(score, to_micros(message.created_at), digest)
            yield _Found(place, SearchHit(session.key, message, "", (), score))


def _best_of_sessions(
    sessions: Iterable[Session], query: Query, where: SearchFilter
) -> Iterator[_Found]:
    for session in sessions:
        count, best = 0, None
        for found in _hits(session, query, where):
            count += 1
            best = found if best is None or found.place > best.place else best
        if best is not None:
            hit = best.hit
            yield best._replace(hit=SearchHit(hit.key, hit.message, "", (), hit.score, count))


def _is_wanted(message: ChatMessage, where: SearchFilter) -> bool:
    at = message.created_at
    return (
        (where.role is None or message.role == where.role)
        and at is not None
        and (where.since is None or at >= where.since)
        and (where.until is None or at < where.until)
    )
