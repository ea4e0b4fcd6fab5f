"""A disk that fails for as long as a file says so, with the error the file names."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from tests.crash.disk import Disk

_exists = os.path.exists


class Trouble(Disk):
    """Fails the calls that `path` names: `ENOSPC write`, `EIO fsync`, `EROFS` (every one)."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def before(self, call: str, half: Callable[[], object]) -> None:
        if not _exists(self._path):
            return
        name, _, failing = self._path.read_text().partition(" ")
        if call.replace("fdatasync", "fsync") == failing or not failing:
            if call == "write":
                half()
            code = getattr(errno, name)
            raise OSError(code, os.strerror(code))
