"""The redo journal: what a group changes, in one checksummed frame, durable before any file is.

A journal, `.journal.<number>`, is a line of text that names the version and a random salt, and
then frames: sizes and a CRC-32, the table of entries in JSON, the bytes they put into the files.
Where the store's clock has changed, the table has what is remembered of it too: a kill must not
part that from the times that it stamped.

Each frame's checksum begins with that of the one before it and the first one's with the salt, so
that nothing an older journal left on the disk can pass for a frame of this one.

A frame that is torn, or fails its checksum, was never acknowledged: reading stops there.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.private_files import open_private, write_all
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory, Stamp, naming, sync_data

PREFIX: Final = ".journal."  # no key's file begins with a dot
_VERSION: Final = 2
"""In a journal of version 1 nothing is said of the clock."""
_FIRST_LINE: Final = re.compile(rb"backscroll journal ([0-9]+) [0-9a-f]{16}\n")
_SIZES: Final = struct.Struct("<IQ")  # of the table, of the bytes after it
_CHECKSUM: Final = struct.Struct("<I")

Was = tuple[int, int] | None
"""Size and time of a file, in nanoseconds, before it was replaced or removed."""


class Added(NamedTuple):
    """Bytes that belong at `offset` of a file."""

    name: str
    offset: int
    content: bytes
    mtime: int


class Put(NamedTuple):
    """The whole content of a file."""

    name: str
    content: bytes
    mtime: int | None
    was: Was


class Removed(NamedTuple):
    """A file that is to be gone."""

    name: str
    was: Was


class ClockNoted(NamedTuple):
    """What is remembered of the store's clock; see `contract.clock.ClockRecord`."""

    history: str


FileEntry = Added | Put | Removed
Entry = FileEntry | ClockNoted


class Journal:
    """One that this process writes, and from where on each file has been written since."""

    def __init__(self, directory: Directory, number: int, syncer: Executor) -> None:
        self.number = number
        self.end = 0
        self.written: dict[str, int] = {}
        self._name = f"{PREFIX}{number}"
        self._syncer = syncer
        self._directory = directory
        self._path = directory.locate(self._name)
        self._first_line = b"backscroll journal %d %b\n" % (_VERSION, secrets.token_hex(8).encode())
        self._checksum = zlib.crc32(self._first_line)
        with naming(self._path):
            # It holds what every session holds, so nobody else may read it.
            flags = os.O_WRONLY | os.O_APPEND | os.O_EXCL
            self._descriptor = open_private(self._path, flags)
            self._inode = os.fstat(self._descriptor).st_ino

    def write(self, changes: Changes, meanwhile: Callable[[], None] | None = None) -> None:
        """Make `changes` durable: the moment in which they are committed.

        `meanwhile` is called while the disk is at it.
        """
        frame, checksum = _encoded(changes, self._checksum)
        if not self.end:
            frame = self._first_line + frame
        with naming(self._path):
            try:
                write_all(self._descriptor, frame)
                self._sync(meanwhile)
            except BaseException:
                with suppress(StoreUnavailableError):
                    self.cut(self.end)
                raise
        self.end += len(frame)
        self._checksum = checksum

    def cut(self, end: int) -> None:
        """Take back what comes after `end`. No frame may be written after it but by a new journal:
        after a failed sync nobody knows what of this file is on the disk."""
        self.end = end
        with naming(self._path):
            os.ftruncate(self._descriptor, end)
            sync_data(self._descriptor)

    def check(self) -> None:
        """Raise `StoreUnavailableError` unless the file is in its place, as this process left it.

        Otherwise somebody removed it or the directory, or opened the store for writing too.
        """
        if not self._is_ours():
            raise StoreUnavailableError(
                f"{self._path} was changed, moved or removed while it was written; "
                "does another process write to this store?"
            )

    def remove(self) -> None:
        """Nothing in it is needed any more; another process's journal is left alone."""
        if self._is_ours():
            with naming(self._path):
                os.unlink(self._path)  # noqa: PTH108 - a string; see `locate`
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)

    def _sync(self, meanwhile: Callable[[], None] | None) -> None:
        if meanwhile is None:
            sync_data(self._descriptor)
            return
        syncing = self._syncer.submit(sync_data, self._descriptor)
        try:
            meanwhile()
        finally:
            syncing.result()

    def _is_ours(self) -> bool:
        stamp = self._directory.stamp(self._name)
        return stamp is not None and stamp[:2] == (self._inode, self.end)


def journals(directory: Directory) -> list[str]:
    """The names of the journals there are, the oldest first."""
    numbers = [name.removeprefix(PREFIX) for name in directory.names_with(PREFIX)]
    return [f"{PREFIX}{number}" for number in sorted(map(int, filter(str.isdecimal, numbers)))]


def entries(directory: Directory, name: str) -> Iterator[Entry]:
    """What the whole frames of a journal say, in order."""
    content = directory.read(name) or b""
    first_line = _FIRST_LINE.match(content)
    if first_line is None:  # killed or cut off before its first frame
        return
    if int(first_line[1]) > _VERSION:
        raise StoreUnusableError(
            f"{directory.locate(name)} was written by a newer Backscroll; install that"
        )
    checksum, offset = zlib.crc32(first_line[0]), first_line.end()
    view = memoryview(content)
    while (frame := _whole_frame(view[offset:], checksum)) is not None:
        table, body, checksum = frame
        yield from _decoded(table, body)
        offset += _SIZES.size + _CHECKSUM.size + len(table) + len(body)


def _encoded(changes: Changes, previous: int) -> tuple[bytes, int]:
    additions, replacements = changes.additions, changes.replacements
    table = orjson.dumps(
        [
            [
                [name, before.size, len(content), mtime]
                for name, (content, mtime, before) in additions.items()
            ],
            [
                [name, len(content), mtime, _was(before)]
                for name, (content, mtime, before) in replacements.items()
            ],
            [[name, _was(before)] for name, before in changes.removals.items()],
            *([] if changes.clock is None else [changes.clock.decode()]),
        ]
    )
    parts = [addition.content for addition in additions.values()]
    parts += [replacement.content for replacement in replacements.values()]
    body = b"".join(parts)
    sizes = _SIZES.pack(len(table), len(body))
    checksum = _checksum(sizes, table, body, previous)
    return b"".join([sizes, _CHECKSUM.pack(checksum), table, body]), checksum


def _whole_frame(view: memoryview, previous: int) -> tuple[memoryview, memoryview, int] | None:
    """The table and the bytes of the frame that `view` begins with, and its checksum."""
    start = _SIZES.size + _CHECKSUM.size
    if len(view) < start:
        return None
    sizes = view[: _SIZES.size]
    table_size, body_size = _SIZES.unpack(sizes)
    (expected,) = _CHECKSUM.unpack(view[_SIZES.size : start])
    table = view[start : start + table_size]
    body = view[start + table_size : start + table_size + body_size]
    if len(table) + len(body) < table_size + body_size:
        return None
    checksum = _checksum(sizes, table, body, previous)
    return (table, body, checksum) if checksum == expected else None


def _checksum(
    sizes: bytes | memoryview, table: bytes | memoryview, body: bytes | memoryview, previous: int
) -> int:
    return zlib.crc32(body, zlib.crc32(table, zlib.crc32(sizes, previous)))


def _decoded(table: memoryview, body: memoryview) -> Iterator[Entry]:
    additions, replacements, removals, *clock = orjson.loads(table)
    yield from map(ClockNoted, clock)
    start = 0
    for name, offset, size, mtime in additions:
        yield Added(name, offset, bytes(body[start : start + size]), mtime)
        start += size
    for name, size, mtime, was in replacements:
        yield Put(name, bytes(body[start : start + size]), mtime, _pair(was))
        start += size
    for name, was in removals:
        yield Removed(name, _pair(was))


def _was(before: Stamp | None) -> Was:
    return None if before is None else (before.size, before.mtime_ns)


def _pair(was: Any) -> Was:
    return None if was is None else (was[0], was[1])
