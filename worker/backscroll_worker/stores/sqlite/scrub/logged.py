"""Which pages SQLite's log has: https://www.sqlite.org/fileformat2.html#the_write_ahead_log."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path
from typing import Any, Final

import apsw

_HEADER_BYTES: Final = 32
_SALTS: Final = slice(16, 24)
_FRAME_HEADER_BYTES: Final = 24
_FRAMES_PER_SLICE: Final = 1_000


class LoggedPages:
    """The numbers of the pages that the log has, for its writer: those before are not read again.

    To close the log file releases no lock: SQLite has none on it.
    """

    def __init__(self, path: Path) -> None:
        self._path = f"{path}-wal"
        self._salts = b""  # others each time the log begins anew
        self._frames = 0
        self._numbers = set[int]()

    def read(self, connection: apsw.Connection) -> Set[int] | None:
        """What the log has now; None while there is more to read than a slice has time for.

        To be called outside of a transaction.
        """
        frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
        if frames <= 0:
            return frozenset()
        size: Any = connection.pragma("page_size")
        file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            salts = os.pread(file, _HEADER_BYTES, 0)[_SALTS]
            if salts != self._salts or frames < self._frames:
                self._salts, self._frames, self._numbers = salts, 0, set()
            end = min(frames, self._frames + _FRAMES_PER_SLICE)
            for frame in range(self._frames, end):
                place = _HEADER_BYTES + frame * (_FRAME_HEADER_BYTES + size)
                self._numbers.add(int.from_bytes(os.pread(file, 4, place), "big"))
        finally:
            os.close(file)
        self._frames = end
        return self._numbers if end == frames else None
