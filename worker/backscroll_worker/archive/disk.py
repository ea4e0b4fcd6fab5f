"""The archive on the disk: what is written is durable, nobody else's business, or an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from backscroll.contract.errors import BackscrollError
from backscroll.private_files import make_private_directory, open_private

TEMPORARY: Final = ".writing-"


class ArchiveError(BackscrollError):
    """The archive cannot be written (disk full …) or read (damaged, not there)."""


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turn an OSError into ours, with the path in it."""
    try:
        yield
    except OSError as error:
        raise unusable(path, error) from error


def unusable(path: Path, error: OSError) -> ArchiveError:
    """Our error for one of the disk's."""
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = "; nothing was deleted. Free some space on its disk" if is_full else ""
    return ArchiveError(f"the archive's {path}: {error.strerror or error}{advice}")


def make_directory(path: Path) -> None:
    """Make a directory that is nobody else's business, durably, with those above it."""
    if not path.is_dir():
        make_directory(path.parent)
        make_private_directory(path)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was created, renamed and removed durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of `content`."""
    while content:
        content = content[os.write(descriptor, content) :]


def replace(path: Path, content: bytes) -> None:
    """Give a file a new content, durably, all or nothing."""
    temporary = path.with_name(TEMPORARY + path.name)
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    try:
        descriptor = open_private(temporary, flags)
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
