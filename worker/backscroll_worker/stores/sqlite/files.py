"""The files of an open database: whether they are still at their paths, and unchanged by others.

Neither locks nor SQLite itself notice a copy that overwrites the database or a log that is
truncated; SQLite would mix old and new contents into a damaged file.
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
    """The log or the shared memory was removed or replaced; the database was not."""


class StoreFiles:
    """The database at `path`, its log and their shared memory, as `connection` has them open.

    SQLite keeps log and shared memory while a connection is open. If the log is replaced, other
    programs that open the database miss committed data; if the shared memory is replaced, writer
    and readers do not see each other's locks.
    """

    def __init__(self, path: Path, claim: Claim | None, connection: apsw.Connection) -> None:
        self._path = str(path)
        self._claim = claim
        self._connection = connection
        self._database = _inode(self._path)
        beside = _BESIDE if claim is not None else ()  # a reader may not have these files
        names = [f"{path.resolve()}{suffix}" for suffix in beside]
        self._beside = [(name, _inode(name)) for name in names]
        self._log = f"{path.resolve()}-wal"
        self._changes = 0
        self._problem: str | None = None
        self._page_bytes = 0 if claim is None else int(str(connection.pragma("page_size")))

    def check(self) -> None:
        """Raise `StoreUnavailableError` for missing files, as `Claim.check` does.

        Raises `StoreUnusableError` when the database or its log contains something other than what
        SQLite wrote. From then on this process writes nothing.
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
        """Keep SQLite from writing to a database that was overwritten.

        A log of the former database is moved aside; otherwise the next program to open the database
        would mix it into the present one.
        """
        self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        if self._problem == _OVERWRITTEN:
            with suppress(OSError):
                os.rename(self._log, f"{self._log}.overwritten")  # noqa: PTH104 - a string

    def _is_overwritten(self, claim: Claim) -> bool:
        """Whether the files were overwritten: permanent, once it is true.

        It checks twice, as another program may be running a checkpoint.
        """
        for _ in range(_LOOKS):
            if self._problem is not None:
                return True
            problem = self._problem_now(claim)
            if problem is None:
                return False
            time.sleep(_PAUSE_SECONDS)
        self._problem = problem
        log.error("%s%s", self._path, problem)  # at once, even if there is nothing to store
        return True

    def _problem_now(self, claim: Claim) -> str | None:
        header = claim.read(_HEADER_BYTES)
        if header[:16] != MAGIC or header[18:20] != _WITH_LOG:
            return _OVERWRITTEN
        (changes,) = struct.unpack_from(">I", header, 24)
        if changes < self._changes:  # it is an older one
            return _OVERWRITTEN
        self._changes = changes
        size = _size(self._log)  # before asking SQLite for the log's length, as it may be reset
        try:
            frames, _ = self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        except apsw.LockedError:  # an interrupted read has not ended yet
            return None
        needed = _LOG_HEADER_BYTES + frames * (_FRAME_HEADER_BYTES + self._page_bytes)
        return _CUT_OFF if frames > 0 and size is not None and size < needed else None


_OVERWRITTEN: Final = (
    " was overwritten while it was open; its log, which does not belong to the present file, was "
    "moved aside. Restart to use the present file, or restore a backup while no program has it open"
)
_CUT_OFF: Final = (
    "-wal was truncated while it was open, and its contents are lost. Restart to continue with "
    "what the database has, or restore a backup while no program has it open"
)


def _size(path: str) -> int | None:
    """The size of a file; None if it is missing, which is handled elsewhere."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 - before each commit
    except OSError:
        return None


def _inode(path: str) -> Inode | None:
    try:
        return inode_of(os.stat(path))  # noqa: PTH116 - before each commit
    except OSError:
        return None
