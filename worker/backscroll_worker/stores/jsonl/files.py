"""The store's directory as bytes, to be read: names, stamps and contents.

Nothing here knows what the files mean. Every failure of the disk comes out as
`StoreUnavailableError` with the path and the reason. `writer` writes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import sync_path

_ADVICE: Final = {
    errno.ENOSPC: ". Free some space on its disk",
    errno.EDQUOT: ". Free some space or raise the quota",
    errno.ENOENT: ". Is the path right?",
    errno.EACCES: ". Is the path right, and may this user write there?",
    errno.EPERM: ". Is the path right, and may this user write there?",
    errno.EROFS: ". Its file system is mounted for reading only",
}


class Stamp(NamedTuple):
    """What changes whenever a file does."""

    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)

    @property
    def mtime(self) -> int:
        """In microseconds."""
        return self.mtime_ns // 1000


class Directory:
    """The files of one directory, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._prefix = f"{path}/"

    def locate(self, name: str) -> str:
        """The file's path; a string, because a `Path` takes as long as opening the file."""
        return self._prefix + name

    def names(self, suffix: str) -> list[str]:
        """The names of the files that end in `suffix`."""
        with naming(self.path), os.scandir(self.path) as entries:
            return [entry.name for entry in entries if entry.name.endswith(suffix)]

    def names_with(self, prefix: str) -> list[str]:
        """The names of the files that begin with `prefix`."""
        with naming(self.path), os.scandir(self.path) as entries:
            return [entry.name for entry in entries if entry.name.startswith(prefix)]

    def stamps(self, suffix: str) -> list[tuple[str, Stamp]]:
        """The files that end in `suffix`, with their stamps."""
        found = ((name, self.stamp(name)) for name in self.names(suffix))
        return [(name, stamp) for name, stamp in found if stamp is not None]

    def size_bytes(self) -> int:
        """All files together."""
        size = 0
        with naming(self.path), os.scandir(self.path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    size += entry.stat().st_size
        return size

    def stamp(self, name: str) -> Stamp | None:
        """The file's stamp; None when there is no such file."""
        path = self._prefix + name
        try:
            status = os.stat(path)  # noqa: PTH116 - the hot path
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unavailable(path, error) from error
        return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, name: str) -> bytes | None:
        """The file's content; None when there is no such file."""
        path = self.path / name
        with naming(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def sync(self) -> None:
        """Make what was created, renamed and removed durable."""
        with naming(self.path):
            sync_path(self.path)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn an OSError into ours, with the path in it."""
    try:
        yield
    except OSError as error:
        raise unavailable(path, error) from error


def unavailable(path: Path | str, error: OSError) -> StoreUnavailableError:
    """Our error for one of the disk's."""
    advice = _ADVICE.get(error.errno or 0, "")
    return StoreUnavailableError(f"{path}: {error.strerror or error}{advice}")


def sync_data(descriptor: int) -> None:
    """Make a file's bytes durable, and its size, but not its times; macOS has only `fsync`."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def set_mtime(descriptor: int, mtime_ns: int) -> None:
    """Set a file's time, in nanoseconds."""
    try:
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    except PermissionError:  # not our file; writing it has set its time to about now
        return
