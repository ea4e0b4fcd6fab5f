"""The redo journal: the changes of each group in a checksummed frame, durable before the files.

A journal, `.journal.<number>`, is a line of text with the version and a random salt, then frames:
sizes and a CRC-32, the table of entries in JSON, the bytes for the files. If the store's clock has
changed, the table also has its history: after a kill it has to match the times that were stored.

The checksum of a frame continues that of the frame before, and the first one that of the salt, so
remains of an older journal on the disk are never taken for a frame of this one.

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

PREFIX: Final = ".journal."  # the file name of a key never begins with a dot
_VERSION: Final = 2  # version 1 has no history of the clock
_FIRST_LINE: Final = re.compile(rb"backscroll journal ([0-9]+) [0-9a-f]{16}\n")
_SIZES: Final = struct.Struct("<IQ")  # of the table, of the bytes after it
_CHECKSUM: Final = struct.Struct("<I")

Version = tuple[int, int] | None
"""Size and time, in nanoseconds, of a file before it was replaced or removed."""


class Added(NamedTuple):
    """Bytes written at `offset` of a file."""

    name: str
    offset: int
    content: bytes
    mtime: int


class Put(NamedTuple):
    """The whole new content of a file."""

    name: str
    content: bytes
    mtime: int | None
    before: Version


class Removed(NamedTuple):
    """A file to remove."""

    name: str
    before: Version


class ClockNoted(NamedTuple):
    """What is remembered of the store's clock; see `contract.clock.ClockRecord`."""

    history: str


FileEntry = Added | Put | Removed
Entry = FileEntry | ClockNoted


class Journal:
    """A journal that this process writes.

    `written` has the files written since it began, with the offset of the first write.
    """

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
            # Private, as it contains messages of every session.
            self._descriptor = open_private(self._path, os.O_WRONLY | os.O_APPEND | os.O_EXCL)
            self._inode = os.fstat(self._descriptor).st_ino

    def write(self, changes: Changes, meanwhile: Callable[[], None] | None = None) -> None:
        """Commit `changes`: they are durable when this returns.

        `meanwhile` is called during the sync.
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
        """Remove what follows `end`. The next frame has to go into a new journal: after a failed
        sync it is unknown how much of this file is on the disk."""
        self.end = end
        with naming(self._path):
            os.ftruncate(self._descriptor, end)
            sync_data(self._descriptor)

    def check(self) -> None:
        """Raise `StoreUnavailableError` unless the file is as this process left it.

        Otherwise it or the directory was removed, or a second process writes to the store.
        """
        if not self._is_ours():
            raise StoreUnavailableError(
                f"{self._path} was changed, moved or removed while it was written; "
                "does another process write to this store?"
            )

    def remove(self) -> None:
        """Remove the file, unless it is another process's journal, and close it."""
        if self._is_ours():
            self._directory.unlink(self._name)
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
    """The names of the existing journals, oldest first."""
    numbers = [name.removeprefix(PREFIX) for name in directory.names(prefix=PREFIX)]
    return [f"{PREFIX}{number}" for number in sorted(map(int, filter(str.isdecimal, numbers)))]


def entries(directory: Directory, name: str) -> Iterator[Entry]:
    """The entries of a journal's complete frames, in order."""
    content = directory.read(name) or b""
    first_line = _FIRST_LINE.match(content)
    if first_line is None:  # a kill or a power cut came before its first frame
        return
    if int(first_line[1]) > _VERSION:
        raise StoreUnusableError(
            f"{directory.locate(name)} was written by a newer Backscroll; install that"
        )
    checksum, offset = zlib.crc32(first_line[0]), first_line.end()
    view = memoryview(content)
    while (frame := _complete_frame(view[offset:], checksum)) is not None:
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
                [name, len(content), mtime, _version(before)]
                for name, (content, mtime, before) in replacements.items()
            ],
            [[name, _version(before)] for name, before in changes.removals.items()],
            *([] if changes.clock is None else [changes.clock.decode()]),
        ]
    )
    parts = [addition.content for addition in additions.values()]
    parts += [replacement.content for replacement in replacements.values()]
    body = b"".join(parts)
    sizes = _SIZES.pack(len(table), len(body))
    checksum = _checksum(sizes, table, body, previous)
    return b"".join([sizes, _CHECKSUM.pack(checksum), table, body]), checksum


def _complete_frame(view: memoryview, previous: int) -> tuple[memoryview, memoryview, int] | None:
    """The table, the bytes and the checksum of the frame at the start of `view`.

    None if it is incomplete or fails its checksum.
    """
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
    for name, size, mtime, before in replacements:
        yield Put(name, bytes(body[start : start + size]), mtime, _pair(before))
        start += size
    for name, before in removals:
        yield Removed(name, _pair(before))


def _version(before: Stamp | None) -> Version:
    return None if before is None else (before.size, before.mtime_ns)


def _pair(version: Any) -> Version:
    return None if version is None else (version[0], version[1])
