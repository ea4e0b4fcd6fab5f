"""Every call that changes a store's files, seen from inside the process that makes it.

SQLite's go through a VFS of APSW's, the JSONL backend's through the `os` module. What a `Disk` does
about a call (count it, fail, pull the plug) is its own matter.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import apsw

_FILE_CALLS: Final = ("write", "pwrite", "writev", "ftruncate", "fsync", "fdatasync")
_NAME_CALLS: Final = ("open", "utime", "replace", "rename", "unlink", "link", "truncate", "fchmod")

SPARES: Final = ".spares"
"""The end of the name of a directory with what a power cut would bring back."""


class Disk:
    """Called around each change; does nothing by itself.

    `before` may raise OSError, which the caller then sees as the disk's; `half` stands for a
    write that gets half-way.
    """

    def before(self, call: str, half: Callable[[], object]) -> None:
        """A change is about to be made."""

    def wrote(self, descriptor: int, offset: int, old: bytes, new: bytes, size: int) -> None:
        """`new` is where `old` was, in a file that had `size` bytes."""

    def cut(self, descriptor: int, size: int, old: bytes) -> None:
        """The file ends at `size` now; `old` was behind that."""

    def synced(self, descriptor: int) -> None:
        """What was changed in the file, or directory, is durable."""

    def named(self, path: str, undo: Callable[[], object]) -> None:
        """The file at `path` was created, renamed or removed; `undo` takes that back."""


def watch(disk: Disk) -> None:
    """From now on this process tells `disk` of every change, whichever store it has."""
    _Vfs.disk = disk
    global _vfs  # noqa: PLW0603 - SQLite knows it for as long as the process lives
    _vfs = _Vfs()
    for name in (*_FILE_CALLS, *_NAME_CALLS):
        setattr(os, name, _watched(disk, name, getattr(os, name)))


def _nothing() -> None:
    pass


_vfs: apsw.VFS | None = None
_open, _unlink, _replace, _link = os.open, os.unlink, os.replace, os.link
_pread, _fstat, _exists = os.pread, os.fstat, os.path.exists


def _watched(disk: Disk, name: str, real: Any) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        if name == "open" and not (args[1] & os.O_CREAT and not _exists(args[0])):
            return real(*args, **options)
        disk.before(name, lambda: _half(name, real, args))
        if name in ("replace", "rename"):
            return _rename(disk, *args)
        if name == "unlink":
            return _remove(disk, *args)
        before = _before_change(name, args)
        answer = real(*args, **options)
        _tell(disk, name, args, before)
        return answer

    return call


def _half(name: str, real: Any, args: Any) -> None:
    if name == "write":
        real(args[0], bytes(args[1])[: len(args[1]) // 2])


@dataclass(frozen=True, slots=True)
class _Before:
    """A file's size, and what is where the change will be."""

    size: int = 0
    offset: int = 0
    old: bytes = b""


def _before_change(name: str, args: Any) -> _Before:
    if name not in ("write", "ftruncate"):
        return _Before()
    descriptor, what = args[0], args[1]
    size = _fstat(descriptor).st_size
    if name == "ftruncate":
        offset, length = what, size - what
    else:
        appends = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND
        offset = size if appends else os.lseek(descriptor, 0, os.SEEK_CUR)
        length = len(what)
    if offset >= size or length <= 0:
        return _Before(size, offset)
    readable = _open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)  # it may be open for writing only
    try:
        return _Before(size, offset, _pread(readable, length, offset))
    finally:
        os.close(readable)


def _tell(disk: Disk, name: str, args: Any, before: _Before) -> None:
    if name == "write":
        disk.wrote(args[0], before.offset, before.old, bytes(args[1]), before.size)
    elif name == "ftruncate":
        disk.cut(args[0], args[1], before.old)
    elif name in ("fsync", "fdatasync"):
        disk.synced(args[0])
    elif name == "open":
        disk.named(os.fspath(args[0]), lambda: _unlink(args[0]))


def _rename(disk: Disk, source: Any, target: Any) -> None:
    spare = _spare(target)
    _replace(source, target)

    def undo() -> None:
        _replace(target, source)
        if spare is not None:
            _replace(spare, target)

    disk.named(os.fspath(target), undo)


def _remove(disk: Disk, path: Any) -> None:
    spare = _spare(path)
    _unlink(path)
    if spare is not None:
        disk.named(os.fspath(path), lambda: _replace(spare, path))


def _spare(path: Any) -> str | None:
    """Another name for the file, out of the store's sight; None when there is no file."""
    directory, name = os.path.split(os.fspath(path))
    spares = f"{directory}{SPARES}"
    os.makedirs(spares, exist_ok=True)  # noqa: PTH103 - pathlib would come here again
    spare = f"{spares}/{len(os.listdir(spares))}-{os.getpid()}-{name[:100]}"  # noqa: PTH208
    try:
        _link(path, spare)
    except FileNotFoundError:
        return None
    return spare


class _VfsFile(apsw.VFSFile):
    """A file of SQLite's. Its own descriptor stays SQLite's; this one is to look with."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        path = name if isinstance(name, str) or name is None else name.filename()
        self._descriptor = None if path is None else _open(path, os.O_RDWR)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        with _sqlite_errors():
            half = bytes(data)[: len(data) // 2]
            self._disk.before("write", lambda: super(_VfsFile, self).xWrite(half, offset))
        size, old = super().xFileSize(), b""
        if self._descriptor is not None:
            old = _pread(self._descriptor, len(data), offset)
        super().xWrite(data, offset)
        if self._descriptor is not None:
            self._disk.wrote(self._descriptor, offset, old, bytes(data), size)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with _sqlite_errors():
            self._disk.before("ftruncate", _nothing)
        size, old = super().xFileSize(), b""
        if self._descriptor is not None:
            old = _pread(self._descriptor, max(0, size - newsize), newsize)
        super().xTruncate(newsize)
        if self._descriptor is not None:
            self._disk.cut(self._descriptor, newsize, old)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with _sqlite_errors():
            self._disk.before("fsync", _nothing)
        super().xSync(flags)
        if self._descriptor is not None:
            self._disk.synced(self._descriptor)


class _Vfs(apsw.VFS):
    disk: Disk

    def __init__(self) -> None:
        super().__init__("watched", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> _VfsFile:  # noqa: N802
        return _VfsFile(self.disk, name, flags)


class _sqlite_errors:  # noqa: N801 - reads as a statement
    """An OSError as the error SQLite would have made of it."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError):
            raise {28: apsw.FullError, 30: apsw.ReadOnlyError}.get(error.errno or 0, apsw.IOError)(
                str(error)
            ) from error
