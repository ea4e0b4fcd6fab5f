"""Search in `extra` or attachments' names: a scan, newest first: an index costs each append.

A window is the newest `RANKED` hits, best first, as in `sqlite.search`. A page reads at most `MOST`
messages, and `_CHARS` characters of extra; it then ends early, even empty, and its cursor continues
below. A window in which that happens is started again on the next page, unless it is the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import apsw

from backscroll.contract.filters import SearchPage, Within
from backscroll.contract.reads import Search
from backscroll_worker.contract.answer_budget import page_of
from backscroll_worker.stores.search.cursor import read_cursor, write_cursor
from backscroll_worker.stores.search.place import text_of_attachments, text_of_extra
from backscroll_worker.stores.search.query import Query
from backscroll_worker.stores.search.snippet import highlighted_hit
from backscroll_worker.stores.search.text import tokens
from backscroll_worker.stores.sqlite.attachments import loads
from backscroll_worker.stores.sqlite.bound import Bound
from backscroll_worker.stores.sqlite.edits import unpack_extra
from backscroll_worker.stores.sqlite.scope import Scope
from backscroll_worker.stores.sqlite.search import BEFORE_ANY, RANKED, Place, looked_up

_CHARS: Final = 1_000_000
_SKIPPED_SHARE: Final = 8
"""Maximum number of characters of extra, as JSON, to read for a page; some 0.2 s. Where the JSON
lacks the words, so that it is not read further, it counts for an eighth.
"""


class _Window(NamedTuple):
    """The hits from row `top` back: their scores and rows."""

    top: int
    hits: list[tuple[float, int]]


def search_extra(connection: apsw.Connection, operation: Search) -> SearchPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor."""
    after = None
    if operation.cursor is not None:
        after = Place._make(read_cursor(operation, operation.cursor, len(Place._fields)))
    query = Query.parse(operation.query)
    if not query.wanted:
        return SearchPage(())
    scope = Scope.of_rows(connection, operation.where)
    scan = _Scan(connection, query, scope, *_COLUMNS[operation.within or "extra"])
    found = looked_up(connection, scan.ranked(after))
    page, has_more = page_of(found, operation.limit, lambda each: each[2])
    last = page[-1][0] if has_more else scan.rest
    hits = tuple([highlighted_hit(hit, query, operation.within) for _, _, hit in page])
    cursor = None if last is None else write_cursor(operation, last)
    return SearchPage(hits, cursor, query.excluded)


class _Scan:
    """Reads the messages that have an extra, for one query in one scope.

    Or those with another JSON `column`, of which `text_of` gives the text to search.
    """

    def __init__(
        self,
        connection: apsw.Connection,
        query: Query,
        scope: Scope,
        column: str,
        text_of: Callable[[str], str],
    ) -> None:
        self._column = column
        self._text_of = text_of
        self._connection = connection
        self._query = query
        self._scope = scope
        self.rest: Place | None = None
        """Where the search continues, after `ranked` has read as much as a page may."""

    def ranked(self, after: Place | None) -> Iterator[Place]:
        """The hits after a place, in order."""
        top: Any
        if after is None:
            top = self._connection.execute("SELECT ifnull(max(id), 0) FROM messages").get
        else:
            top = after.top
        for window in self._windows(top):
            for score, row in sorted(window.hits, reverse=True):
                if after is None or (score, row) < (after.score, after.row):
                    yield _place(window.top, score, row)
            after = None

    def _windows(self, top: int) -> Iterator[_Window]:
        limit, left, first = Bound(), _CHARS, top
        hits: list[tuple[float, int]] = []
        stopped: int | None = None
        for row, extra in self._rows(top, limit):
            if self._may_match(extra):
                left -= len(extra)
                score = self._query.score(tokens(self._text_of(extra)))
                if score is not None:
                    hits.append((score, row))
            else:
                left -= len(extra) // _SKIPPED_SHARE
            if len(hits) == RANKED:
                yield _Window(top, hits)
                top, hits = row - 1, []
            if left < 0:
                stopped = row - 1
                break
        stopped = limit.met_at if stopped is None else stopped
        if stopped is None or top == first:
            yield _Window(top, hits)
            top = stopped or 0
        if top:
            self.rest = _place(top, BEFORE_ANY, 0)

    def _may_match(self, extra: str) -> bool:
        """Whether the words can be in this JSON; folding ASCII changes only its case."""
        if not extra.isascii():
            return True
        text = extra.lower()
        return all(
            any(all(token in text for token in term.tokens) for term in clause)
            for clause in self._query.wanted
        )

    def _rows(self, top: int, limit: Bound) -> Iterator[Any]:
        return self._scope.select(
            self._connection,
            f"m.id, m.{self._column}",
            None,
            (1, top),
            f"AND m.{self._column} IS NOT NULL ORDER BY {{row}} DESC",
            bound=limit,
        )


_COLUMNS: Final[dict[Within, tuple[str, Callable[[str], str]]]] = {
    "extra": ("extra", lambda stored: text_of_extra(unpack_extra(stored))),
    "attachments": ("attachments", lambda stored: text_of_attachments(loads(stored))),
}
"""Where a search looks: the column, and the text in its JSON."""


def _place(top: int, score: float, row: int) -> Place:
    return Place(top, top, False, score, row)
