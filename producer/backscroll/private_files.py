"""Files and directories for their owner only, whatever the umask: they hold conversations.

Also how a file is replaced durably, and how a lock file names its holder. Everything here raises
`OSError`; each caller turns it into an error of its own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

FILE: Final = 0o600
DIRECTORY: Final = 0o700


def open_private(path: str | Path, flags: int) -> int:
    """A descriptor of `path`, which is created when it is missing.

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
    """Make `path`, and what is missing above it."""
    if path.is_dir():
        return
    make_private_directory(path.parent)
    make_private_folder(path)


def make_private_folder(path: Path) -> None:
    """Make `path` in a directory that is there; raises `FileNotFoundError` where it is not."""
    with suppress(FileExistsError):  # it is there, or another process was faster
        path.mkdir(mode=DIRECTORY)
        path.chmod(DIRECTORY)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`."""
    while content:
        content = content[os.write(descriptor, content) :]


def sync_path(path: Path) -> None:
    """Make a file durable, or what was created, renamed and removed in a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, temporary: Path) -> Iterator[int]:
    """A descriptor for the new content of `path`, which takes its place at the end, durably.

    If anything fails, `path` stays as it was. What a killed process left at `temporary` goes.
    """
    temporary.unlink(missing_ok=True)
    try:
        descriptor = open_private(temporary, os.O_WRONLY | os.O_EXCL | os.O_NOFOLLOW)
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        sync_path(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def try_lock(descriptor: int) -> bool:
    """Take the `flock` on what is open, unless another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_holder(descriptor: int) -> str:
    """The process that wrote its id into a lock file last; empty when none did."""
    return os.pread(descriptor, 100, 0).decode(errors="replace").strip()


def write_holder(descriptor: int) -> None:
    """Write this process's id into a lock file that it holds."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
