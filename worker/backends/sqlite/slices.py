"""How long work on the database gets at the connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import apsw

Door = Callable[[], AbstractContextManager[apsw.Connection]]


@dataclass(frozen=True, slots=True)
class Access:
    """The ways to the connection, which keep others from it: in a transaction, or in none."""

    transaction: Door
    outside: Door
