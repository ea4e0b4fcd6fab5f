"""A disk that loses its power: what of a directory is on it, and what only the kernel has.

Every call that changes files is watched. Written bytes are on the disk once their file is synced,
names once the directory is; until then each may be there or not, and bytes may be zeros. A sync
that fails drops what it was to write, and the next one knows nothing of it (as Linux does).
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

_CALLS: Final = (
    "open",
    "write",
    "utime",
    "fsync",
    "fdatasync",
    "replace",
    "unlink",
    "ftruncate",
)


class PowerCutError(BaseException):
    """The machine is off."""


@dataclass
class _File:
    """One inode. It is held open, so that its number is not given away."""

    held: int
    durable: bytes = b""
    mtime_ns: int = 0
    dirty: list[tuple[int, int]] = field(default_factory=list)

    def current(self) -> bytes:
        return os.pread(self.held, os.fstat(self.held).st_size, 0)


class Disk:
    """What would be found in `directory` after a power cut. What is there now is durable."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[int, _File] = {}
        self._look()
        self._names = self._current_names()
        for inode in self._names.values():
            self._sync(inode)
            self._files[inode].durable = self._files[inode].current()

    def after_power_cut(self, target: Path, chance: random.Random) -> None:
        """Make `target` what the next start finds."""
        target.mkdir()
        current = self._current_names()
        for name in self._names.keys() | current.keys():
            inode = chance.choice((self._names, current)).get(name)
            if inode is not None:
                file = self._files[inode]
                (target / name).write_bytes(_left(file, chance))
                now = os.fstat(file.held).st_mtime_ns
                mtime_ns = chance.choice((file.mtime_ns or now, now))
                os.utime(target / name, ns=(mtime_ns, mtime_ns))

    @contextmanager
    def watching(self, stop_at: int = -1, fail_at: int = -1) -> Iterator[list[str]]:
        """Note the calls; the power goes at the `stop_at`th, the `fail_at`th has an I/O error."""
        calls: list[str] = []
        real = {name: getattr(os, name) for name in _CALLS}

        def watched(name: str) -> Any:
            def call(*args: Any, **options: Any) -> Any:
                if name == "open" and not args[1] & os.O_CREAT:
                    return real[name](*args, **options)
                calls.append(name)
                if 0 <= stop_at < len(calls):  # nothing that comes after it happens either
                    if len(calls) - 1 == stop_at and name == "write":
                        self._written(args[0], real[name](args[0], args[1][: len(args[1]) // 2]))
                    raise PowerCutError
                if len(calls) - 1 == fail_at:
                    if name in ("fsync", "fdatasync"):
                        self._dropped(args[0])
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                result = real[name](*args, **options)
                self._note(name, args, result)
                return result

            return call

        with pytest.MonkeyPatch.context() as patch:
            for name in _CALLS:
                patch.setattr(os, name, watched(name))
            yield calls

    def _note(self, name: str, args: Any, result: Any) -> None:
        if name == "write":
            self._written(args[0], result)
        elif name in ("fsync", "fdatasync"):
            status = os.fstat(args[0])
            if stat.S_ISDIR(status.st_mode):
                self._names = self._current_names()
            else:
                self._sync(status.st_ino)
        elif name == "open":
            self._look()
            if args[1] & os.O_TRUNC:
                self._files[os.fstat(result).st_ino].dirty.clear()

    def _written(self, descriptor: int, size: int) -> None:
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        self._files[os.fstat(descriptor).st_ino].dirty.append((end - size, end))

    def _dropped(self, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        if inode in self._files:  # it is no directory
            self._files[inode].dirty.clear()

    def _sync(self, inode: int) -> None:
        file = self._files[inode]
        file.durable = _merged(file, file.dirty, zeros=False)[: os.fstat(file.held).st_size]
        file.dirty = []
        file.mtime_ns = os.fstat(file.held).st_mtime_ns

    def _current_names(self) -> dict[str, int]:
        with os.scandir(self._directory) as entries:
            return {entry.name: entry.inode() for entry in entries}

    def _look(self) -> None:
        for name, inode in self._current_names().items():
            if inode not in self._files:
                # Not through the watched call: `os.open` may be ours by now.
                held = (self._directory / name).open("rb", buffering=0)
                self._files[inode] = _File(os.dup(held.fileno()))
                held.close()

    def close(self) -> None:
        for file in self._files.values():
            os.close(file.held)


@contextmanager
def disk_of(directory: Path) -> Iterator[Disk]:
    disk = Disk(directory)
    try:
        yield disk
    finally:
        disk.close()


def _left(file: _File, chance: random.Random) -> bytes:
    """What is left of a file: any part of what was not synced may be missing or zeros."""
    fates: tuple[Callable[[], bytes], ...] = (
        lambda: file.durable,
        lambda: _merged(file, file.dirty, zeros=False),
        lambda: _merged(file, file.dirty, zeros=True),
        lambda: _torn(file, chance),
    )
    return chance.choice(fates)()


def _torn(file: _File, chance: random.Random) -> bytes:
    whole = _merged(file, file.dirty, zeros=chance.random() < 0.5)
    if len(whole) <= len(file.durable):
        return whole
    return whole[: chance.randint(len(file.durable), len(whole))]


def _merged(file: _File, ranges: list[tuple[int, int]], *, zeros: bool) -> bytes:
    """The durable content with what was written since, or with zeros in its place."""
    current, merged = file.current(), bytearray(file.durable)
    for start, end in ranges:
        merged.extend(bytes(max(0, end - len(merged))))
        merged[start:end] = (
            bytes(end - start) if zeros else current[start:end].ljust(end - start, b"\0")
        )
    return bytes(merged)
