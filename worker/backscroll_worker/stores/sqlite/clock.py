"""The store's time in the database: what is remembered of the clock, and stamps of the future.

A clock that was ahead leaves such stamps. They are brought back to now, some with each group, so
that sessions are listed by their activity and expire. Nothing has been active later than now.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import apsw

from backscroll_worker.contract.clock import TOLERANCE, Clock, History, StoreClock
from backscroll_worker.stores.sqlite.access import Door

_SESSIONS_A_GROUP: Final = 2_000


def open_clock(connection: apsw.Connection, clock: Clock) -> StoreClock:
    """The clock of the store."""
    history: Any = connection.execute("SELECT history FROM clock").get
    latest: Any = connection.execute("SELECT max(last_activity) FROM sessions").get
    return StoreClock(clock, History.loads(history), latest or 0)


class Times:
    """Keeps a store's clock and its stamps in step with it."""

    def __init__(self, clock: StoreClock, door: Door) -> None:
        self._clock = clock
        self._door = door
        self._is_written = False
        self._is_healed = False

    def write(self, connection: apsw.Connection) -> None:
        """Write down what must be, within the caller's transaction; `settle` has to follow."""
        self._is_written = self._is_healed = False
        if self._clock.must_save:
            sql = "INSERT OR REPLACE INTO clock(id, history) VALUES (1, ?)"
            connection.execute(sql, (self._clock.dumps(),))
            self._is_written = True
        if self._clock.must_heal:
            self._is_healed = _heal(connection, self._clock.now())

    def settle(self) -> None:
        """The transaction is committed."""
        if self._is_written:
            self._clock.settle()
        if self._is_healed:
            self._clock.must_heal = False
        self._is_written = self._is_healed = False

    def heal(self) -> Generator[None]:
        """Do all that is left to be done."""
        self._clock.now()
        while self._clock.must_save or self._clock.must_heal:
            with self._door() as connection:
                self.write(connection)
            self.settle()
            yield


def _heal(connection: apsw.Connection, now: int) -> bool:
    """Bring stamps of the future back to now, in their order; whether these were all."""
    rows: list[Any] = connection.execute(
        "SELECT id FROM sessions INDEXED BY sessionrow_last_activity WHERE last_activity > ?"
        " ORDER BY last_activity, id LIMIT ?",
        (now + TOLERANCE, _SESSIONS_A_GROUP),
    ).fetchall()
    connection.executemany(
        "UPDATE sessions SET last_activity = ?1, created_at = min(created_at, ?3) WHERE id = ?2",
        [(now + place, row, now) for place, (row,) in enumerate(rows)],
    )
    if len(rows) == _SESSIONS_A_GROUP:
        return False
    connection.execute(
        "UPDATE sessions SET turn_started_at = ?1 WHERE state <> 'idle' AND turn_started_at > ?1",
        (now,),
    )
    erasures: list[Any] = connection.execute(
        "SELECT op_id FROM erasures WHERE noted_at > ? ORDER BY noted_at", (now,)
    ).fetchall()
    connection.executemany(  # they end in this order
        "UPDATE erasures SET noted_at = ? WHERE op_id = ?",
        [(now + place, *op_id) for place, op_id in enumerate(erasures)],
    )
    return True
