"""Which pages were written, read from SQLite's log after each commit.

The log's format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.contract.errors import StoreUnavailableError
from backscroll_worker.stores.sqlite.wal import BUSY_MS

_HEADER_BYTES: Final = 32
_SALTS_AT: Final = 16
_SALTS_BYTES: Final = 8
_FRAME_HEADER_BYTES: Final = 24


class WrittenPages:
    """The pages that the only connection that writes has written from now on.

    `note` is to be called after each commit. Whoever checkpoints meanwhile, the log begins anew
    with the next commit at the earliest, so that no frame is missed.
    """

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.logged = set[int]()
        """The pages that the log has; at first without the `earlier` ones."""
        self._path = f"{path}-wal"
        self._connection = connection
        self._frame_bytes = _FRAME_HEADER_BYTES + _page_size(connection)
        frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        self._frames = self._earlier = max(frames, 0)
        self._salts = b""  # others each time the log begins anew
        if self._frames:
            with self._log() as file:
                self._salts = _salts(file)
        self._written = set[int]()
        self._is_complete = True

    def earlier(self) -> set[int]:
        """The pages that the log had at first; for a thread, as these may be many.

        If it begins anew meanwhile, some of the numbers are wrong, and those pages wait in vain
        until it does so again.
        """
        try:
            with self._log() as file:
                return self._pages(file, range(self._earlier))
        except struct.error:  # it was cut to nothing meanwhile
            pass
        except OSError:
            self._is_complete = False
        return set()

    def note(self, frames: int) -> None:
        """Read which pages the last commit wrote; the log has so many frames. Raises nothing."""
        try:
            with self._log() as file:
                if (salts := _salts(file)) != self._salts or frames < self._frames:
                    self._salts, self._frames, self.logged = salts, 0, set()
                new = self._pages(file, range(self._frames, frames))
        except Exception:  # whatever it is, the commit is complete
            self._is_complete = False
        else:
            self._frames = frames
            self.logged |= new
            self._written |= new

    def take(self, connection: apsw.Connection) -> set[int]:
        """What was written since the last call.

        Raises `StoreUnavailableError` when some of that is unknown.
        """
        if connection is not self._connection or not self._is_complete:
            raise StoreUnavailableError(
                f"{self._path} was removed or could not be read while deleted text was wiped"
            )
        written, self._written = self._written, set()
        return written

    def empty_log(self, connection: apsw.Connection) -> bool:
        """Put the log in its place and cut it to nothing; False when a reader keeps it."""
        connection.set_busy_timeout(0)
        try:
            rows: Any = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.set_busy_timeout(BUSY_MS)
        if is_empty := not rows[0][0]:
            self.logged = set()
        return is_empty

    @contextmanager
    def _log(self) -> Iterator[int]:
        """The log's file. To close it releases no lock: SQLite has none on it."""
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield file
        finally:
            os.close(file)

    def _pages(self, file: int, frames: Iterable[int]) -> set[int]:
        places = (_HEADER_BYTES + frame * self._frame_bytes for frame in frames)
        return {struct.unpack(">I", os.pread(file, 4, place))[0] for place in places}


def _salts(file: int) -> bytes:
    return os.pread(file, _SALTS_BYTES, _SALTS_AT)


def _page_size(connection: apsw.Connection) -> int:
    size: Any = connection.pragma("page_size")
    return int(size)
