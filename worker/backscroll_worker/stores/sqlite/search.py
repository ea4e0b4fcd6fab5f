"""Search: hits are found newest first, and ranked a window at a time.

Ranking all hits would visit every row of a common word. A window is the newest `RANKED` hits, best
first; the next window is the hits before them, and so on to the oldest. So the hits of a rare word
are ranked among all, those of a common one among the newest.

FTS5 returns hits in the order of their rows at almost no cost, but first collects all the rows of a
prefix. If a prefix is so common that one message in ten has such a word, it is cheaper to read
messages: the window is then the newest `RANKED` messages that match the rest of the query, and the
hits among them.

By session, sessions with the words in different messages come after all those with the words in one
message. They are searched for among the sessions of the rarest word's newest `RANKED` messages.

One page visits at most `MOST` hits (twice that if it reads messages first), and ranks at most
`_WINDOWS` windows. If these do not fill it, it ends early, even empty; its cursor continues below.

A message's score depends only on the message (`stores.search.query`), and a window begins at a
fixed row, so pages neither repeat nor omit a hit, even while messages are added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any, Final, NamedTuple

import apsw

from backscroll.contract.filters import SearchHit, SearchPage
from backscroll.contract.reads import Search
from backscroll_worker.contract.answer_budget import page_of
from backscroll_worker.stores.search.cursor import read_cursor, write_cursor
from backscroll_worker.stores.search.query import Query, relevance
from backscroll_worker.stores.search.snippet import highlighted_hit
from backscroll_worker.stores.search.text import tokens
from backscroll_worker.stores.sqlite.bound import MOST, Bound, register_bounds
from backscroll_worker.stores.sqlite.folding import query_of_index
from backscroll_worker.stores.sqlite.rows import MESSAGE_COLUMNS, message_of
from backscroll_worker.stores.sqlite.scope import Scope

RANKED: Final = 1_000
"""The number of hits in a window, or of messages that are read for one."""

_TOKENS: Final = 2_000_000
"""A window ends early if its hits have more tokens, times those of the query; some 0.05 s."""

_ENOUGH: Final = 200
_READ_CHARS: Final = 1_000_000
"""A window also ends after this many hits among them, or characters; a word counts as five."""

_WORD_CHARS: Final = 5

_FEWEST: Final = 20
_WINDOWS_READ: Final = 10
"""With fewer hits among those, or after this many windows on a page, FTS5 is used after all."""

_SAMPLE: Final = 50
_COMMON: Final = 5

_WINDOWS: Final = 25
"""Maximum number of windows ranked for a page; some 0.3 s."""

_LOOKED_THROUGH: Final = 200
_AT_ONCE: Final = 50
"""The sessions that are scanned for a common word: the maximum, and how many at a time."""

BEFORE_ANY: Final = 1e300
"""The score of a place before all hits of a window."""


class _Hit(NamedTuple):
    """A message that matches. A larger one is better; of equal scores the newer is better."""

    score: float
    row: int
    session: int
    tokens: int = 0


class _Window(NamedTuple):
    """The hits from row `top` back; the next window begins at `below`, None for the last."""

    top: int
    is_read: bool
    hits: list[_Hit]
    below: int | None


class Place(NamedTuple):
    """The position of a hit: its window, and its place in that.

    `newest` is the last row at the time of the first page. `top` is 0, which is not a row, for a
    session whose words are in different messages.
    """

    newest: int
    top: int
    is_read: bool
    score: float
    row: int


def register_score(connection: apsw.Connection) -> None:
    """Register on `connection` the function that scores hits of FTS5, and those of a scope."""
    connection.register_fts5_function("hit_score", _hit_score)
    connection.register_fts5_function("hit_tokens", _hit_tokens)
    register_bounds(connection)


def search(connection: apsw.Connection, operation: Search) -> SearchPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor."""
    after = None
    if operation.cursor is not None:
        after = Place._make(read_cursor(operation, operation.cursor, len(Place._fields)))
    query = Query.parse(operation.query)
    if not query.wanted:
        return SearchPage(())
    scope = Scope.of(connection, operation.where)
    indexed = query_of_index(connection, operation.query)
    finder = _Finder(connection, indexed, scope, by_session=operation.by_session)
    found = looked_up(connection, finder.ranked(after))
    page, has_more = page_of(found, operation.limit, lambda each: each[2])
    last = page[-1][0] if has_more else finder.rest
    hits = [highlighted_hit(hit, query) for _, _, hit in page]
    if operation.by_session:
        sessions = [session for place, session, _ in page if place.top]
        counts = finder.count(sessions, page[0][0].newest) if sessions else {}
        hits = [
            replace(hit, session_matches=counts.get(session, 1) if place.top else 0)
            for hit, (place, session, _) in zip(hits, page, strict=True)
        ]
    cursor = None if last is None else write_cursor(operation, last)
    return SearchPage(tuple(hits), cursor, query.excluded)


class _Finder:
    """Finds what matches one query in one scope."""

    def __init__(
        self, connection: apsw.Connection, query: Query, scope: Scope, *, by_session: bool
    ) -> None:
        self._connection = connection
        self._query = query
        self._scope = scope
        self._by_session = by_session
        self._had: set[int] = set()
        """Sessions of earlier hits: their other hits are skipped, not ranked."""
        self.rest: Place | None = None
        """Where the search continues, after `ranked` has visited the maximum number of hits."""

    def ranked(self, after: Place | None) -> Iterator[Place]:
        """The hits after a place, in order; some may belong to sessions that are being deleted."""
        if after is None:
            newest: Any = self._connection.execute("SELECT ifnull(max(id), 0) FROM messages").get
            top, is_read = newest, not self._by_session  # by session, FTS5 counts all matches
        else:
            newest, top, is_read, *_ = after
        if self._by_session and 0 < top < newest:
            self._had = self._sessions(newest, above=top)
        common = self._common_prefixes(newest) if is_read else ()
        for window in self._windows(newest, top, common) if top else ():
            hits = sorted(window.hits, reverse=True)
            if self._by_session:
                best = _first_of_sessions(hits)
                self._had |= best.keys()
                hits = list(best.values())
            for hit in hits:
                if after is None or hit[:2] < (after.score, after.row):
                    yield Place(newest, window.top, window.is_read, hit.score, hit.row)
            after = None
        if self.rest is None and self._by_session and self._may_spread(newest):
            before = newest + 1 if after is None or after.top else after.row
            for hit in self._spread(newest, before):
                yield Place(newest, 0, False, hit.score, hit.row)

    def count(self, sessions: Collection[int], newest: int) -> dict[int, int]:
        """The number of matching messages per session, among the newest `MOST` matches."""
        rows = self._scope.of_sessions(sessions).select(
            self._connection,
            "m.session_id",
            self._query.fts5,
            (1, newest),
            f"ORDER BY {{row}} DESC LIMIT {MOST}",
        )
        return Counter(session for (session,) in rows)

    def _may_spread(self, newest: int) -> bool:
        """Whether to search for the words in different messages."""
        limit = Bound()
        if self._query.may_spread:
            self._size(newest, MOST + 1, limit)
        return self._query.may_spread and limit.met_at is None

    def _spread(self, newest: int, before: int) -> Iterator[_Hit]:
        """The sessions with all terms, but in no single message; by their hits before a row.

        A session's hit is its newest message with the rarest term, and the newest hit comes first.
        For another term with less than a window of messages, all sessions are looked up. For a more
        common term, the newest remaining sessions are scanned, some at a time.
        """
        sizes: list[tuple[int, _Finder]] = []
        for clause in self._query.wanted:
            only = self._query.only(clause)
            part = _Finder(self._connection, only, self._scope, by_session=True)
            size = part._size(newest, RANKED, Bound())
            if not size:
                return
            sizes.append((size, part))
        (_, rarest), *others = sorted(sizes, key=lambda each: each[0])
        left = _first_of_sessions(islice(rarest._matches(newest, Bound()), RANKED))
        for size, part in others:
            if left and size < RANKED:
                having = part._sessions(newest)
                left = {session: hit for session, hit in left.items() if session in having}
        common = [part for size, part in others if size == RANKED]
        hits = list(left.values())[: _LOOKED_THROUGH if common else None]
        hits = [hit for hit in hits if hit.row < before]
        for first in range(0, len(hits), _AT_ONCE):
            some = hits[first : first + _AT_ONCE]
            sessions = {hit.session for hit in some}
            for part in common:
                sessions &= part.count(sessions, newest).keys()
            sessions -= self.count(sessions, newest).keys()
            yield from (hit for hit in some if hit.session in sessions)

    def _size(self, newest: int, most: int, limit: Bound) -> int:
        """The number of matching messages; at most `most`."""
        rows = self._scope.select(
            self._connection,
            "1",
            self._query.fts5,
            (1, newest),
            f"ORDER BY {{row}} DESC LIMIT {most}",
            index_only=True,
            bound=limit,
        )
        return sum(1 for _ in rows)

    def _sessions(self, newest: int, above: int = 0) -> set[int]:
        """The sessions with a matching message, from row `newest` to after `above`.

        Without `above`, of the newest `MOST` messages only.
        """
        rows = self._scope.select(
            self._connection,
            "m.session_id",
            self._query.fts5,
            (above + 1, newest),
            "ORDER BY {row} DESC",
            bound=None if above else Bound(),
        )
        return {session for (session,) in rows}

    def _common_prefixes(self, newest: int) -> list[str]:
        """The common prefixes, estimated from messages spread over the whole store."""
        if not self._query.prefixes:
            return []
        rows = self._connection.executemany(
            "SELECT substr(content, 1, 1000) FROM messages WHERE id <= ? ORDER BY id DESC LIMIT 1",
            [(newest * part // _SAMPLE,) for part in range(1, _SAMPLE + 1)],
        )
        sample = [tokens(str(content)) for (content,) in rows]
        return [
            prefix
            for prefix in self._query.prefixes
            if sum(any(word.startswith(prefix) for word in words) for words in sample) >= _COMMON
        ]

    def _windows(self, newest: int, top: int, common: Collection[str]) -> Iterator[_Window]:
        rest = self._query.without(common).fts5
        for _ in range(_WINDOWS_READ if common else 0):
            window = self._read(top, rest)
            if window is None:
                break
            yield window
            if window.below is None:
                return
            top = window.below
        yield from self._matched(newest, top)

    def _matched(self, newest: int, top: int) -> Iterator[_Window]:
        """The windows that FTS5 finds; it collects the rows of a prefix once for all of them.

        A window in which the bound is reached is started again on the next page, unless it is the
        first: there the bound would be reached at the same row again.
        """
        limit = Bound()
        matches = self._matches(top, limit)
        for number in range(_WINDOWS):
            hits, is_last = self._window(matches)
            if limit.met_at is not None and number > 0:
                break
            if hits:
                yield _Window(top, False, hits, None)
            if is_last:
                top = limit.met_at or 0
                break
            top = hits[-1].row - 1
        if top:
            self.rest = Place(newest, top, False, BEFORE_ANY, 0)

    def _window(self, matches: Iterator[_Hit]) -> tuple[list[_Hit], bool]:
        """The next hits to be ranked together, and whether these are the last."""
        hits: list[_Hit] = []
        left = _TOKENS // self._query.size
        for hit in islice(matches, RANKED):
            hits.append(hit)
            left -= hit.tokens
            if left <= 0:
                return hits, False
        return hits, len(hits) < RANKED

    def _matches(self, top: int, limit: Bound) -> Iterator[_Hit]:
        """The hits of FTS5, newest first, of sessions without earlier hits."""
        session = "m.session_id" if self._by_session else "0"
        sizes = ", ".join([str(len(clause)) for clause in self._query.wanted])
        scope = self._scope.without_sessions(self._had) if self._by_session else self._scope
        rows = scope.select(
            self._connection,
            f"hit_score(message_index, {sizes}), {{row}}, {session}, hit_tokens(message_index)",
            self._query.fts5,
            (1, top),
            "ORDER BY {row} DESC",
            # A window's messages are spread over a large store: only those on the page are read.
            index_only=not self._by_session,
            bound=limit,
        )
        # SQLite may be one row ahead when a session is added to the set.
        hits = map(_Hit._make, rows)
        return (hit for hit in hits if hit.session not in self._had)

    def _read(self, top: int, rest: str | None) -> _Window | None:
        """A window of messages that are read; None if few of them are hits."""
        limit = Bound()
        rows = self._scope.select(
            self._connection,
            "m.id, m.session_id, m.content",
            rest,
            (1, top),
            f"ORDER BY {{row}} DESC LIMIT {RANKED}",
            bound=limit,
        )
        hits: list[_Hit] = []
        read_chars = 0
        for number, (row, session, content) in enumerate(rows, start=1):
            words = tokens(content)
            read_chars += max(len(content), _WORD_CHARS * len(words))
            score = self._query.score(words)
            if score is not None:
                hits.append(_Hit(score, row, session))
            if len(hits) == _ENOUGH or number == RANKED or read_chars > _READ_CHARS:
                return _Window(top, True, hits, row - 1) if len(hits) >= _FEWEST else None
        return None if limit.met_at is not None else _Window(top, True, hits, None)


def _first_of_sessions(hits: Iterable[_Hit]) -> dict[int, _Hit]:
    first: dict[int, _Hit] = {}
    for hit in hits:
        first.setdefault(hit.session, hit)
    return first


def looked_up(
    connection: apsw.Connection, places: Iterable[Place]
) -> Iterator[tuple[Place, int, SearchHit]]:
    """The hits at these places and the row ids of their sessions, without those being deleted."""
    for place in places:
        rows: Iterable[Any] = connection.execute(
            f"SELECT s.id, s.key, {MESSAGE_COLUMNS} FROM messages"  # noqa: S608
            " JOIN sessions s ON s.id = session_id WHERE messages.id = ? AND s.key IS NOT NULL",
            (place.row,),
        )
        for session, key, *columns in rows:
            yield place, session, SearchHit(key, message_of(columns), "", (), place.score)


def _hit_score(api: apsw.FTS5ExtensionApi, /, *sizes: Any) -> float:
    # The phrases of the wanted clauses come first; a hit contains no unwanted one.
    numbers, counts = count(), []
    for size in sizes:
        phrases = islice(numbers, size)
        counts.append(sum([len(api.phrase_column_offsets(phrase, 0)) for phrase in phrases]))
    return relevance(counts, api.column_size(0))


def _hit_tokens(api: apsw.FTS5ExtensionApi, /, *_: Any) -> int:
    return api.column_size(0)
