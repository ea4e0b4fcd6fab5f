"""Whole new contents: written beside a file, then renamed into its place."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final

from backscroll.private_files import open_private, write_all
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming, set_mtime

TEMPORARY: Final = ".writing"  # no key's file begins with a dot


def write_temporary(
    directory: Directory,
    name: str,
    temporary: str,
    content: bytes,
    mtime: int | None,
    *,
    is_synced: bool = False,
) -> Stamp:
    """Write what is to take the place of `name`, with its permissions; its stamp."""
    path = directory.locate(temporary)
    mode = _mode(directory, name)
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW
    with naming(path):
        descriptor = open_private(path, flags)
        try:
            if mode is not None:
                os.fchmod(descriptor, mode)
            write_all(descriptor, content)
            if mtime is not None:
                set_mtime(descriptor, mtime * 1000)
            if is_synced:
                os.fsync(descriptor)
            return Stamp.of(os.fstat(descriptor))
        finally:
            os.close(descriptor)


def rename(directory: Directory, old: str, new: str) -> None:
    """Give a file another name, in the place of any that has it."""
    path = directory.locate(new)
    with naming(path):
        os.replace(directory.locate(old), path)  # noqa: PTH105 - strings; see `locate`


def sweep(directory: Directory) -> None:
    """Remove what was being written when a process was killed."""
    for name in directory.names_with(TEMPORARY):
        path = directory.locate(name)
        with naming(path), suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 - a string; see `locate`


def _mode(directory: Directory, name: str) -> int | None:
    """The permissions a file has, which its replacement gets too."""
    path = directory.locate(name)
    with naming(path):
        try:
            return stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116 - a string; see `locate`
        except FileNotFoundError:
            return None
