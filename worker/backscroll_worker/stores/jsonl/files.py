"""The store's directory as named files: reading, and replacing a file as a whole.

Nothing here knows what the files contain. Each error of the disk becomes `StoreUnavailableError`
with the path and the reason.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import open_private, sync_path, write_all
from backscroll_worker.stores.blobs import Blobs

BLOBS: Final = ".blobs"
TEMPORARY: Final = ".writing"  # the file name of a key never begins with a dot
_ADVICE: Final = {
    errno.ENOSPC: ". Free some space on its disk",
    errno.EDQUOT: ". Free some space or raise the quota",
    errno.ENOENT: ". Is the path right?",
    errno.EACCES: ". Is the path right, and may this user write there?",
    errno.EPERM: ". Is the path right, and may this user write there?",
    errno.EROFS: ". Its file system is mounted for reading only",
}


class Stamp(NamedTuple):
    """A file's identity, size and time: at least one differs after each change."""

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
    """The files of one directory, by name.

    Paths are strings here: creating a `Path` takes as long as opening the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blobs = Blobs(path / BLOBS)
        self._prefix = f"{path}/"

    def locate(self, name: str) -> str:
        """The file's path."""
        return self._prefix + name

    def names(self, suffix: str = "", *, prefix: str = "") -> list[str]:
        """The names of the files that begin with `prefix` and end with `suffix`."""
        with naming(self.path), os.scandir(self.path) as entries:
            names = [entry.name for entry in entries]
        return [name for name in names if name.startswith(prefix) and name.endswith(suffix)]

    def stamps(self, suffix: str) -> list[tuple[str, Stamp]]:
        """The files that end with `suffix`, with their stamps."""
        found = ((name, self.stamp(name)) for name in self.names(suffix))
        return [(name, stamp) for name, stamp in found if stamp is not None]

    def size_bytes(self) -> int:
        """The size of all files."""
        size = 0
        with naming(self.path), os.scandir(self.path) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    size += entry.stat().st_size
        return size

    def stamp(self, name: str) -> Stamp | None:
        """The file's stamp; None if it does not exist."""
        path = self._prefix + name
        try:
            status = os.stat(path)  # noqa: PTH116 - the hot path
        except FileNotFoundError:
            return None
        except OSError as error:
            raise unavailable(path, error) from error
        return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, name: str) -> bytes | None:
        """The file's content; None if it does not exist."""
        path = self.path / name
        with naming(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def write_beside(
        self,
        name: str,
        content: bytes,
        mtime: int | None = None,
        *,
        temporary: str = TEMPORARY,
        is_synced: bool = False,
    ) -> Stamp:
        """Write the next content of `name`, with its permissions, to a temporary file.

        Returns that file's stamp. `mtime` is in microseconds.
        """
        path, mode = self.locate(temporary), self._mode(name)
        with naming(path):
            descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)
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

    def replace(self, name: str, content: bytes, mtime: int | None = None) -> None:
        """Replace the content of `name`; durable after `sync`."""
        self.write_beside(name, content, mtime, is_synced=True)
        self.rename(TEMPORARY, name)

    def rename(self, old: str, new: str) -> None:
        """Rename a file, replacing any that has the new name."""
        path = self.locate(new)
        with naming(path):
            os.replace(self.locate(old), path)  # noqa: PTH105

    def unlink(self, name: str) -> None:
        """Remove the file if it exists."""
        path = self.locate(name)
        with naming(path), suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108

    def remove_temporary(self) -> None:
        """Remove temporary files that a killed process left."""
        for name in self.names(prefix=TEMPORARY):
            self.unlink(name)

    def sync(self) -> None:
        """Make creations, renames and removals durable."""
        with naming(self.path):
            sync_path(self.path)

    def _mode(self, name: str) -> int | None:
        """The permissions of a file; None if it does not exist."""
        path = self.locate(name)
        with naming(path):
            try:
                return stat.S_IMODE(os.stat(path).st_mode)  # noqa: PTH116
            except FileNotFoundError:
                return None


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Turn an OSError into `StoreUnavailableError` with the path in it."""
    try:
        yield
    except OSError as error:
        raise unavailable(path, error) from error


def unavailable(path: Path | str, error: OSError) -> StoreUnavailableError:
    """The store's error for one of the disk."""
    advice = _ADVICE.get(error.errno or 0, "")
    return StoreUnavailableError(f"{path}: {error.strerror or error}{advice}")


def sync_data(descriptor: int) -> None:
    """Make a file's bytes and size durable, but not its times; macOS has only `fsync`."""
    getattr(os, "fdatasync", os.fsync)(descriptor)


def set_mtime(descriptor: int, mtime_ns: int) -> None:
    """Set a file's time, in nanoseconds."""
    try:
        os.utime(descriptor, ns=(mtime_ns, mtime_ns))
    except PermissionError:  # another user's file; writing it has set its time to about now
        return
