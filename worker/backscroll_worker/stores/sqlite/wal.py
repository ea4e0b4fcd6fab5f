"""Bounds the size of the write-ahead log (WAL), whatever the number of readers.

SQLite resets the log when all of it is in the database and no reader uses it. A thread puts a long
log into the database while commits go on; with continuous readers or commits the moment to reset it
never comes, and the log grows without limit. So now and then the writer waits for it.
https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import sync_path

CHECKPOINT_PAGES: Final = 4_000
"""The number of pages from which the log is put into the database: 16 MiB."""

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
        self._frames = 0
        self._beside = _Beside(path)
        connection.set_wal_hook(self._report)  # instead of SQLite's own checkpoints

    @contextmanager
    def unbounded(self) -> Iterator[None]:
        """Let the log grow while one of our own threads reads: a commit would wait in vain."""
        self._readers += 1
        try:
            yield
        finally:
            self._readers -= 1

    @contextmanager
    def watched(self, on_commit: OnCommit) -> Iterator[None]:
        """Call `on_commit`, which raises nothing, after each commit, before anything else is done.

        Until then nobody writes to the log, so that it has all that was committed. Meanwhile it is
        not put into the database, unless it is too long.
        """
        self._watchers.append(on_commit)
        try:
            yield
        finally:
            self._watchers.remove(on_commit)

    def bound(self) -> None:
        """Reset the log when it has become too long, and have a thread prepare that before; to be
        called between transactions, when the files have just been checked.

        If a reader takes longer than the patience, the next try is when the log has grown further.
        Nothing is raised, as commits are safe.
        """
        if self._readers:
            return
        if self._size() >= self._try_at:
            self._reset()
        elif self._frames >= CHECKPOINT_PAGES and not self._watchers:
            self._beside.begin()

    def _reset(self) -> None:
        self._beside.wait()  # no two checkpoints run at once
        self._connection.set_busy_timeout(_PATIENCE_MS)
        try:
            with suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        self._try_at = max(_LONGEST_BYTES, self._size() + _TRY_AGAIN_BYTES)

    def empty(self) -> None:
        """Checkpoint the whole log; raises APSW's error when a reader prevents it."""
        self._beside.wait()
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def close(self) -> None:
        """End the thread; to be called before the writer's connection is closed."""
        self._beside.close()

    def _report(self, _connection: apsw.Connection, name: str, frames: int) -> int:
        if name == "main":
            self._frames = frames
            for on_commit in self._watchers:
                on_commit(frames)
        return apsw.SQLITE_OK

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - hot path
        except OSError:
            return 0


class _Beside:
    """Puts the log into the database in a thread, with a connection of its own, which stays with
    the file that the writer has open, whatever takes its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: apsw.Connection | None = None
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Begin, unless it is under way; where that fails, the writer will do it."""
        if self._thread is not None and self._thread.is_alive():
            return
        with suppress(apsw.Error, RuntimeError):
            if self._connection is None:
                flags = apsw.SQLITE_OPEN_READWRITE
                self._connection = apsw.Connection(str(self._path), flags=flags)
                # The writer closes the files last, and knows whether they are still its own.
                self._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            self._thread = threading.Thread(
                target=_put_into_database, args=(self._connection,), name="checkpoint"
            )
            self._thread.start()

    def wait(self) -> None:
        """Wait for the end of what is under way."""
        if self._thread is not None and self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Wait, and close the connection."""
        self.wait()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


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
    meanwhile. Nothing is raised, as commits are safe.
    """
    with (
        suppress(apsw.Error),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection,
    ):
        _put_into_database(connection)


def _put_into_database(connection: apsw.Connection) -> None:
    """Checkpoint the log as far as readers allow.

    A long log only begins anew when nothing was committed meanwhile, so there the little that was
    is checkpointed, too.
    """
    with suppress(apsw.Error):
        for _ in range(_TRIES_TO_RESTART):
            # Not `wal_checkpoint()`, which does nothing before the connection has read the schema.
            rows: Any = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            _, frames, written = rows[0]
            if frames == written or frames < _LONG_FRAMES:
                return
