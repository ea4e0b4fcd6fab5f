"""What tests of our own stores ask of files: the pieces of an index, and who may write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw


def index_pieces(path: Path) -> int:
    """How many pieces the search index of an SQLite store is in."""
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    return len(connection.execute("SELECT DISTINCT segid FROM message_index_idx").fetchall())


@contextmanager
def read_only_directory() -> Iterator[Path]:
    """A directory that everyone may read and nobody write to."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o555)
        yield directory
        directory.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Not being root for a while: root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
