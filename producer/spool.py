"""A producer's spool: a queue on its own disk, for what the server could not be told.

One SQLite file, first in, first out, every entry on disk before `put` returns. It holds message
text, so only its owner may read it. Its journal is SQLite's old one, not the WAL: the library comes
with Python, and versions before 3.51 can damage a file when a WAL is begun anew.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, cast

from producer.enqueue import Job
from producer.errors import SpoolFullError, SpoolUnusableError
from producer.private import create_private, make_private_directory, open_private

DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024

_SCHEMA_VERSION: Final = 1
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, op_id TEXT NOT NULL, result_ttl INTEGER NOT NULL,
  time TEXT NOT NULL, description TEXT NOT NULL, data BLOB NOT NULL
)
"""


class Entry(NamedTuple):
    """A job in the spool, and its number there."""

    number: int
    job: Job


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """How much waits in a spool, in operations and bytes of their data."""

    path: str
    operations: int
    data_bytes: int


class Spool:
    """The jobs in the file at `path`, which only one producer at a time may use.

    Raises `SpoolUnusableError` when the file cannot be used, or is in use.
    """

    def __init__(self, path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._pid = os.getpid()
        with self._errors():
            make_private_directory(path.parent)
            self._descriptor = _lock(path)
        try:
            with self._errors():
                self._database = _open(path)
                self.count, self._bytes = _measure(self._database)
        except BaseException:
            os.close(self._descriptor)
            raise

    def put(self, jobs: Sequence[Job]) -> int:
        """Add `jobs` at the end, all or none, on disk when this returns; the last one's number."""
        size = sum(len(job[-1]) for job in jobs)
        with self._mutex, self._errors():
            self._refuse_after_fork()
            if self._bytes + size > self._max_bytes:
                raise SpoolFullError(str(self.path), self._max_bytes)
            last: int | None = None
            with self._database:
                for job in jobs:
                    last = self._database.execute(
                        "INSERT INTO jobs(op_id, result_ttl, time, description, data)"
                        " VALUES (?, ?, ?, ?, ?)",
                        job,
                    ).lastrowid
            self.count += len(jobs)
            self._bytes += size
            return last or 0

    def head(self, most: int, most_bytes: int) -> list[Entry]:
        """The first jobs, at most so many, and no more after so many bytes of data."""
        entries: list[Entry] = []
        size = 0
        with self._mutex, self._errors(), closing(self._database.cursor()) as cursor:
            for number, op_id, ttl, at, description, data in cursor.execute(
                "SELECT * FROM jobs ORDER BY number LIMIT ?", (most,)
            ):
                entries.append(Entry(number, (op_id, ttl, at, description, data)))
                size += len(data)
                if size >= most_bytes:
                    break
        return entries

    def drop(self, entries: Sequence[Entry]) -> None:
        """Take out the first jobs: the server has them."""
        with self._mutex, self._errors():
            with self._database:
                self._database.execute("DELETE FROM jobs WHERE number <= ?", (entries[-1].number,))
            self.count -= len(entries)
            self._bytes -= sum(len(job[-1]) for _, job in entries)

    def remove(self, is_meant: Callable[[Job], bool]) -> int:
        """Take out the jobs that are meant, wherever they stand; how many.

        The file then has no trace of them.
        """
        with self._mutex, self._errors():
            self._refuse_after_fork()
            rows = self._database.execute("SELECT * FROM jobs ORDER BY number")
            gone = [(number,) for number, *job in rows if is_meant(cast(Job, tuple(job)))]
            with self._database:
                self._database.executemany("DELETE FROM jobs WHERE number = ?", gone)
            self.count, self._bytes = _measure(self._database)
        return len(gone)

    def close(self) -> None:
        """Leave the file to the next producer; what is in it stays."""
        with self._mutex:
            self._database.close()
            os.close(self._descriptor)

    def _refuse_after_fork(self) -> None:
        if self._pid != os.getpid():
            raise SpoolUnusableError(
                f"{self.path} belongs to process {self._pid}, from which this one was forked; "
                "make the producer after the fork, each process with a spool of its own"
            )

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise SpoolUnusableError(f"{self.path}: {error}") from error
        except OSError as error:
            raise SpoolUnusableError(f"{self.path}: {error.strerror}") from error


def read_spool(path: Path) -> SpoolStats:
    """What the spool at `path` holds, whoever is using it; nothing is changed."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return SpoolStats(str(path), *_measure(database))
    except sqlite3.Error as error:
        raise SpoolUnusableError(f"{path}: {error}") from error


def _lock(path: Path) -> int:
    """Take the lock beside the file, which the kernel drops when its holder dies."""
    descriptor = open_private(f"{path}.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise SpoolUnusableError(
            f"{path} is in use by process {holder}; each producer needs a spool of its own"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _open(path: Path) -> sqlite3.Connection:
    create_private(path)
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = TRUNCATE")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")  # what was sent leaves no text behind
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise SpoolUnusableError(f"{path} was written by a newer Backscroll; install that")
        database.execute(_TABLE)
        database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _measure(database: sqlite3.Connection) -> tuple[int, int]:
    sql = "SELECT count(*), ifnull(sum(length(data)), 0) FROM jobs"
    count, size = database.execute(sql).fetchone()
    return int(count), int(size)
