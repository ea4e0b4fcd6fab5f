"""How much one statement of a search goes through, counted where SQLite goes from row to row.

A statement whose rows are not wanted gives none for as long as it takes, so it cannot be stopped by
whoever takes them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import apsw

from backscroll.contract.errors import OperationRefusedError

MOST: Final = 100_000
"""So many rows are looked up in the tables, some 0.1 s."""

MOST_SECONDS: Final = 5.0
"""So long one read may use the processor: what FTS5 does within a step cannot be counted."""

_STEPS: Final = 1_000

WITHIN: Final = "is_within({}, ?)"
"""SQL: a row is within a `Bound`; else the statement ends."""

OUTSIDE: Final = "is_outside({}, ?)"
"""SQL: a session is not in a set, as it is then."""


class ExceededError(Exception):
    """There are more rows than a statement may go through."""


class Bound:
    """Lets `MOST` rows pass; `met_at` is the first one after them, None until it comes."""

    def __init__(self) -> None:
        self._left = MOST
        self.met_at: int | None = None

    def take(self, row: int) -> bool:
        """Count a row; ends the statement if it is one too many."""
        if not self._left:
            self.met_at = row
            raise ExceededError
        self._left -= 1
        return True


@contextmanager
def bounded_seconds(connection: apsw.Connection) -> Iterator[None]:
    """Refuse what takes longer. Others' load does not count, as that is not its fault."""
    end = time.thread_time() + MOST_SECONDS
    connection.set_progress_handler(lambda: time.thread_time() > end, _STEPS)
    try:
        yield
    except apsw.InterruptError:
        raise OperationRefusedError(
            f"this takes more than {MOST_SECONDS:g} s, and everything else would wait; ask for "
            "fewer words or a shorter phrase, or filter with key=, sender=, room= or channel="
        ) from None
    finally:
        connection.set_progress_handler(None)


def register_bounds(connection: apsw.Connection) -> None:
    """Have `connection` know `WITHIN` and `OUTSIDE`."""
    connection.create_scalar_function("is_within", _is_within, 2)
    connection.create_scalar_function("is_outside", _is_outside, 2)


def _is_within(*row_and_bound: Any) -> bool:
    row, bound = row_and_bound
    return bool(bound.take(row))


def _is_outside(*session_and_sessions: Any) -> bool:
    session, sessions = session_and_sessions
    return session not in sessions
