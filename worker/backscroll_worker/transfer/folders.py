"""The files of an export that is a folder or a ZIP file, read where they are: nothing is unpacked.

A name never leads out of the folder. What nothing can be read from is left out and named by
`passed_over`: in a folder, a link that leads out of it; in a ZIP file, a name that is there twice,
and a link.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, Final, Protocol

from backscroll.contract.errors import InvalidInputError
from backscroll_worker.transfer.opening import opened

ZIP_MAGICS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_BYTES_PER_READ: Final = 256 * 1024
_MAX_RATIO: Final = 250  # text is hardly ever packed to a fiftieth
_UNSUSPICIOUS_BYTES: Final = 16 * 1024 * 1024
_DAMAGE: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError,
)  # fmt: skip
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may need any memory
_IS_ENCRYPTED: Final = 0x1


class Folder(Protocol):
    """The files in a folder and those below it."""

    name: str
    passed_over: dict[str, str]
    """Names of files that are not read, with why."""

    def files(self, *within: str) -> list[str]:
        """The names of the files directly in it, or in this folder of it, in order."""

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder directly in it."""

    @contextmanager
    def opened(self, *place: str) -> Iterator[BufferedReader]:
        """A file for reading; reading raises `InvalidInputError` where that is not possible."""


class DiskFolder:
    """A folder on disk."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.passed_over: dict[str, str] = {}
        self._path = path
        self._real = path.resolve()

    def files(self, *within: str) -> list[str]:
        place = self._path.joinpath(*within)
        return sorted(each.name for each in place.iterdir() if self._may_be_read(each))

    def has_folder(self, name: str) -> bool:
        return _is_one_name(name) and self._is_inside(self._path / name, Path.is_dir)

    @contextmanager
    def opened(self, *place: str) -> Iterator[BufferedReader]:
        path = self._path.joinpath(*place)
        try:
            with opened(path) as file:
                yield file
        except OSError as error:
            raise InvalidInputError("file", f"{path}: {error.strerror or error}") from None

    def _may_be_read(self, path: Path) -> bool:
        if not path.is_symlink():
            return path.is_file()
        if self._is_inside(path, Path.is_file):
            return True
        self.passed_over[str(path.relative_to(self._path))] = "is a link to no file of the folder"
        return False

    def _is_inside(self, path: Path, is_kind: Any) -> bool:
        with suppress(OSError, RuntimeError):  # a loop
            return is_kind(path) and path.resolve().is_relative_to(self._real)
        return False


class ZipFolder:
    """The folder in a ZIP file; where all is in one folder there, that one."""

    def __init__(self, name: str, file: BufferedReader[Any]) -> None:
        """Raises `InvalidInputError` if the file is damaged."""
        self.name = name
        self.passed_over: dict[str, str] = {}
        try:
            self._zip = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise InvalidInputError("file", f"{name}: {error}") from None
        size = sum(member.file_size for member in self._zip.infolist())
        self._check(name, size, os.fstat(file.fileno()).st_size)
        self._files = self._by_folder()
        self._top: tuple[str, ...] = ()
        while self._top not in self._files and len(own := self._folders_in(self._top)) == 1:
            self._top = (*self._top, own.pop())

    def files(self, *within: str) -> list[str]:
        return sorted(self._files.get((*self._top, *within), {}))

    def has_folder(self, name: str) -> bool:
        return (*self._top, name) in self._files

    @contextmanager
    def opened(self, *place: str) -> Iterator[BufferedReader]:
        *within, own = place
        member = self._files[(*self._top, *within)][own]
        where = f"{self.name}/{'/'.join(place)}"
        if member.flag_bits & _IS_ENCRYPTED:
            raise InvalidInputError("file", f"{where} cannot be read: it has a password")
        if member.compress_type not in _METHODS:
            raise InvalidInputError(
                "file",
                f"{where} is compressed by method {member.compress_type}, and only "
                "0 and 8 are read; unpack it and import the folder",
            )
        self._check(where, member.file_size, member.compress_size)
        try:
            raw = self._zip.open(member)
        except _DAMAGE as error:
            raise InvalidInputError("file", f"{where} cannot be read: {error}") from None
        with raw:
            yield BufferedReader(_Member(raw, where), _BYTES_PER_READ)

    def _folders_in(self, place: tuple[str, ...]) -> set[str]:
        depth = len(place)
        below = {each[depth] for each in self._files if each[:depth] == place and each[depth:]}
        return below - {"__MACOSX"}

    @staticmethod
    def _check(where: str, size: int, packed_size: int) -> None:
        ratio = size // max(1, packed_size)
        if ratio > _MAX_RATIO and size > _UNSUSPICIOUS_BYTES:
            raise InvalidInputError(
                "file",
                f"{where} becomes {ratio:,} times as large when it is unpacked, {size:,} bytes; "
                "if you trust it, unpack it and import the folder",
            )

    def _by_folder(self) -> dict[tuple[str, ...], dict[str, zipfile.ZipInfo]]:
        found = dict[tuple[str, ...], dict[str, zipfile.ZipInfo]]()
        for member in self._zip.infolist():
            *within, own = PurePosixPath(member.filename).parts or ("",)
            if ".." in (*within, own) or member.filename.startswith("/"):
                self.passed_over[member.filename] = "has a name that leads out of the folder"
            elif member.is_dir():
                found.setdefault((*within, own), {})
            elif stat.S_ISLNK(member.external_attr >> 16):
                self.passed_over[member.filename] = "is a link"
            elif own in (others := found.setdefault(tuple(within), {})):
                self.passed_over[member.filename] = "is there twice"
            else:
                others[own] = member
        for name, why in self.passed_over.items():
            if why == "is there twice":
                *within, own = PurePosixPath(name).parts
                found[tuple(within)].pop(own, None)
        return found


class _Member(io.RawIOBase):
    """A file in a ZIP file, whose damage is an `InvalidInputError`."""

    def __init__(self, file: Any, where: str) -> None:
        self._file = file
        self._where = where

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            taken = self._file.read1(len(buffer))
        except _DAMAGE as error:
            raise InvalidInputError("file", f"{self._where} cannot be read: {error}") from None
        buffer[: len(taken)] = taken
        return len(taken)


def read_whole(folder: Folder, *place: str, max_bytes: int) -> bytes:
    """All of a file; raises `InvalidInputError` where it is larger or cannot be read."""
    with folder.opened(*place) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        where = f"{folder.name}/{'/'.join(place)}"
        raise InvalidInputError("file", f"{where} has more than {max_bytes:,} bytes")
    return content


def _is_one_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name
