"""`SqliteBackend`: one write door, one transaction a group, everything in step when it closes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import apsw

from producer.answers import Answer, CleanupReport, CompactReport
from producer.errors import (
    BackscrollError,
    OperationRefusedError,
    StoreUnavailableError,
    StoreUnusableError,
)
from producer.operations import Operation, Read, Write
from worker.backends.base import Finding, SessionBackend, Slices
from worker.backends.sqlite import upkeep
from worker.backends.sqlite.group import Group, KnownSession
from worker.backends.sqlite.reads import read
from worker.backends.sqlite.schema import is_store_failure, open_database, store_errors

_HOUR: Final = 3_600_000_000  # microseconds
_MOST_KNOWN_SESSIONS: Final = 20_000

Answers = list[Answer | OperationRefusedError]


class SqliteBackend(SessionBackend):
    """Sessions in one SQLite file with FTS5; see `open_backend`."""

    def __init__(self, path: Path, *, read_only: bool, clock: Callable[[], int]) -> None:
        self.url = f"sqlite://{path}"
        self.path = path
        self._read_only = read_only
        self._clock = clock
        self._lock = threading.RLock()  # one connection, and one transaction on it at a time
        self._database = open_database(path, read_only=read_only)
        self._connection: apsw.Connection = self._database.connection()
        self._file = path.stat()
        self._sessions: dict[str, KnownSession] = {}
        # A clock that was set back must not make sessions look idle, or op ids old.
        latest: Any = self._connection.execute("SELECT max(last_activity) FROM sessions").get
        self._latest: int = latest or 0

    def apply(self, operations: Sequence[Operation]) -> Answers:
        try:
            return self._apply_together(operations)
        except BackscrollError:
            raise
        except Exception:
            # One of them is bad in a way nobody foresaw. Find it, and keep the others.
            return self._apply_one_by_one(operations)

    def cleanup(self, ttl_hours: float, *, dry_run: bool = False) -> Slices[CleanupReport]:
        idle_before = self._now() - int(ttl_hours * _HOUR)
        return upkeep.cleanup(self._upkeep_transaction, idle_before, ttl_hours, dry_run=dry_run)

    def compact(self, op_ids_hours: float) -> Slices[CompactReport]:
        op_ids_before = self._now() - int(op_ids_hours * _HOUR)
        slices = upkeep.compact(self._transaction, self._connection, self.size_bytes, op_ids_before)
        with store_errors(self.path):
            return (yield from slices)

    def verify(self) -> list[Finding]:
        with self._lock, store_errors(self.path):
            return upkeep.verify(self._connection)

    def size_bytes(self) -> int:
        size = 0
        for name in (self.path.name, f"{self.path.name}-wal"):
            with suppress(FileNotFoundError):
                size += self.path.with_name(name).stat().st_size
        return size

    def close(self) -> None:
        with self._lock:
            self._database.close()

    def _apply_together(self, operations: Sequence[Operation]) -> Answers:
        with self._transaction() as connection:
            sessions, self._sessions = self._sessions, {}  # until it is committed
            answers = self._carry_out(connection, operations, sessions)
        if len(sessions) < _MOST_KNOWN_SESSIONS:
            self._sessions = sessions
        return answers

    def _apply_one_by_one(self, operations: Sequence[Operation]) -> Answers:
        """Still one transaction, but a savepoint around each operation."""
        answers: Answers = []
        with self._transaction() as connection:
            for operation in operations:
                try:
                    with connection:  # APSW makes it a savepoint
                        answers += self._carry_out(connection, [operation], {})
                except Exception as error:
                    if isinstance(error, BackscrollError) or is_store_failure(error):
                        raise
                    answers.append(_refusal(error))
        return answers

    def _carry_out(
        self,
        connection: apsw.Connection,
        operations: Sequence[Operation],
        sessions: dict[str, KnownSession],
    ) -> Answers:
        now = self._now()
        group = Group(connection, now, operations, sessions)
        answers: Answers = []
        for operation in operations:
            try:
                answers.append(self._carry_out_one(group, now, operation))
            except OperationRefusedError as refusal:  # raised before anything was changed
                answers.append(refusal)
        group.flush()
        return answers

    def _carry_out_one(self, group: Group, now: int, operation: Operation) -> Answer:
        if isinstance(operation, Read):
            group.flush()
            return read(self._database, now, operation)
        if not isinstance(operation, Write):
            raise TypeError(f"{operation.kind} does not go through apply")
        if self._read_only:
            raise StoreUnusableError(f"{self.path} is open for reading only")
        return group.write(operation)

    def _now(self) -> int:
        self._latest = max(self._clock(), self._latest)
        return self._latest

    def _check_file(self) -> None:
        """SQLite goes on writing to a file that was moved away or replaced under it."""
        with suppress(FileNotFoundError):
            if os.path.samestat(self.path.stat(), self._file):
                return
        raise StoreUnavailableError(
            f"{self.path} was moved, replaced or deleted while it was open; "
            "put it back, or start again to use what is there now"
        )

    @contextmanager
    def _upkeep_transaction(self) -> Iterator[apsw.Connection]:
        """A transaction that may take sessions away."""
        with self._transaction() as connection:
            self._sessions = {}
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        """A transaction that holds the write lock from its start (a reader's holds none)."""
        connection = self._connection
        with self._lock, store_errors(self.path):
            self._check_file()
            connection.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite ends it by itself on some errors
                    connection.execute("ROLLBACK")
                raise


def _refusal(error: Exception) -> OperationRefusedError:
    if isinstance(error, apsw.ConstraintError) and "message_id" in str(error):
        return OperationRefusedError(
            "a message with this operation's id is stored already, though its op id is forgotten"
        )
    return OperationRefusedError(f"the store cannot take this operation: {error}")
