"""What is remembered of the clock in a database, and one that remembers nothing yet."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import apsw

from backscroll.contract.messages import from_micros
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.sqlite import clock as sqlite_clock
from backscroll_worker.testing.stores import HOUR, Clock, keys, open_tested, say

YEAR = 365 * 24 * HOUR


def poisoned(path: Path, clock: Clock, sessions: int) -> None:
    """A store as the version before left it, after a clock that was a year ahead."""
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        for number in range(sessions):
            say(store, f"s{number}", "x")
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DELETE FROM clock")
        connection.execute(
            "UPDATE sessions SET last_activity = ?1 + id, created_at = ?1", (clock.now + YEAR,)
        )
        connection.execute("UPDATE applied SET applied_at = ?", (clock.now + YEAR,))


def test_a_store_with_sessions_of_the_future_heals_in_slices(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "b.db"
    poisoned(path, clock, 25)
    old, sqlite_clock._SESSIONS_PER_GROUP = sqlite_clock._SESSIONS_PER_GROUP, 10  # type: ignore[misc]
    try:
        with open_tested(f"sqlite://{path}", clock=clock) as store:
            say(store, "first", "x")
        with open_tested(f"sqlite://{path}", clock=clock) as store:
            for number in range(4):
                say(store, f"more{number}", "x")
            listed = store.sessions(limit=100).sessions
            assert all(info.last_activity < from_micros(clock.now + HOUR) for info in listed)
            clock.advance(hours=25)
            assert finish(store.cleanup(24)).sessions == 30
            assert keys(store) == set()
            assert finish(store.compact(24)).op_ids_purged >= 25
    finally:
        sqlite_clock._SESSIONS_PER_GROUP = old  # type: ignore[misc]


def test_op_ids_of_a_future_that_nobody_remembers_go_too(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "b.db"
    poisoned(path, clock, 3)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE sessions SET last_activity = 1, created_at = 1")
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        assert finish(store.compact(24)).op_ids_purged == 0
        clock.advance(hours=25)
        assert finish(store.compact(24)).op_ids_purged == 3
