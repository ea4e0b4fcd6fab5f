"""Which bytes of a database file mean nothing: https://www.sqlite.org/fileformat2.html.

It knows the file format only; that nobody writes meanwhile is the caller's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Set
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

_FILE_HEADER_BYTES: Final = 100
_TABLE_INTERIOR: Final = 0x05
_INDEX_INTERIOR: Final = 0x02
_TABLE_LEAF: Final = 0x0D
_HEADER_BYTES: Final = {_TABLE_INTERIOR: 12, _INDEX_INTERIOR: 12, _TABLE_LEAF: 8, 0x0A: 8}
_BTREE: Final = (1, 5)  # in the pointer map: a root, and any other page of a b-tree
_FREE: Final = 2
_OVERFLOW: Final = (3, 4)  # the first of a chain, and any other
_LOCKS_AT: Final = 1 << 30


class Stretch(NamedTuple):
    """Bytes of the file, from `start` to before `end`."""

    start: int
    end: int


class _LoggedError(Exception):
    """What a page is depends on one that the log has."""


class _DamagedError(Exception):
    """A page is not as the file format has it."""


class Pages:
    """The pages of the file, by number, read past SQLite's cache.

    By way of SQLite's own file system layer: to close a file that SQLite has open would drop the
    process's locks on it.
    """

    def __init__(self, connection: apsw.Connection, path: Path, logged: Set[int]) -> None:
        self._file = _opened(path)
        self._logged = logged
        self._size: int = _number(connection.pragma("page_size"))
        self.count: int = self._file.xFileSize() // self._size
        header = self._file.xRead(_FILE_HEADER_BYTES, 0)
        self._usable = self._size - header[20]
        self._map: tuple[int, bytes] = (0, b"")
        self._first_trunk: int = struct.unpack_from(">I", header, 32)[0]
        self._trunks: frozenset[int] | None = None

    def close(self) -> None:
        self._file.xClose()

    def wipe(self, start: int, end: int) -> None:
        """Set the bytes to zero; only `sync_pages` takes that to the disk."""
        self._file.xWrite(bytes(end - start), start)

    def unused(self, number: int) -> list[Stretch] | None:
        """The stretches of the file that belong to this page, mean nothing, and are not zero.

        The overflow pages of a row belong to the page it is on, and free pages to the one that
        lists them: SQLite may free a page without writing it, but not without writing that one. A
        damaged page has none: what is wrong with it is for `verify` to find. None where the log has
        a later version of one of the pages that tell.
        """
        try:
            return list(self._unused(number))
        except _LoggedError:
            return None
        except (_DamagedError, struct.error, IndexError, KeyError):
            return []

    def _unused(self, number: int) -> Iterator[Stretch]:
        kind = _BTREE[0] if number == 1 else self._kind(number)
        if kind not in (*_BTREE, _FREE):
            return
        if kind == _FREE:
            yield from self._in_free_list(number)
            return
        page = self._read(number)
        for start, end in self._in_btree(number, page):
            if not _is_zero(page[start:end]):
                yield self._placed(number, start, end)
        yield from self._behind_rows(number, page)

    def _in_free_list(self, number: int) -> Iterator[Stretch]:
        """What is behind a part of the list of free pages, and all of the pages it lists."""
        if self._trunks is None:
            self._trunks = frozenset(self._free_trunks())
        if number not in self._trunks:
            return
        trunk = self._read(number)
        (count,) = struct.unpack_from(">I", trunk, 4)
        end = 8 + 4 * count
        _check(end <= self._usable)
        if not _is_zero(trunk[end : self._usable]):
            yield self._placed(number, end, self._usable)
        for leaf in struct.unpack_from(f">{count}I", trunk, 8):
            if not _is_zero(self._read(leaf, self._usable)):
                yield self._placed(leaf, 0, self._usable)

    def _free_trunks(self) -> Iterator[int]:
        """The free pages that list the others."""
        self._refuse_logged(1)  # which says where the list begins
        number, seen = self._first_trunk, set[int]()
        while 0 < number <= self.count and number not in seen:
            yield number
            seen.add(number)
            (number,) = struct.unpack(">I", self._read(number, 4))

    def _kind(self, number: int) -> int:
        """What the pointer map says of a page; 0 for one of the map, or of SQLite's locks."""
        entries = self._usable // 5
        place = 2 + (number - 2) // (entries + 1) * (entries + 1)
        if number in (place, _LOCKS_AT // self._size + 1):
            return 0
        if self._map[0] != place:
            self._map = place, self._read(place)
        return self._map[1][5 * (number - place - 1)]

    def _in_btree(self, number: int, page: bytes) -> Iterator[Stretch]:
        """The gap before the cells, and the free blocks among them."""
        head = _head(number)
        free, cells, content = struct.unpack_from(">HHH", page, head + 1)
        start, content = head + _HEADER_BYTES[page[head]] + 2 * cells, content or 65_536
        _check(start <= content <= self._usable)
        yield Stretch(start, content)
        end = content
        while free:
            following, size = struct.unpack_from(">HH", page, free)
            _check(end <= free and size >= 4 and free + size <= self._usable)  # in their order
            yield Stretch(free + 4, free + size)
            free, end = following, free + size

    def _behind_rows(self, number: int, page: bytes) -> Iterator[Stretch]:
        """What is behind the ends of rows and entries that go on in overflow pages."""
        head = _head(number)
        kind = page[head]
        if kind == _TABLE_INTERIOR:
            return
        (cells,) = struct.unpack_from(">H", page, head + 3)
        pointers = head + _HEADER_BYTES[kind]
        short = min(0x7F, self._most_local(kind))  # what one byte can say; few overflow so soon
        for place in struct.unpack_from(f">{cells}H", page, pointers):
            at = place + 4 if kind == _INDEX_INTERIOR else place
            if page[at] <= short:
                continue
            payload, at = varint(page, at)
            if kind == _TABLE_LEAF:
                at = varint(page, at)[1]
            local = self._local(kind, payload)
            if local < payload:
                (first,) = struct.unpack_from(">I", page, at + local)
                yield from self._behind_chain(first, payload - local)

    def _local(self, kind: int, payload: int) -> int:
        """How much of a payload is on the page itself."""
        most = self._most_local(kind)
        least = (self._usable - 12) * 32 // 255 - 23
        if payload <= most:
            return payload
        local = least + (payload - least) % (self._usable - 4)
        return local if local <= most else least

    def _most_local(self, kind: int) -> int:
        """The size of the largest payload that is on its page entirely."""
        return self._usable - 35 if kind == _TABLE_LEAF else (self._usable - 12) * 64 // 255 - 23

    def _behind_chain(self, number: int, left: int) -> Iterator[Stretch]:
        """What is behind the end of the last of a chain of overflow pages."""
        while left > self._usable - 4:
            _check(0 < number <= self.count)
            (number,) = struct.unpack(">I", self._read(number, 4))
            left -= self._usable - 4
        _check(0 < number <= self.count and self._kind(number) in _OVERFLOW)
        page = self._read(number)
        if not _is_zero(page[4 + left : self._usable]):
            yield self._placed(number, 4 + left, self._usable)

    def _read(self, number: int, size: int | None = None) -> bytes:
        self._refuse_logged(number)
        _check(number > 0)
        return self._file.xRead(size or self._size, self._start(number))

    def _refuse_logged(self, number: int) -> None:
        if number in self._logged:
            raise _LoggedError

    def _start(self, number: int) -> int:
        return (number - 1) * self._size

    def _placed(self, number: int, start: int, end: int) -> Stretch:
        return Stretch(self._start(number) + start, self._start(number) + end)


def sync_pages(path: Path) -> None:
    """Take what was wiped to the disk; for a thread, as that may take long."""
    file = _opened(path)
    try:
        file.xSync(apsw.SQLITE_SYNC_NORMAL)
    finally:
        file.xClose()


def _opened(path: Path) -> apsw.VFSFile:
    flags = [apsw.SQLITE_OPEN_MAIN_DB | apsw.SQLITE_OPEN_READWRITE, 0]
    return apsw.VFSFile("", str(path.resolve()), flags)


def _check(is_sound: bool) -> None:
    if not is_sound:
        raise _DamagedError


def _is_zero(content: bytes) -> bool:
    return content == bytes(len(content))


def _head(number: int) -> int:
    """Where on a page its b-tree header is."""
    return _FILE_HEADER_BYTES if number == 1 else 0


def varint(page: bytes, at: int) -> tuple[int, int]:
    """SQLite's variable-length integer at a place, and the place after it."""
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | page[place] & 0x7F
        if page[place] < 0x80:
            return value, place + 1
    return value << 8 | page[at + 8], at + 9


def _number(value: Any) -> int:
    return int(value)
