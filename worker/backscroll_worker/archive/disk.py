"""The archive on the disk: what is written is durable and private, or raises `ArchiveError`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from backscroll.contract.errors import BackscrollError
from backscroll.private_files import make_private_directory, replacing, sync_path, write_all

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
    """Make a directory for its owner only, durably, with those above it."""
    if not path.is_dir():
        make_directory(path.parent)
        make_private_directory(path)
        sync_path(path.parent)


def replace(path: Path, content: bytes) -> None:
    """Give a file a new content, durably, all or nothing."""
    with replacing(path, path.with_name(TEMPORARY + path.name)) as descriptor:
        write_all(descriptor, content)
