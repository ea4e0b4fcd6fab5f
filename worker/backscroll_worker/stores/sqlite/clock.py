"""The store's clock in the database: its recorded history, and timestamps in the future.

A clock that was ahead leaves such timestamps. They are set back to now, some with each group, so
that sessions are listed by activity and expire. No activity can be later than now.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

import apsw

from backscroll_worker.contract.clock import TOLERANCE, Clock, ClockRecord, StoreClock
from backscroll_worker.stores.sqlite.access import Door

_SESSIONS_PER_GROUP: Final = 2_000


def open_clock(connection: apsw.Connection, clock: Clock) -> StoreClock:
    """The clock of the store."""
    history: Any = connection.execute("SELECT history FROM clock").get
    latest: Any = connection.execute("SELECT max(last_activity) FROM sessions").get
    return StoreClock(clock, ClockRecord.loads(history), latest or 0)


class Times:
    """Keeps a store's clock, and its timestamps consistent with it."""

    def __init__(self, clock: StoreClock, door: Door) -> None:
        self._clock = clock
        self._door = door
        self._is_written = False
        self._is_healed = False

    def write(self, connection: apsw.Connection) -> None:
        """Save what must be saved, within the caller's transaction; `settle` has to follow."""
        self._is_written = self._is_healed = False
        if self._clock.must_save:
            sql = "INSERT OR REPLACE INTO clock(id, history) VALUES (1, ?)"
            connection.execute(sql, (self._clock.dumps(),))
            self._is_written = True
        if self._clock.must_heal:
            self._is_healed = _heal(connection, self._clock.now())

    def settle(self) -> None:
        """Note that the transaction was committed."""
        if self._is_written:
            self._clock.settle()
        if self._is_healed:
            self._clock.must_heal = False
        self._is_written = self._is_healed = False

    def heal(self) -> Generator[None]:
        """Correct all remaining timestamps."""
        self._clock.now()
        while self._clock.must_save or self._clock.must_heal:
            with self._door() as connection:
                self.write(connection)
            self.settle()
            yield


def _heal(connection: apsw.Connection, now: int) -> bool:
    """Set timestamps in the future back to now, in their order; returns whether it is complete."""
    rows: list[Any] = connection.execute(
        "SELECT id FROM sessions INDEXED BY sessionrow_last_activity WHERE last_activity > ?"
        " ORDER BY last_activity, id LIMIT ?",
        (now + TOLERANCE, _SESSIONS_PER_GROUP),
    ).fetchall()
    connection.executemany(
        "UPDATE sessions SET last_activity = ?1, created_at = min(created_at, ?3) WHERE id = ?2",
        [(now + place, row, now) for place, (row,) in enumerate(rows)],
    )
    if len(rows) == _SESSIONS_PER_GROUP:
        return False
    connection.execute(
        "UPDATE sessions SET turn_started_at = ?1 WHERE state <> 'idle' AND turn_started_at > ?1",
        (now,),
    )
    connection.execute(
        "UPDATE sessions SET turn_expires_at = ?1 + turn_lease"
        " WHERE state <> 'idle' AND turn_expires_at > ?1 + turn_lease",
        (now,),
    )
    erasures: list[Any] = connection.execute(
        "SELECT op_id FROM erasures WHERE noted_at > ? ORDER BY noted_at", (now,)
    ).fetchall()
    connection.executemany(  # erasures end in this order
        "UPDATE erasures SET noted_at = ? WHERE op_id = ?",
        [(now + place, *op_id) for place, op_id in enumerate(erasures)],
    )
    return True
