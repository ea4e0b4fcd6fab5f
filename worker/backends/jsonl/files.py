"""The store's directory as bytes: durable appends, atomic replacement, removal.

Nothing here knows what the files mean. Every failure of the disk comes out as
`StoreUnavailableError` with the path and the reason.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from producer.errors import StoreUnavailableError

_TEMPORARY: Final = ".writing"  # no key's file begins with a dot
_OPEN_AT_ONCE: Final = 64

_ADVICE: Final = {
    errno.ENOSPC: ". Free some space on its disk",
    errno.EDQUOT: ". Free some space or raise the quota",
    errno.ENOENT: ". Is the path right?",
    errno.EACCES: ". Is the path right, and may this user write there?",
    errno.EPERM: ". Is the path right, and may this user write there?",
    errno.EROFS: ". Its file system is mounted for reading only",
}


class Addition(NamedTuple):
    """Bytes to add at the end of a file, and the time it then bears, in microseconds."""

    name: str
    content: bytes
    mtime: int


class Stamp(NamedTuple):
    """What changes whenever a file does."""

    inode: int
    size: int
    mtime_ns: int

    @property
    def mtime(self) -> int:
        return self.mtime_ns // 1000


class Directory:
    """The files of one directory, by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # What a killed predecessor renamed may be visible and not yet durable.
        self._is_synced = False

    def names(self, suffix: str) -> list[str]:
        """The names of the files that end in `suffix`."""
        with naming(self.path), os.scandir(self.path) as entries:
            return [entry.name for entry in entries if entry.name.endswith(suffix)]

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
        path = self.path / name
        with naming(path):
            try:
                status = os.stat(path)  # noqa: PTH116 - the hot path
            except FileNotFoundError:
                return None
        return Stamp(status.st_ino, status.st_size, status.st_mtime_ns)

    def read(self, name: str) -> bytes | None:
        """The file's content; None when there is no such file."""
        path = self.path / name
        with naming(path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                return None

    def append(self, additions: Sequence[Addition]) -> None:
        """Add to the ends of existing files and sync them; an empty addition only syncs."""
        for start in range(0, len(additions), _OPEN_AT_ONCE):
            files: list[_Appending] = []
            try:
                # All are written before any is synced: the first sync then carries the others.
                for addition in additions[start : start + _OPEN_AT_ONCE]:
                    files.append(_Appending(self.path, addition))
                    files[-1].write()
                for file in files:
                    file.sync()
            except BaseException:
                for file in files:
                    file.undo()
                raise
            finally:
                for file in files:
                    file.close()

    def replace(self, name: str, content: bytes, mtime: int | None = None) -> None:
        """Put a whole new content in the file's place, or create it; durable after `sync`."""
        path, temporary = self.path / name, self.path / _TEMPORARY
        with naming(path):
            try:
                _write_synced(temporary, content, mtime, mode=_mode(path))
                temporary.replace(path)
            except BaseException:
                with suppress(OSError):
                    temporary.unlink()
                raise
        self._is_synced = False

    def remove(self, name: str) -> None:
        """Remove the file if it is there; durable after `sync`."""
        path = self.path / name
        with naming(path), suppress(FileNotFoundError):
            path.unlink()
            self._is_synced = False

    def sync(self) -> None:
        """Make what was created, replaced and removed durable."""
        if self._is_synced:
            return
        with naming(self.path):
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._is_synced = True

    def recover(self) -> None:
        """Something failed or was killed, and how far it got is unknown: leave no half of it."""
        self.remove(_TEMPORARY)
        self._is_synced = False


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError into ours, with the path in it."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "")
        raise StoreUnavailableError(f"{path}: {error.strerror or error}{advice}") from error


class _Appending:
    """One file while it is added to."""

    def __init__(self, directory: Path, addition: Addition) -> None:
        self._path = directory / addition.name
        self._addition = addition
        with naming(self._path):
            flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags)
            self._before = os.fstat(self._descriptor)

    def write(self) -> None:
        content, size = self._addition.content, self._before.st_size
        if not content:
            return
        with naming(self._path):
            # A torn last line must not swallow what comes after it.
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                content = b"\n" + content
            _write_all(self._descriptor, content)
            _set_mtime(self._descriptor, self._addition.mtime)

    def sync(self) -> None:
        with naming(self._path):
            os.fsync(self._descriptor)

    def undo(self) -> None:
        """Back to the old end. After a failed sync the kernel may show lines the disk never got,
        and the next attempt must not take them for stored."""
        if self._addition.content:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._before.st_size)
                _set_mtime(self._descriptor, self._before.st_mtime_ns // 1000)

    def close(self) -> None:
        os.close(self._descriptor)


def _write_synced(path: Path, content: bytes, mtime: int | None, mode: int | None) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o666)
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
        _write_all(descriptor, content)
        if mtime is not None:
            _set_mtime(descriptor, mtime)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _set_mtime(descriptor: int, mtime: int) -> None:
    with suppress(PermissionError):  # not our file; writing it has set its time to about now
        os.utime(descriptor, ns=(mtime * 1000, mtime * 1000))


def _mode(path: Path) -> int | None:
    """The permissions a file has, which its replacement gets too."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return None
