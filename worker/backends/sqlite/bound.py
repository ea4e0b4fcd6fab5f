"""How much one statement of a search goes through, counted where SQLite goes from row to row.

A statement whose rows are not wanted gives none for as long as it takes, so it cannot be stopped by
whoever takes them.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

MOST: Final = 100_000
"""So many rows are looked up in the tables, some 0.1 s."""

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
