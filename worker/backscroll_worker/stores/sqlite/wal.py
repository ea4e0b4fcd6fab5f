"""Keeps the write-ahead log bounded, however many readers there are.

SQLite begins the log anew when all of it is in the database and nobody reads from it. It looks for
such a moment after each commit of a long log, without waiting; where readers are always at work
there is none, and the log grows for ever. So now and then the writer waits for it.
https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import apsw

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import sync_path

CHECKPOINT_PAGES: Final = 4_000
"""From so many pages on SQLite tries after each commit: 16 MiB."""

_LONGEST_BYTES: Final = 24 * 1024 * 1024
_TRY_AGAIN_BYTES: Final = 4 * 1024 * 1024
_PATIENCE_MS: Final = 50  # longer than reads take, shorter than anybody notices
BUSY_MS: Final = 5_000
"""How long a statement waits for another program's lock."""


class WriteAheadLog:
    """The log beside the database at `path`, seen by the one who writes it."""

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self._path = f"{path}-wal"
        self._connection = connection
        self._try_at = _LONGEST_BYTES

    def bound(self) -> None:
        """To be called between transactions: empty the log when it has become too long.

        A reader who takes longer than the patience is waited for again when the log has grown
        some more. Nothing is raised, as what was committed is safe.
        """
        if self._size() < self._try_at:
            return
        self._connection.set_busy_timeout(_PATIENCE_MS)
        try:
            with suppress(apsw.Error):
                self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
        self._try_at = max(_LONGEST_BYTES, self._size() + _TRY_AGAIN_BYTES)

    def empty(self) -> None:
        """Put all of the log into the database; raises APSW's error when a reader prevents it."""
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size  # noqa: PTH116 - hot path
        except OSError:
            return 0


def sync(path: Path) -> None:
    """Wait until all of the log is on the disk; for a thread, as the disk may take long.

    A checkpoint does that only if it has something to put in its place, which a reader may prevent.
    To close the log harms no lock: SQLite has none on it.
    """
    try:
        sync_path(Path(f"{path}-wal"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreUnavailableError(f"{path}-wal: {error.strerror}") from error


def checkpoint(path: Path) -> None:
    """Put what the log has in its place, as far as no reader needs the old.

    With a connection of its own, for a thread: the disk may take long, and commits go on meanwhile.
    Nothing is raised, as what was committed is safe.
    """
    with (
        suppress(apsw.Error),
        closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)) as connection,
    ):
        # Not `wal_checkpoint()`, which does nothing before the connection has read the schema.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
