"""Writes an export to standard output, or to a file, whole or not at all."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from backscroll.contract.errors import BackscrollError
from backscroll.private_files import FILE


class NotWrittenError(BackscrollError):
    """The file cannot be written (disk full, no such directory …); it is as it was before."""


def write_out(pieces: Iterable[bytes]) -> None:
    """Write to standard output as the pieces come."""
    out = sys.stdout.buffer
    for piece in pieces:
        out.write(piece)
    out.flush()


def write_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Write `path` beside it first, durably, and put it in place when it is whole.

    A file that is there already stays as it is until then. Raises `NotWrittenError`.
    """
    place = path.resolve()  # of a link, what it leads to
    if place.exists() and not place.is_file():
        raise NotWrittenError(f"{path} is not a file")
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name[:100]}.", dir=place.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        os.fchmod(descriptor, FILE)  # whatever the umask
        with os.fdopen(descriptor, "wb", buffering=1 << 20) as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(place)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        Path(name).unlink(missing_ok=True)
    directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unwritable(path: Path, error: OSError) -> NotWrittenError:
    return NotWrittenError(f"{path}: {error.strerror or error}")
