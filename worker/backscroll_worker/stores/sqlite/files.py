"""The files of a database that is open: whether they are still where others look for them.

And whether they still hold what SQLite left there: a copy that is put over them, or a log that is
cut off, is noticed neither by its locks nor by SQLite, which would mix both into a damaged file.
"""

from __future__ import annotations

import logging
import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll_worker.stores.claim import Claim, Inode, check_place, inode_of
from backscroll_worker.stores.sqlite.schema import MAGIC

log = logging.getLogger("backscroll.store")

_BESIDE: Final = ("-wal", "-shm")
_HEADER_BYTES: Final = 100
_WITH_LOG: Final = b"\2\2"
_LOG_HEADER_BYTES: Final = 32
_FRAME_HEADER_BYTES: Final = 24
_LOOKS: Final = 3
_PAUSE_SECONDS: Final = 0.01


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
    """The database at `path`, its log and their shared memory, as `connection` has them open now.

    SQLite keeps the log and the shared memory for as long as a connection is open. With another
    log in its place, whoever opens the database misses what was committed; with another shared
    memory, the one who writes and the one who reads do not see each other's locks.
    """

    def __init__(self, path: Path, claim: Claim | None, connection: apsw.Connection) -> None:
        self._path = str(path)
        self._claim = claim
        self._connection = connection
        self._database = _inode(self._path)
        beside = _BESIDE if claim is not None else ()  # a reader may have none
        names = [f"{path.resolve()}{suffix}" for suffix in beside]
        self._beside = [(name, _inode(name)) for name in names]
        self._log = f"{path.resolve()}-wal"
        self._changes = 0
        self._problem: str | None = None
        self._page_bytes = 0 if claim is None else int(str(connection.pragma("page_size")))

    def check(self) -> None:
        """Raise `StoreUnavailableError` for what is gone, as `Claim.check` does.

        `StoreUnusableError` says that the database or its log holds something else than what SQLite
        wrote there. From then on this process writes nothing more.
        """
        if self._claim is None:
            check_place(self._path, self._database)
            return
        self._claim.check()
        if self._is_overwritten(self._claim):
            self._give_up()
            raise StoreUnusableError(f"{self._path}{self._problem}")
        for path, inode in self._beside:
            if inode is None or _inode(path) != inode:
                raise LogIsGoneError(f"{path} was moved, replaced or deleted while it was open")

    def _give_up(self) -> None:
        """Have SQLite put nothing more into a database that was overwritten.

        A log that belongs to what the database was is set aside, or whoever opens it next would mix
        it into what the database is now.
        """
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if self._problem == _OVERWRITTEN:
            with suppress(OSError):
                os.rename(self._log, f"{self._log}.overwritten")  # noqa: PTH104 - a string

    def _is_overwritten(self, claim: Claim) -> bool:
        """For good, once it is so. It looks again, as another program may be at a checkpoint."""
        for _ in range(_LOOKS):
            if self._problem is not None:
                return True
            problem = self._problem_now(claim)
            if problem is None:
                return False
            time.sleep(_PAUSE_SECONDS)
        self._problem = problem
        log.error("%s%s", self._path, problem)  # at once, also while there is nothing to store
        return True

    def _problem_now(self, claim: Claim) -> str | None:
        header = claim.read(_HEADER_BYTES)
        if header[:16] != MAGIC or header[18:20] != _WITH_LOG:
            return _OVERWRITTEN
        (changes,) = struct.unpack_from(">I", header, 24)
        if changes < self._changes:  # it is an older one
            return _OVERWRITTEN
        self._changes = changes
        size = _size(self._log)  # before SQLite says how long the log is, which may be begun anew
        try:
            frames, _ = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        except apsw.LockedError:  # a read that was broken off has not ended yet
            return None
        needed = _LOG_HEADER_BYTES + frames * (_FRAME_HEADER_BYTES + self._page_bytes)
        return _CUT_OFF if frames > 0 and size is not None and size < needed else None


_OVERWRITTEN: Final = (
    " was overwritten while it was open; its log, which does not belong to what is there now, was "
    "set aside. Start again to use what is there now, or restore a backup while nothing has it open"
)
_CUT_OFF: Final = (
    "-wal was cut off while it was open, and what it held is lost. Start again to go on with what "
    "the database has, or restore a backup while nothing has it open"
)


def _size(path: str) -> int | None:
    """None for a file that is gone, which is another matter."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - before each commit
    except OSError:
        return None


def _inode(path: str) -> Inode | None:
    try:
        return inode_of(os.stat(path))  # noqa: PTH116 - before each commit
    except OSError:
        return None
