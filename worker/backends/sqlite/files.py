"""The files of a database that is open: whether they are still where others look for them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from producer.errors import StoreUnavailableError
from worker.backends.claim import Claim, Inode, check_place, inode_of

_BESIDE: Final = ("-wal", "-shm")


def size_bytes(path: Path) -> int:
    """The size of the database and its log on disk."""
    size = 0
    for name in (path.name, f"{path.name}-wal"):
        with suppress(FileNotFoundError):
            size += path.with_name(name).stat().st_size
    return size


class LogIsGoneError(StoreUnavailableError):
    """The log or the shared memory was removed or replaced; the database is in its place."""


class StoreFiles:
    """The database at `path`, its log and their shared memory, as SQLite has them open now.

    SQLite keeps the log and the shared memory for as long as a connection is open. With another
    log in its place, whoever opens the database misses what was committed; with another shared
    memory, the one who writes and the one who reads do not see each other's locks.
    """

    def __init__(self, path: Path, claim: Claim | None) -> None:
        self._path = str(path)
        self._claim = claim
        self._database = _inode(self._path)
        beside = _BESIDE if claim is not None else ()  # a reader may have none
        names = [f"{path.resolve()}{suffix}" for suffix in beside]
        self._beside = [(name, _inode(name)) for name in names]

    def check(self) -> None:
        """Raise `StoreUnavailableError` for what is gone; see `Claim.check`."""
        if self._claim is not None:
            self._claim.check()
        else:
            check_place(self._path, self._database)
        for path, inode in self._beside:
            if inode is None or _inode(path) != inode:
                raise LogIsGoneError(f"{path} was moved, replaced or deleted while it was open")


def _inode(path: str) -> Inode | None:
    try:
        return inode_of(os.stat(path))  # noqa: PTH116 - before each commit
    except OSError:
        return None
