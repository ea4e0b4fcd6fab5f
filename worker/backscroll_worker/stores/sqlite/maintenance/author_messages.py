"""Which messages are deleted by the retention rules for authors: found by the authors' index."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import apsw
import orjson

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll_worker.contract.author_retention import DueMessages
from backscroll_worker.contract.clock import Passage
from backscroll_worker.contract.pacing import SliceClock
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.stores.sqlite.access import Door
from backscroll_worker.stores.sqlite.listing import get_session
from backscroll_worker.stores.sqlite.maintenance.removed import delete_messages, digest_of
from backscroll_worker.stores.sqlite.reads import stored_messages

MESSAGES_PER_REMOVAL: Final = 250
_INDEX: Final = "INDEXED BY messagerow_author_session_id WHERE author"
_LAST: Final = 2**63 - 1
_NEXT: Final = (
    f"SELECT author, session_id, created_at FROM messages {_INDEX} IS NOT NULL"  # noqa: S608
    " AND (author, session_id) > (?, ?) ORDER BY author, session_id, id LIMIT 1"
)
_SAID: Final = (
    f"SELECT id, created_at FROM messages {_INDEX} = ? AND session_id = ?"  # noqa: S608
    " AND id > ? ORDER BY id LIMIT ?"
)


@dataclass(slots=True)
class AuthorMessages:
    """Messages of one author in one session; `digest` is that of their lines in the archive."""

    row: int
    info: SessionInfo
    rule: Rule
    author: str
    rows: tuple[int, ...]
    digest: bytes | None = None

    is_whole = False

    @property
    def messages(self) -> int:
        return len(self.rows)

    def read(
        self, connection: apsw.Connection, first: int, most: int
    ) -> list[tuple[int, ChatMessage]]:
        """The messages from row `first` on, with their rows."""
        rows = [row for row in self.rows if row >= first][:most]
        found = (stored_messages(connection, self.row, row, row + 1, 1) for row in rows)
        return list(chain.from_iterable(found))

    def remove(self, connection: apsw.Connection, now: SessionInfo, at: int) -> int | None:
        """Delete them; returns their number, or None when they have changed since the choice."""
        if now.pinned or now.created_at != self.info.created_at:
            return None
        if self.digest is not None and self.digest != digest_of(
            self.read(connection, 0, MESSAGES_PER_REMOVAL)
        ):
            return None
        which = "WHERE session_id = ? AND author = ? AND id IN (SELECT value FROM json_each(?))"
        values = self.author, orjson.dumps(self.rows).decode()
        return delete_messages(connection, self.row, which, values, at)


class AuthorScan:
    """Finds what is due by the authors' index: authors in turn, and their sessions in turn.

    Of a session only an author's due messages are read, and the first that stays.
    """

    def __init__(
        self, outside: Door, retention: Retention, passage: Passage, capped: Mapping[int, int]
    ) -> None:
        self._outside = outside
        self._retention = retention
        self._passage = passage
        self._capped = capped  # a session's messages before this row are deleted already

    def removals(self) -> Generator[AuthorMessages | None]:
        """What is due; None after each slice."""
        place: tuple[str, int] | None = ("", -1) if self._retention.author_rules else None
        while place is not None:
            with self._outside() as connection:
                place, found = self._look(connection, place)
            yield None
            for author, session in found:
                yield from self._of_session(session, author)

    def _look(
        self, connection: apsw.Connection, place: tuple[str, int]
    ) -> tuple[tuple[str, int] | None, list[tuple[str, int]]]:
        """The authors and sessions of a slice that may have something due, and the next place."""
        found, clock, known = list[tuple[str, int]](), SliceClock(), ""
        before: int | None = None
        while not clock.is_over:
            row: Any = connection.execute(_NEXT, place).fetchone()
            if row is None:
                return None, found
            author, session, oldest = row
            if author != known:
                known, before = author, self._before(author)
            if before is None:
                place = author, _LAST
                continue
            place = author, session
            if session in self._capped or not before <= oldest <= self._passage.now:
                found.append(place)
        return place, found

    def _before(self, author: str) -> int | None:
        """Nothing of the author's from this moment on is due; None: nothing at all is."""
        shortest = self._retention.shortest_ttl_of(author)
        return None if shortest is None else self._passage.cutoff(shortest).before

    def _of_session(self, session: int, author: str) -> Generator[AuthorMessages | None]:
        with self._outside() as connection:
            key: Any = connection.execute(
                "SELECT key FROM sessions WHERE id = ? AND pinned = 0", (session,)
            ).get
            info = None if key is None else get_session(connection, key)
        if info is None:
            return
        due = DueMessages(self._retention, self._passage, info.to_dict())
        row = self._capped.get(session, 0) - 1
        while (rule := due.rule_of(author)) is not None:
            with self._outside() as connection:
                rows: list[Any] = connection.execute(
                    _SAID, (author, session, row, MESSAGES_PER_REMOVAL)
                ).fetchall()
            gone = tuple(row for row, created_at in rows if due.take(author, created_at))
            if gone:
                yield AuthorMessages(session, info, rule, author, gone)
            if len(rows) < MESSAGES_PER_REMOVAL:
                return
            row = rows[-1][0]
            yield None
