"""Files and directories for their owner only, whatever the umask: what was said is in them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

FILE: Final = 0o600
DIRECTORY: Final = 0o700


def open_private(path: str | Path, flags: int) -> int:
    """A descriptor of `path`, which is created when it is missing; raises `OSError`.

    A file that is there keeps its permissions: its owner may have let others read it.
    """
    flags |= os.O_CREAT | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags | os.O_EXCL, FILE)
    except FileExistsError:
        if flags & os.O_EXCL:
            raise
        return os.open(path, flags, FILE)
    os.fchmod(descriptor, FILE)  # a umask may have taken away what the owner needs
    return descriptor


def create_private(path: str | Path) -> None:
    """Create an empty file unless there is one, before SQLite creates it.

    One that is there is not opened: to close it again would drop SQLite's locks on it.
    """
    with suppress(FileExistsError):
        os.close(open_private(path, os.O_RDWR | os.O_EXCL))


def make_private_directory(path: Path) -> None:
    """Make `path`, and what is missing above it; raises `OSError`."""
    if path.is_dir():
        return
    make_private_directory(path.parent)
    with suppress(FileExistsError):  # another process was faster
        path.mkdir(mode=DIRECTORY)
        path.chmod(DIRECTORY)
