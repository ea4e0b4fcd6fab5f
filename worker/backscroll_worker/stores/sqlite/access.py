"""How long work on the database gets at it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import apsw

Door = Callable[[], AbstractContextManager[apsw.Connection]]


@dataclass(frozen=True, slots=True)
class Access:
    """The ways to the connection, which keep others from it: in a transaction, or in none.

    A `repeatable` transaction waits for no disk: after a power cut it may never have been, and
    will be done again. With `path` a thread can open a connection of its own, and keep nobody from
    this one.
    """

    transaction: Door
    repeatable: Door
    outside: Door
    path: Path
