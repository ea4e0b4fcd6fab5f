"""Which messages are deleted when a session has more than it may keep: the oldest, in parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import apsw
import orjson

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll_worker.contract.pacing import Pace, SliceClock, Slices
from backscroll_worker.contract.retention import Rule
from backscroll_worker.contract.tool_calls import Exchanges
from backscroll_worker.stores.sqlite.access import Door
from backscroll_worker.stores.sqlite.maintenance.removed import delete_messages, digest_of
from backscroll_worker.stores.sqlite.reads import stored_messages

MESSAGES_PER_PART: Final = 250
_IN_SESSION: Final = (
    "FROM messages INDEXED BY messagerow_session_id WHERE session_id = ? AND id >= ?"
)


class KnownExchanges:
    """The tool calls and results of a session, as far as its messages have been read."""

    def __init__(self, session: int) -> None:
        self.exchanges = Exchanges()
        self._session = session
        self._looked_at = 0

    def look(self, connection: apsw.Connection, count: int) -> bool:
        """Read `count` more messages; returns whether these were the last."""
        rows: list[Any] = connection.execute(
            "SELECT id, extra FROM messages INDEXED BY messagerow_session_id"
            " WHERE session_id = ? AND id > ? ORDER BY id LIMIT ?",
            (self._session, self._looked_at, count),
        ).fetchall()
        for row, extra in rows:
            if extra is not None and '"tool_' in extra:
                self.exchanges.take(row, orjson.loads(extra))
            self._looked_at = row
        return len(rows) < count


@dataclass(slots=True)
class Part:
    """The messages of a session in rows from `first` to before `end`; none is older.

    `digest` is that of their lines in the archive; None without an archive.
    """

    row: int
    info: SessionInfo
    rule: Rule
    first: int
    end: int
    messages: int
    known: KnownExchanges
    digest: bytes | None = None

    is_whole = False

    def read(
        self, connection: apsw.Connection, first: int, most: int
    ) -> list[tuple[int, ChatMessage]]:
        """The messages from row `first` on, with their rows."""
        return stored_messages(connection, self.row, max(first, self.first), self.end, most)

    def remove(self, connection: apsw.Connection, now: SessionInfo, at: int) -> int | None:
        """Delete them; returns their number, or None when they have changed since the choice."""
        while not self.known.look(connection, 1_000):
            pass
        if self.known.exchanges.cut_at_most(self.end) != self.end:
            return None  # a call without a result has received one
        if now.pinned or now.created_at != self.info.created_at:
            return None
        if now.message_count - self.messages < (self.rule.keep_messages or 0):
            return None
        oldest: Any = connection.execute(f"SELECT min(id) {_IN_SESSION}", (self.row, 0)).get
        if oldest is None or oldest < self.first:
            return None
        if self.digest is not None and self.digest != digest_of(
            self.read(connection, self.first, self.messages + 1)
        ):
            return None
        which = "INDEXED BY messagerow_session_id WHERE session_id = ? AND id >= ? AND id < ?"
        return delete_messages(connection, self.row, which, (self.first, self.end), at)


def parts(door: Door, row: int, info: SessionInfo, rule: Rule, pace: Pace) -> Slices[list[Part]]:
    """The parts of a session to delete; its tool calls have to be read before."""
    known = KnownExchanges(row)
    while True:
        with pace.slice() as count, door() as connection:
            is_known = known.look(connection, count)
        if is_known:
            break
        yield
    with door() as connection:
        last_gone: Any = connection.execute(
            f"SELECT id {_IN_SESSION} ORDER BY id DESC LIMIT 1 OFFSET ?",
            (row, 0, rule.keep_messages or 0),
        ).get
        first = _row_at(connection, row, 0, 0) or 0
    if last_gone is None:
        return []
    end, found, clock = known.exchanges.cut_at_most(last_gone + 1), list[Part](), SliceClock()
    while first < end:
        with door() as connection:
            next_row = _row_at(connection, row, first, MESSAGES_PER_PART) or end
            next_row = min(end, known.exchanges.cut_at_least(next_row))
            messages: Any = connection.execute(
                f"SELECT count(*) {_IN_SESSION} AND id < ?", (row, first, next_row)
            ).get
        found.append(Part(row, info, rule, first, next_row, messages, known))
        first = next_row
        if clock.is_over:
            yield
            clock.begin()
    return found


def _row_at(connection: apsw.Connection, session: int, start: int, offset: int) -> int | None:
    """The row of the session's message number `offset`, from row `start` on."""
    row: Any = connection.execute(
        f"SELECT id {_IN_SESSION} ORDER BY id LIMIT 1 OFFSET ?",
        (session, start, offset),
    ).get
    return None if row is None else int(row)
