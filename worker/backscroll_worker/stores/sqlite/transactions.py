"""`TransactionalStore`: the open files of an SQLite store, and the transactions on them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Unpack

import apsw

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll_worker.stores.filesystem import check_file
from backscroll_worker.stores.local import LocalStore, Options
from backscroll_worker.stores.sqlite.committer import Committer
from backscroll_worker.stores.sqlite.failures import store_errors
from backscroll_worker.stores.sqlite.files import LogIsGoneError, StoreFiles
from backscroll_worker.stores.sqlite.schema import FULL, open_database
from backscroll_worker.stores.sqlite.search import register_score
from backscroll_worker.stores.sqlite.wal import OnCommit, WriteAheadLog

logger = logging.getLogger("backscroll.store")

_NORMAL: Final = 1  # of "synchronous": a commit does not wait for the disk


class TransactionalStore(LocalStore):
    """A store in one SQLite file; what is done in its transactions is for `SqliteBackend`."""

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        super().__init__(url, **options)
        self._given_path = self.path

    def _check_path(self) -> None:
        check_file(self._given_path)

    def _lock_path(self, place: Path) -> Path:
        return place.with_name(f"{place.name}.lock")

    def _open(self) -> None:
        self.path = self._given_path.resolve()  # SQLite's log lies there, too
        self._open_files()
        self._committer = Committer()

    def _open_files(self) -> None:
        """Open the files, also after others took their place."""
        self._database = open_database(self.path, read_only=self._read_only)
        self._connection: apsw.Connection = self._database.connection()
        register_score(self._connection)
        self._log = WriteAheadLog(self.path, self._connection)
        self._files = StoreFiles(self._given_path, self._claim, self._connection)  # it opened all
        self._files.check()

    def _check_files(self) -> None:
        """See that all that a commit relies on is where others look for it.

        SQLite goes on writing to files that were moved or removed under it. What a log that is gone
        has is put into the database, and another one begun.
        """
        try:
            self._files.check()
        except LogIsGoneError as error:
            logger.warning("%s; putting what it had into the database", error)
            self._log.empty()
            self._log.close()
            self._database.close()
            self._open_files()
        except StoreUnavailableError:
            if not self._read_only:
                with suppress(apsw.Error):  # what was committed goes with the database
                    self._log.empty()
            raise

    @contextmanager
    def _repeatable(self) -> Iterator[apsw.Connection]:
        """See `Access`. The next commit of a group takes it to the disk, as it is before it in the
        log; until then it costs those who wait for that commit no sync of its own.
        """
        with self._outside():
            self._connection.pragma("synchronous", _NORMAL)
            try:
                with self._transaction() as connection:
                    yield connection
            finally:  # of the present connection: the transaction may have opened the files anew
                self._connection.pragma("synchronous", FULL)

    @contextmanager
    def _unbounded_log(self) -> Iterator[None]:
        """See `Access`; of the present log, also after the files were opened anew."""
        with self._log.unbounded():
            yield

    @contextmanager
    def _watched_log(self, on_commit: OnCommit) -> Iterator[None]:
        """See `Access`; of the present log, and no longer after the files were opened anew."""
        with self._log.watched(on_commit):
            yield

    @contextmanager
    def _outside(self) -> Iterator[apsw.Connection]:
        """The connection outside of any transaction, with others kept from it."""
        with self._lock, store_errors(self.path):
            yield self._connection

    @contextmanager
    def _transaction(self, *, commits: bool = True) -> Iterator[apsw.Connection]:
        """One with the write lock from its start; unless it `commits`, the caller does."""
        with self._lock, store_errors(self.path):
            self._check_files()
            connection = self._connection
            connection.execute("BEGIN" if self._read_only else "BEGIN IMMEDIATE")
            try:
                yield connection
                if commits:
                    connection.execute("COMMIT")
            except BaseException:
                self._committer.wait()
                if connection.in_transaction:  # SQLite ends it by itself on some errors
                    connection.execute("ROLLBACK")
                raise
            if not self._read_only:
                self._check_files()  # or what was committed just now may be where nobody finds it
                self._log.bound()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """A transaction that only reads: it waits for nobody's, and leaves the log as it is."""
        with self._lock, store_errors(self.path):
            self._check_files()
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:  # SQLite ends it by itself on some errors
                    self._connection.execute("ROLLBACK")

    def _save_log(self) -> None:
        """Do not leave what was committed in a log that was removed."""
        with suppress(StoreUnavailableError, StoreUnusableError), self._outside():
            self._check_files()
