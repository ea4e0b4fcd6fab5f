"""Writes an export to standard output, or to a file, whole or not at all."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable
from pathlib import Path

from backscroll.contract.errors import BackscrollError
from backscroll.private_files import replacing


class NotWrittenError(BackscrollError):
    """The file cannot be written (disk full, no such directory …); it is as it was before."""


def write_out(chunks: Iterable[bytes]) -> None:
    """Write to standard output as the chunks come."""
    out = sys.stdout.buffer
    for chunk in chunks:
        out.write(chunk)
    out.flush()


def write_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write `path` beside it first, durably, and put it in place when it is whole.

    A file that is there already stays as it is until then. Raises `NotWrittenError`.
    """
    place = path.resolve()  # of a link, what it leads to
    if place.exists() and not place.is_file():
        raise NotWrittenError(f"{path} is not a file")
    temporary = place.with_name(f".{place.name[:100]}.{secrets.token_hex(4)}")
    try:
        with (
            replacing(place, temporary) as descriptor,
            os.fdopen(descriptor, "wb", buffering=1 << 20, closefd=False) as file,
        ):
            file.writelines(chunks)
    except OSError as error:
        raise NotWrittenError(f"{path}: {error.strerror or error}") from None
