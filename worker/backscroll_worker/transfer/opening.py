"""Opens what is to be imported: files of any encoding, pipes, and nothing that never ends."""

from __future__ import annotations

import codecs
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

from backscroll.contract.errors import InvalidInputError
from backscroll_worker.stores.jsonl.decoding import ENCODING_BYTES, encoding_of

HEAD_BYTES: Final = 64 * 1024
_UNMARKED: Final = {
    b"[\0": "utf-16-le",
    b"{\0": "utf-16-le",
    b"\0[": "utf-16-be",
    b"\0{": "utf-16-be",
}
_BYTES_PER_READ: Final = 256 * 1024


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file or a pipe; a pipe into which nobody writes is empty.

    Raises `InvalidInputError` for a device, which may have no end, and `OSError`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        kind = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISFIFO(kind)):
            raise InvalidInputError("file", f"{path} is a device; give a file, or - for a pipe")
        os.set_blocking(descriptor, True)
        yield file


def as_utf8(file: BufferedReader[Any]) -> tuple[bytes, BufferedReader[Any]]:
    """How a text begins, and the whole of it, in UTF-8 and without a byte order mark."""
    head = _head(file)
    encoding = encoding_of(head[:ENCODING_BYTES]) or _UNMARKED.get(head[:2])
    if encoding is not None:
        file = BufferedReader(_Recoded(with_start(head, file), encoding), _BYTES_PER_READ)
        head = _head(file)
    head = head.removeprefix(codecs.BOM_UTF8)
    return head, with_start(head, file)


def with_start(start: bytes, file: BufferedReader[Any]) -> BufferedReader[Any]:
    """The file as it was before this was read from it."""
    return BufferedReader(_Again(start, file), _BYTES_PER_READ)


def _head(file: BufferedReader[Any]) -> bytes:
    return file.read(HEAD_BYTES)  # all of it: a pipe may give less at a time


class _Again(io.RawIOBase):
    def __init__(self, start: bytes, file: BufferedReader[Any]) -> None:
        self._left = memoryview(start)
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._left[: len(buffer)] or self._file.read1(len(buffer))
        self._left = self._left[len(taken) :]
        buffer[: len(taken)] = taken
        return len(taken)


class _Recoded(io.RawIOBase):
    """A text in another encoding as UTF-8; what is not valid there becomes U+FFFD."""

    def __init__(self, file: BufferedReader[Any], encoding: str) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            raw = self._file.read(_BYTES_PER_READ)
            said = self._decoder.decode(raw, final=not raw)
            self._left = said.encode("utf-8", "replace")
            if not raw:
                break
        taken, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)
