"""Errors of the file and the disk: ours for SQLite's, and what can be done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import apsw
import peewee

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError

# Errors of the disk or the file, not of one operation.
_PASSING: Final = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.FullError,
    apsw.IOError,
    apsw.LockedError,
    apsw.PermissionsError,
    apsw.ReadOnlyError,
)
_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError)

WRITABLE: Final = ". Is the path right, and may this user write there?"


@contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn errors of the file and the disk into ours; those of one statement are not changed."""
    try:
        yield
    except (apsw.Error, peewee.PeeweeException) as error:
        cause = _sqlite_error(error)
        if isinstance(cause, _PASSING):
            raise StoreUnavailableError(f"{path}: {cause}{_advice(cause)}") from error
        if isinstance(cause, _DAMAGED):
            raise StoreUnusableError(
                f"{path}: {cause}. Restore it from a backup, or set another file in "
                "BACKSCROLL_STORE."
            ) from error
        raise


def is_store_failure(error: Exception) -> bool:
    """Whether `error` is the file's or the disk's fault, not one operation's."""
    return isinstance(_sqlite_error(error), (*_PASSING, *_DAMAGED))


def is_out_of_memory(error: Exception) -> bool:
    """Whether this process cannot get the memory that an operation needs."""
    return isinstance(error, MemoryError) or isinstance(_sqlite_error(error), apsw.NoMemError)


def _sqlite_error(error: BaseException) -> BaseException | None:
    """APSW's error behind peewee's."""
    return error if isinstance(error, apsw.Error) else error.__cause__ or error.__context__


def _advice(cause: BaseException) -> str:
    if isinstance(cause, apsw.FullError):
        return ". Free some space on its disk"
    if isinstance(cause, apsw.BusyError | apsw.LockedError):
        return ". Another program has it open for writing; a store has one writer"
    if isinstance(cause, apsw.ReadOnlyError | apsw.CantOpenError | apsw.PermissionsError):
        return (
            f"{WRITABLE} Readers need write access too while no worker has the store open "
            "(SQLite creates -wal and -shm)"
        )
    return ""
