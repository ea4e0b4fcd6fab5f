"""Connection access for maintenance that runs in slices."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import apsw

from backscroll_worker.stores.sqlite.wal import OnCommit

Door = Callable[[], AbstractContextManager[apsw.Connection]]


@dataclass(frozen=True, slots=True)
class Access:
    """The ways to use the connection exclusively: with a transaction, or without one.

    A `repeatable` transaction does not wait for the disk: a power cut may undo it, and it is done
    again. `removing` is one that may take sessions or messages away. With `path` a thread can open
    a connection of its own and leave this one free; while it reads for long, the log may grow, and
    with `unbounded_log` no commit waits for that reader. With `watched_log` the given function is
    called after each commit of the connection, with the log's length.
    """

    transaction: Door
    repeatable: Door
    outside: Door
    path: Path
    removing: Door
    watched_log: Callable[[OnCommit], AbstractContextManager[None]]
    unbounded_log: Callable[[], AbstractContextManager[None]] = nullcontext
