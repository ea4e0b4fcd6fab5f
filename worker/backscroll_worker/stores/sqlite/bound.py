"""Limits the rows that a statement of a search visits, counted where SQLite steps between rows.

A statement whose rows all fail its conditions returns none until its end, so its caller cannot stop
it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from backscroll.contract.errors import OperationRefusedError

MOST: Final = 100_000
"""Maximum number of rows to look up in the tables; takes some 0.1 s."""

MOST_SECONDS: Final = 5.0
"""Maximum processor time of one read: work of FTS5 within a step cannot be counted."""

_STEPS: Final = 1_000

WITHIN: Final = "is_within({}, ?)"
"""SQL: the row is within a `Bound`; otherwise the statement ends."""

OUTSIDE: Final = "is_outside({}, ?)"
"""SQL: the session is not in a set, as it is at that time."""


class ExceededError(Exception):
    """A statement reached the maximum number of rows."""


class Bound:
    """Lets `MOST` rows pass; `met_at` is the first row after them, None until it is reached."""

    def __init__(self) -> None:
        self._left = MOST
        self.met_at: int | None = None

    def take(self, row: int) -> bool:
        """Count a row; ends the statement when the maximum is exceeded."""
        if not self._left:
            self.met_at = row
            raise ExceededError
        self._left -= 1
        return True


_SEARCH_LESS: Final = (
    "use fewer words or a shorter phrase, or filter with key=, sender=, room= or channel="
)


@contextmanager
def bounded_seconds(connection: apsw.Connection, advice: str = _SEARCH_LESS) -> Iterator[None]:
    """Refuse a read that takes longer. Processor time counts, not the load of the machine."""
    end = time.thread_time() + MOST_SECONDS
    connection.set_progress_handler(lambda: time.thread_time() > end, _STEPS)
    try:
        yield
    except apsw.InterruptError:
        raise OperationRefusedError(
            f"this takes more than {MOST_SECONDS:g} s and would block everything else; {advice}"
        ) from None
    finally:
        connection.set_progress_handler(None)


def register_bounds(connection: apsw.Connection) -> None:
    """Register the functions of `WITHIN` and `OUTSIDE` on `connection`."""
    connection.create_scalar_function("is_within", _is_within, 2)
    connection.create_scalar_function("is_outside", _is_outside, 2)


def _is_within(*row_and_bound: Any) -> bool:
    row, bound = row_and_bound
    return bool(bound.take(row))


def _is_outside(*session_and_sessions: Any) -> bool:
    session, sessions = session_and_sessions
    return session not in sessions
