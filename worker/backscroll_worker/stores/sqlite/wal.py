"""Bounds the size of the write-ahead log (WAL), whatever the number of readers.

SQLite resets the log when all of it is in the database and no reader uses it. It tries this after
each commit of a long log, without waiting; with continuous readers such a moment never comes, and
the log grows without limit. So now and then the writer waits for it.
https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import sync_path

CHECKPOINT_PAGES: Final = 4_000
"""The number of pages from which SQLite tries after each commit: 16 MiB."""

_LONGEST_BYTES: Final = 24 * 1024 * 1024
_TRY_AGAIN_BYTES: Final = 4 * 1024 * 1024
_PATIENCE_MS: Final = 50  # longer than reads take, too short to be noticed
_LONG_FRAMES: Final = 1_000
_TRIES_TO_RESTART: Final = 3
BUSY_MS: Final = 5_000
"""How long a statement waits for another program's lock."""


OnCommit = Callable[[int], None]
"""Is given the number of frames that the log has now."""


class WriteAheadLog:
    """The log of the database at `path`, for its writer."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = f"{path}-wal"
        self._connection = connection
        self._try_at = _LONGEST_BYTES
        self._readers = 0
        self._watchers = list[OnCommit]()

    @contextmanager
    def unbounded(self) -> Iterator[None]:
        """Let the log grow while one of our own threads reads: a commit would wait in vain.

        Nor does the first commit after it write all that came meanwhile; that is for the thread.
        """
        self._readers += 1
        self._set_hook()
        try:
            yield
        finally:
            self._readers -= 1
            self._set_hook()

    @contextmanager
    def watched(self, on_commit: OnCommit) -> Iterator[None]:
        """Call `on_commit`, which raises nothing, after each commit, before anything else is done.

        Until then nobody writes to the log, so that it has all that was committed. Meanwhile no
        commit checkpoints the log, unless it is too long.
        """
        self._watchers.append(on_commit)
        self._set_hook()
        try:
            yield
        finally:
            self._watchers.remove(on_commit)
            self._set_hook()

    def bound(self) -> None:
        """Reset the log when it has become too long; to be called between transactions.

        If a reader takes longer than the patience, the next try is when the log has grown further.
        Nothing is raised, as commits are safe.
        """
        if self._readers or self._size() < self._try_at:
            return
        self._connection.set_busy_timeout(_PATIENCE_MS)
        try:
            with suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        self._try_at = max(_LONGEST_BYTES, self._size() + _TRY_AGAIN_BYTES)

    def empty(self) -> None:
        """Checkpoint the whole log; raises APSW's error when a reader prevents it."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _set_hook(self) -> None:
        """SQLite has one hook after commits, and its own checkpoints use it, too."""
        with suppress(apsw.Error):  # the files may have been opened anew
            self._connection.set_wal_hook(self._report if self._watchers else None)
            if not self._watchers:
                self._connection.wal_autocheckpoint(0 if self._readers else CHECKPOINT_PAGES)

    def _report(self, _connection: apsw.Connection, name: str, frames: int) -> int:
        for on_commit in self._watchers if name == "main" else ():
            on_commit(frames)
        return apsw.SQLITE_OK

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - hot path
        except OSError:
            return 0


def waiting_frames(connection: apsw.Connection) -> int:
    """How many pages the log has that a checkpoint has not written yet."""
    try:
        frames, written = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    except apsw.LockedError:  # an interrupted read has not ended yet
        return 0
    return frames - written


def sync(path: Path) -> None:
    """Wait until the whole log is synced; for a thread, as the disk may take long.

    A checkpoint syncs only if it has something to write, which a reader may prevent. Closing the
    log file releases no lock: SQLite has none on it.
    """
    try:
        sync_path(Path(f"{path}-wal"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnavailableError(f"{path}-wal: {error.strerror}") from error


def checkpoint(path: Path) -> None:
    """Checkpoint the log as far as readers allow.

    With a connection of its own, for a thread: the disk may take long, and commits continue
    meanwhile. A long log only begins anew when nothing was committed meanwhile, so there the little
    that was is checkpointed, too: otherwise some commit would do it. Nothing is raised, as commits
    are safe.
    """
    with (
        suppress(apsw.Error),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection,
    ):
        for _ in range(_TRIES_TO_RESTART):
            # Not `wal_checkpoint()`, which does nothing before the connection has read the schema.
            rows: Any = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            _, frames, written = rows[0]
            if frames == written or frames < _LONG_FRAMES:
                return
