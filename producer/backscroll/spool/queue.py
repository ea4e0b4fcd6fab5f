"""A producer's spool: a queue on its own disk, for what could not be sent to the server.

One SQLite file, first in, first out, every entry on disk before `put` returns. It holds message
text, so only its owner may read it. Its journal is SQLite's old one, not the WAL: the library comes
with Python, and versions before 3.51 can damage a file when a WAL is begun anew.

All that is done with the file is done by one thread, which no signal's handler interrupts: a caller
that is interrupted leaves no count, lock or transaction half-way. Nobody forks in the middle of a
transaction either (`lock.py`).
"""

from __future__ import annotations

import errno
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar, cast

from backscroll.contract.errors import SpoolDiskError, SpoolFullError, SpoolUnusableError
from backscroll.private_files import create_private, make_private_directory
from backscroll.spool.lock import SpoolLock
from backscroll.transport.mailbox import Box, Inbox
from backscroll.transport.rq_protocol import Job

DEFAULT_MAX_BYTES: Final = 256 * 1024 * 1024

T = TypeVar("T")

# What the file's thread is to do, None to end, and where the outcome goes.
_Call = tuple[Callable[[], Any] | None, Box]

_SCHEMA_VERSION: Final = 1
_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS jobs (
      number INTEGER PRIMARY KEY AUTOINCREMENT, op_id TEXT NOT NULL, result_ttl INTEGER NOT NULL,
      time TEXT NOT NULL, description TEXT NOT NULL, data BLOB NOT NULL
    )
    """,
    # What the server refuses for ever; the jobs behind it do not wait for it.
    """
    CREATE TABLE IF NOT EXISTS set_aside (
      number INTEGER PRIMARY KEY, op_id TEXT NOT NULL, result_ttl INTEGER NOT NULL,
      time TEXT NOT NULL, description TEXT NOT NULL, data BLOB NOT NULL, reason TEXT NOT NULL
    )
    """,
)
# As bytes, whatever a row has become: the server refuses an invalid one, which must not block those
# behind it.
_HEAD: Final = """
    SELECT number, CAST(op_id AS BLOB), result_ttl, CAST(time AS BLOB), CAST(description AS BLOB),
      CAST(data AS BLOB)
    FROM jobs WHERE number > ? ORDER BY number LIMIT ?
"""
_FOREIGN_TABLES: Final = """
    SELECT count(*) FROM sqlite_master WHERE name NOT IN ('jobs', 'set_aside', 'sqlite_sequence')
"""
_CHANGE: Final = (
    (
        "SELECT * FROM jobs ORDER BY number",
        "DELETE FROM jobs WHERE number = ?",
        "UPDATE jobs SET data = ? WHERE number = ?",
    ),
    (
        "SELECT * FROM set_aside ORDER BY number",
        "DELETE FROM set_aside WHERE number = ?",
        "UPDATE set_aside SET data = ? WHERE number = ?",
    ),
)
_DISK_ERRORS: Final = {
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_LOCKED,
}  # fmt: skip
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_REMEDY: Final = (
    ". Move it away and a new one is created; `sqlite3 FILE .recover` shows what can be read"
)
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


class Entry(NamedTuple):
    """A job in the spool, and its number there."""

    number: int
    job: Job


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """What waits in a spool, in operations and bytes of their data.

    `set_aside` operations are there too but do not wait: the server refuses them for ever.
    """

    path: str
    operations: int
    data_bytes: int
    set_aside: int = 0


class Spool:
    """The jobs in the file at `path`, which only one producer at a time may use.

    `count` is how many wait, `sent` the number of the last one that the server has.
    Raises `SpoolUnusableError` when the file cannot be used, or is in use; `SpoolDiskError`, which
    may pass, when its disk is full or fails.
    """

    def __init__(self, path: Path, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self.path = path.absolute()
        self.count = 0
        self.sent = 0
        self._bytes = 0
        self._max_bytes = max_bytes
        with self._errors():
            make_private_directory(self.path.parent)
            self._lock = SpoolLock(self.path)
        self._calls: Inbox[_Call] = Inbox(partial(_refuse, self.path))
        weakref.finalize(self, self._calls.put, (None, Box())).atexit = False
        try:
            with self._errors():
                self._database = _open(self.path)
                self._lock.check()
                self._measure()
        except BaseException:
            self._lock.release()
            raise
        threading.Thread(
            target=_serve,
            args=(self._calls, self._database, self._lock),
            name="backscroll-spool",
            daemon=True,
        ).start()

    def put(self, jobs: Sequence[Job]) -> int:
        """Add `jobs` at the end, all or none, on disk when this returns; the last one's number."""
        return self._call(lambda: self._put(jobs))

    def head(self, max_jobs: int, max_bytes: int) -> list[Entry]:
        """The first jobs that the server does not have, in order.

        At most `max_jobs` of them, and no more after `max_bytes` of data.
        """
        return self._call(lambda: self._head(max_jobs, max_bytes))

    def drop(self, entries: Sequence[Entry]) -> None:
        """Delete the first jobs: the server has them.

        From then on they do not count, even if the disk fails and they are still in the file;
        without `entries`, delete those.
        """
        self._call(lambda: self._drop(entries))

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Take a job that the server refuses for ever out of the order; it stays in the file."""
        self._call(lambda: self._set_aside(entry, reason))

    def change(self, rest_of: Callable[[Job], bytes | None]) -> int:
        """Give each job the data that `rest_of` returns; None deletes it, without a trace.

        Returns how many jobs were changed or deleted.
        """
        return self._call(lambda: self._change(rest_of))

    def close(self) -> None:
        """Leave the file and what is in it to the next producer."""
        if not self.is_inherited:
            box = Box()
            self._calls.put((None, box))
            box.wait()

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a child of the one that opened the spool."""
        return self._lock.is_inherited

    def refuse_after_fork(self) -> None:
        """Raise `SpoolUnusableError` in a child of the process that opened the spool."""
        if self.is_inherited:
            raise SpoolUnusableError(
                f"{self.path} belongs to process {self._lock.pid}, from which this one was forked; "
                "create the producer after the fork, each process with a spool of its own"
            )

    def _call(self, work: Callable[[], T]) -> T:
        """What `work` returns or raises, done by the thread that has the file."""
        self.refuse_after_fork()
        box = Box()
        self._calls.put((partial(self._carry_out, work), box))
        return box.wait()  # type: ignore[no-any-return]

    def _carry_out(self, work: Callable[[], Any]) -> Any:
        try:
            with self._errors():
                return work()
        except BaseException:
            self._recover()
            raise

    def _recover(self) -> None:
        """Count again: it is unknown how far the work has got."""
        try:
            if self._database.in_transaction:
                self._database.rollback()
            self._measure()
        except sqlite3.Error:
            self.count = max(self.count, 1)  # nothing may overtake what may be in it

    def _put(self, jobs: Sequence[Job]) -> int:
        size = sum(len(job[-1]) for job in jobs)
        if self._bytes + size > self._max_bytes:
            raise SpoolFullError(str(self.path), self._max_bytes)
        self._lock.check()
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
        self._lock.check()  # what was written to another file will not be found again
        return last or 0

    def _head(self, max_jobs: int, max_bytes: int) -> list[Entry]:
        entries: list[Entry] = []
        size = 0
        with closing(self._database.cursor()) as cursor:
            for number, op_id, ttl, at, description, data in cursor.execute(
                _HEAD, (self.sent, max_jobs)
            ):
                texts = [text.decode(errors="replace") for text in (op_id, at, description)]
                entries.append(Entry(number, (texts[0], ttl, texts[1], texts[2], data)))
                size += len(data)
                if size >= max_bytes:
                    break
        if not entries:  # whatever was counted, another program deleted it
            self._measure()
        return entries

    def _drop(self, entries: Sequence[Entry]) -> None:
        if entries:
            self.sent = entries[-1].number
        with self._database:
            self._database.execute("DELETE FROM jobs WHERE number <= ?", (self.sent,))
        self.count -= len(entries)
        self._bytes -= sum(len(entry.job[-1]) for entry in entries)

    def _measure(self) -> None:
        self.count, self._bytes = _measure(self._database, self.sent)

    def _set_aside(self, entry: Entry, reason: str) -> None:
        with self._database:
            self._database.execute(
                "INSERT INTO set_aside SELECT *, ? FROM jobs WHERE number = ?",
                (reason, entry.number),
            )
            self._database.execute("DELETE FROM jobs WHERE number = ?", (entry.number,))
        self._measure()

    def _change(self, rest_of: Callable[[Job], bytes | None]) -> int:
        count = 0
        with self._database:
            for rows, delete, update in _CHANGE:
                found = [(row[0], cast(Job, row[1:6])) for row in self._database.execute(rows)]
                rests = [(number, job, rest_of(job)) for number, job in found]
                gone = [(number,) for number, _, rest in rests if rest is None]
                left = [
                    (rest, number) for number, job, rest in rests if rest not in (None, job[-1])
                ]
                self._database.executemany(delete, gone)
                self._database.executemany(update, left)
                count += len(gone) + len(left)
        self._measure()
        return count

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
            kind = SpoolDiskError if code in _DISK_ERRORS else SpoolUnusableError
            remedy = _REMEDY if code in _DAMAGE else ""
            raise kind(f"{self.path}: {error}{remedy}") from error
        except OSError as error:
            kind = SpoolDiskError if error.errno in _FULL else SpoolUnusableError
            raise kind(f"{self.path}: {error.strerror}") from error


def _serve(calls: Inbox[_Call], database: sqlite3.Connection, lock: SpoolLock) -> None:
    """Do what is asked for until the spool is closed; one that was never closed may be collected.

    Each outcome goes into its box.
    """
    work, box = calls.get()
    while work is not None:
        try:
            with lock.no_fork():
                outcome = work()
        except BaseException as error:
            outcome = error
        box.put(outcome)
        del work, box, outcome
        work, box = calls.get()
    database.close()
    lock.release()
    box.put(None)
    calls.end()


def _refuse(path: Path, call: _Call) -> None:
    work, box = call
    box.put(None if work is None else SpoolUnusableError(f"{path}: the spool was closed"))


def read_spool(path: Path) -> SpoolStats:
    """What the spool at `path` holds, whoever is using it; nothing is changed."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return SpoolStats(str(path), *_measure(database), _count_set_aside(database))
    except sqlite3.Error as error:
        raise SpoolUnusableError(f"{path}: {error}") from error


def _open(path: Path) -> sqlite3.Connection:
    create_private(path)
    database = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > _SCHEMA_VERSION:
            raise SpoolUnusableError(f"{path} was written by a newer Backscroll; install that")
        if database.execute(_FOREIGN_TABLES).fetchone()[0]:
            raise SpoolUnusableError(
                f"{path} is the database of another program; the spool needs a file of its own"
            )
        database.execute("PRAGMA journal_mode = TRUNCATE")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")  # what was sent leaves no text behind
        for table in _TABLES:
            database.execute(table)
        database.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    except BaseException:
        database.close()
        raise
    return database


def _measure(database: sqlite3.Connection, after: int = 0) -> tuple[int, int]:
    sql = "SELECT count(*), ifnull(sum(length(data)), 0) FROM jobs WHERE number > ?"
    count, size = database.execute(sql, (after,)).fetchone()
    return int(count), int(size)


def _count_set_aside(database: sqlite3.Connection) -> int:
    sql = "SELECT count(*) FROM sqlite_master WHERE name = 'set_aside'"
    if not database.execute(sql).fetchone()[0]:  # a spool of an earlier version
        return 0
    return int(database.execute("SELECT count(*) FROM set_aside").fetchone()[0])
