"""Search by scan: every message is read, so all hits are ranked, however many there are."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from hashlib import blake2b
from operator import attrgetter
from typing import Final, NamedTuple

from backscroll.contract.filters import SearchFilter, SearchHit, SearchPage, Within
from backscroll.contract.messages import LATEST_MICROS, ChatMessage, from_micros, to_micros
from backscroll.contract.reads import Search
from backscroll_worker.contract.answer_budget import PAGE_BYTES, hit_bytes
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.write_batch import Group
from backscroll_worker.stores.search.cursor import read_cursor, write_cursor
from backscroll_worker.stores.search.place import searched_text
from backscroll_worker.stores.search.query import Query
from backscroll_worker.stores.search.snippet import highlighted_hit
from backscroll_worker.stores.search.text import tokens

_SESSION_FILTERS: Final = ("channel", "sender", "room", "agent")


class _Place(NamedTuple):
    """Where a hit stands: the larger is the better, and of equal ones the newer."""

    score: float
    """0 where no message has all the words, but only all of the session's together."""
    at: int
    digest: int
    """Says which comes first of hits that are as good and as new."""


class _Found(NamedTuple):
    place: _Place
    hit: SearchHit


_place: Final = attrgetter("place")


def search(group: Group, operation: Search) -> SearchPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor."""
    after, where = None, operation.where
    newest: list[int | float] = []
    if operation.cursor is not None:
        # What has come in since the first page must make no session better than it was there.
        *after, last = read_cursor(operation, operation.cursor, len(_Place._fields) + 1)
        newest.append(last)
        where = _until(where, int(last))
    query = Query.parse(operation.query)
    if not query.wanted and not operation.is_listing:
        return SearchPage(())
    sessions = _searched(group, where)
    if after is None:
        sessions = _noting(sessions, newest)
    if operation.by_session:
        found = _best_of_sessions(sessions, query, where)
    else:
        within = operation.within
        found = (hit for session in sessions for hit in _hits(session, query, where, within))
    if operation.is_listing:
        found = (each for session in sessions for each in _listed(session, where))
    left = (hit for hit in found if after is None or list(hit.place) < after)
    page, has_more = _best(left, operation.limit)
    cursor = None
    if has_more:
        cursor = write_cursor(operation, (*page[-1].place, max(newest)))
    hits = tuple([highlighted_hit(hit, query, operation.within) for _, hit in page])
    return SearchPage(hits, cursor, query.excluded)


def _best(found: Iterable[_Found], limit: int) -> tuple[list[_Found], bool]:
    """The best hits that fit into a page, best first, and whether there are more.

    No more of them than that is held on to. What is dropped is worse than all that are kept, and so
    is everything dropped with it.
    """
    kept: list[tuple[_Place, int, _Found, int]] = []
    size_bytes, dropped = 0, None
    for number, each in enumerate(found):
        if dropped is not None and each.place <= dropped:
            continue
        size_bytes += (size := hit_bytes(each.hit))
        heapq.heappush(kept, (each.place, number, each, size))
        while len(kept) > limit or (size_bytes > PAGE_BYTES and len(kept) > 1):
            dropped, _, _, size = heapq.heappop(kept)
            size_bytes -= size
    return [each for _, _, each, _ in sorted(kept, reverse=True)], dropped is not None


def _searched(group: Group, where: SearchFilter) -> Iterator[Session]:
    sessions = group.sessions() if where.key is None else [group.find(where.key)]
    wanted = {name: getattr(where, name) for name in _SESSION_FILTERS}
    for session in sessions:
        attributes = session.sidecar.attributes
        if session.exists and all(
            value is None or attributes.get(name) == value for name, value in wanted.items()
        ):
            yield session


def _noting(sessions: Iterable[Session], newest: list[int | float]) -> Iterator[Session]:
    """Pass the sessions on, and note of when the newest message of each is."""
    for session in sessions:
        times = [line.message.created_at for line in session.lines if line.message.created_at]
        newest += [to_micros(max(times))] if times else []
        yield session


def _until(where: SearchFilter, newest: int) -> SearchFilter:
    """Without messages later than that."""
    until = from_micros(min(newest + 1, LATEST_MICROS - 1))
    return replace(where, until=until if where.until is None else min(until, where.until))


def _hits(
    session: Session, query: Query, where: SearchFilter, within: Within | None
) -> Iterator[_Found]:
    for position, message in _messages(session, where):
        score = query.score(tokens(searched_text(message, within)))
        if score is not None:
            yield _found(session.key, position, message, score, is_whole=True)


def _listed(session: Session, where: SearchFilter) -> Iterator[_Found]:
    """What passes the filter, for the newest first: of a session in its order, whatever the times
    that adapters have given, and of several by time.
    """
    latest = 0
    for position, message in _messages(session, where):
        found = _found(session.key, position, message, 0.0, is_whole=True)
        latest = max(latest, found.place.at)
        digest = position << 24 | found.place.digest >> 24
        yield found._replace(place=found.place._replace(at=latest, digest=digest))


def _messages(session: Session, where: SearchFilter) -> Iterator[tuple[int, ChatMessage]]:
    """The messages that pass the filter, and where in the session they stand."""
    for position, line in enumerate(session.lines):
        if _is_wanted(line.message, where):
            yield position, line.message


def _found(
    key: str, position: int, message: ChatMessage, score: float, *, is_whole: bool
) -> _Found:
    name = f"{message.message_id} {position} {key}".encode()
    digest = int.from_bytes(blake2b(name, digest_size=6).digest(), "big")
    at = 0 if message.created_at is None else to_micros(message.created_at)
    place = _Place(score if is_whole else 0.0, at, digest)
    return _Found(place, SearchHit(key, message, "", (), score))


def _best_of_sessions(
    sessions: Iterable[Session], query: Query, where: SearchFilter
) -> Iterator[_Found]:
    """Each session's best hit; where no message has all terms, the newest one with the rarest."""
    spread: list[dict[int, _Found]] = []
    frequencies = Counter[int]()
    for session in sessions:
        hits: list[_Found] = []
        newest_of_terms: dict[int, _Found] = {}
        for position, message in _messages(session, where):
            scores = query.scores(message.content)
            if all(scores):
                hits.append(_found(session.key, position, message, sum(scores), is_whole=True))
            for term, score in enumerate(scores):
                if score:
                    frequencies[term] += 1
                    newest_of_terms[term] = _found(
                        session.key, position, message, score, is_whole=False
                    )
        if hits:
            best = max(hits, key=_place)
            yield best._replace(hit=replace(best.hit, session_matches=len(hits)))
        elif query.may_spread and len(newest_of_terms) == len(query.wanted):
            spread.append(newest_of_terms)
    rarest = min(range(len(query.wanted)), key=frequencies.__getitem__)
    for newest_of_terms in spread:
        newest = newest_of_terms[rarest]
        yield newest._replace(hit=replace(newest.hit, session_matches=0))


def _is_wanted(message: ChatMessage, where: SearchFilter) -> bool:
    at = message.created_at
    return (
        (where.role is None or message.role == where.role)
        and (where.author is None or message.author == where.author)
        and at is not None
        and (where.since is None or at >= where.since)
        and (where.until is None or at < where.until)
    )
