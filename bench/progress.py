"""The number of committed appends, as seen by an independent process."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Protocol, Self

import apsw

from backscroll.contract.ids import DEFAULT_QUEUE
from backscroll.transport.connection import connect
from bench.arena import Arena

_QUEUE_KEY: Final = f"rq:queue:{DEFAULT_QUEUE}"


class Progress(Protocol):
    """A counter of commits; a context manager."""

    def committed(self) -> int:
        """The number of committed appends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class SqliteProgress:
    """Reads the store: messages are numbered from 1 without gaps, so the last number suffices."""

    def __init__(self, arena: Arena) -> None:
        self._path = arena.store_path
        self._connection: apsw.Connection | None = None

    def committed(self) -> int:
        try:
            if self._connection is None:
                self._connection = apsw.Connection(str(self._path), flags=apsw.SQLITE_OPEN_READONLY)
            last: Any = self._connection.execute("SELECT ifnull(max(id), 0) FROM messages").get
        except (apsw.CantOpenError, apsw.SQLError, apsw.BusyError):  # not created yet
            return 0
        return int(last)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._connection is not None:
            self._connection.close()


class QueueProgress:
    """Reads RQ's queue: jobs that have left all of its lists were committed and acknowledged.

    For a store of files, where counting is expensive.
    """

    def __init__(self, arena: Arena, jobs: int) -> None:
        self._client = connect(arena.url)
        self._jobs = jobs

    def committed(self) -> int:
        with self._client.pipeline(transaction=True) as pipeline:
            pipeline.llen(_QUEUE_KEY)
            pipeline.llen(f"{_QUEUE_KEY}:intermediate")
            pipeline.zcard(f"rq:wip:{DEFAULT_QUEUE}")
            waiting: list[int] = pipeline.execute()
        return self._jobs - sum(waiting)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()


def progress(arena: Arena, jobs: int) -> Progress:
    """The counter for the arena's store."""
    if arena.store.startswith("sqlite:"):
        return SqliteProgress(arena)
    return QueueProgress(arena, jobs)
