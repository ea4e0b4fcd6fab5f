"""What the tests of the stores have in common: a clock, operations, and short ways to look."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import apsw

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, Limits
from backscroll.contract.operations import Operation, Restore
from backscroll.contract.requests import Requests
from backscroll.contract.results import Outcome, RestoreReport
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.maintenance.restore import restore
from backscroll_worker.stores import SessionBackend

HOUR: Final = 3_600_000_000

requests: Final = Requests(Limits())
"""Builds the operations that a producer would send."""


class Clock:
    """Microseconds since 1970 that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_750_000_000_000_000

    def __call__(self) -> int:
        return self.now

    def advance(self, *, hours: float = 0, seconds: float = 0, micros: int = 0) -> None:
        self.now += int(hours * HOUR) + int(seconds * 1e6) + micros


def contents(store: SessionBackend, key: str) -> list[str]:
    """What a session's messages say, in order."""
    return [message.content for message in store.load(key)]


def found(store: SessionBackend, query: str) -> set[str]:
    """What the messages say that a search finds."""
    return {hit.message.content for hit in store.search(query, limit=1_000)}


def keys(store: SessionBackend) -> set[str]:
    """All sessions' keys."""
    return {info.key for info in store.sessions(limit=1_000).sessions}


def say(store: SessionBackend, key: str, *contents: str) -> list[str]:
    """Append user messages, each by itself; returns their ids."""
    return [store.append(key, ChatMessage.user(content))[0] for content in contents]


def apply_all(store: SessionBackend, operations: Iterable[Operation]) -> list[Outcome]:
    """Apply a group of writes of which none may be refused."""
    answers = store.apply(list(operations))
    for answer in answers:
        if isinstance(answer, OperationRefusedError):
            raise answer
    return cast(list[Outcome], answers)


def index_pieces(path: Path) -> int:
    """How many pieces the search index of an SQLite store is in."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    return len(connection.execute("SELECT DISTINCT segid FROM message_index_idx").fetchall())


@contextmanager
def read_only_directory() -> Iterator[Path]:
    """A directory that everyone may read and nobody write to."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o555)
        yield directory
        directory.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Not being root for a while: root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def bring_back(store: SessionBackend, archive: Archive, key: str, **options: Any) -> RestoreReport:
    """Restore a session from the archive, as the worker does."""
    return finish(restore(store, archive, Restore(new_op_id(), 0, key, **options)))
