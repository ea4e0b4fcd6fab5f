"""Opening a database file: new, current, older, or of another program."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Final

import apsw
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import CIRCUMSTANCES
from backscroll.contract.validation import ORIGINS
from backscroll.private_files import create_private, make_private_directory
from backscroll_worker.stores.sqlite.attachments import create_blob_uses
from backscroll_worker.stores.sqlite.failures import WRITABLE, store_errors
from backscroll_worker.stores.sqlite.folding import write_folding
from backscroll_worker.stores.sqlite.fork_table import create_forks
from backscroll_worker.stores.sqlite.fts_merge import configure, resume_merging
from backscroll_worker.stores.sqlite.identity import read_identity, write_identity
from backscroll_worker.stores.sqlite.name_index import create_name_index
from backscroll_worker.stores.sqlite.popped import create_popped
from backscroll_worker.stores.sqlite.session_meta import create_meta_index
from backscroll_worker.stores.sqlite.session_renames import create_renames
from backscroll_worker.stores.sqlite.session_states import create_states
from backscroll_worker.stores.sqlite.tables import MODELS, ClockRow
from backscroll_worker.stores.sqlite.wal import BUSY_MS

MAGIC: Final = b"SQLite format 3\0"
"""The first bytes of any SQLite database (https://www.sqlite.org/fileformat.html)."""

APPLICATION_ID: Final = int.from_bytes(b"BkSc", "big")
VERSION: Final = 6
FULL: Final = 2
"""The value of "synchronous" with which a commit waits for the disk."""


def _to_version_2(database: APSWDatabase) -> None:
    for column in ("agent", "channel", "room", "sender", "state"):  # they held every session
        database.execute_sql(f"DROP INDEX IF EXISTS sessionrow_{column}")
    _add_columns(database)  # indexes of today's models need them
    with database.bind_ctx(MODELS):
        database.create_tables(MODELS)  # those that are missing, and missing indexes
    create_name_index(database)
    configure(database.connection(), "message_index")


def _to_version_3(database: APSWDatabase) -> None:
    with database.bind_ctx([ClockRow]):
        database.create_tables([ClockRow])


def _to_version_4(database: APSWDatabase) -> None:
    _add_columns(database)
    with database.bind_ctx(MODELS):
        database.create_tables(MODELS)
    _create_others(database)


def _to_version_6(database: APSWDatabase) -> None:
    _add_columns(database)
    with database.bind_ctx(MODELS):
        database.create_tables(MODELS)


def _create_others(database: APSWDatabase) -> None:
    """The tables that have no model."""
    create_meta_index(database)
    create_states(database)
    create_renames(database)
    create_forks(database)
    create_blob_uses(database)
    create_popped(database)


_ADDED: Final[dict[str, dict[str, str]]] = {
    "messages": {
        **dict.fromkeys(CIRCUMSTANCES, "TEXT"),
        "tokens": "INTEGER",
        "attachments": "TEXT",
    },
    "sessions": {
        "turn_expires_at": "INTEGER",
        "turn_lease": "INTEGER",
        "meta": "TEXT",
        "closed": "INTEGER",
        **dict.fromkeys(ORIGINS, "TEXT"),
        "ttl_hours": "REAL",
    },
}


def _add_columns(database: APSWDatabase) -> None:
    """No message is rewritten: a column that may be null is added to the schema alone."""
    for table, columns in _ADDED.items():
        known = {column.name for column in database.get_columns(table)}
        for name, kind in columns.items():
            if name not in known:
                database.execute_sql(f'ALTER TABLE {table} ADD COLUMN "{name}" {kind}')


# From version N to N+1. A new database is created at VERSION, so these only see older files.
MIGRATIONS: Final[dict[int, Callable[[APSWDatabase], None]]] = {
    1: _to_version_2,
    2: _to_version_3,
    3: _to_version_4,
    4: create_popped,
    5: _to_version_6,
}


def open_database(path: Path, *, read_only: bool) -> APSWDatabase:
    """Open the store's database, and create or migrate it.

    Raises `StoreUnavailableError`, or `StoreUnusableError` for a file that is not a store.
    """
    flags = apsw.SQLITE_OPEN_READONLY
    if not read_only:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        try:
            make_private_directory(path.parent)
            create_private(path)  # SQLite gives its other files the same permissions
        except OSError as error:
            raise StoreUnavailableError(f"{error.filename}: {error.strerror}{WRITABLE}") from None
    with store_errors(path):
        database = APSWDatabase(str(path), timeout=BUSY_MS // 1_000, thread_safe=False, flags=flags)
        database.connect()
        try:
            _prepare(database, path, read_only)
        except BaseException:
            database.close()
            raise
    return database


def _prepare(database: APSWDatabase, path: Path, read_only: bool) -> None:
    connection: apsw.Connection = database.connection()
    version = _check_identity(connection, path)
    connection.pragma("foreign_keys", True)
    # Else SQLite compiles a statement anew, which takes longer than to find a row, whenever it is
    # given other values for what it compares with an index (https://www.sqlite.org/qpsg.html).
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    # In KiB. 500 messages to as many sessions change some 1,000 pages of a large store. Pages of a
    # larger group that do not fit are written twice; a larger cache would occupy memory
    # permanently.
    connection.pragma("cache_size", -4_000 if read_only else -5_000)
    if read_only:
        connection.pragma("query_only", True)
        if version < VERSION:
            raise StoreUnusableError(
                f"{path} has version {version} of the schema, this Backscroll needs {VERSION}; "
                "a worker that opens it for writing migrates it"
            )
        return
    if version == 0:
        connection.pragma("auto_vacuum", 2)  # incremental; it must come before the journal mode
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", FULL)  # commits survive a power cut
    connection.pragma("journal_size_limit", 64 * 1024 * 1024)
    while version < VERSION:
        with database.atomic("IMMEDIATE"):
            version = _step(database, version)
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", version)
    if read_identity(connection) is None:
        with database.atomic("IMMEDIATE"):
            write_identity(connection)
    resume_merging(connection)


def _step(database: APSWDatabase, version: int) -> int:
    if version == 0:
        for statement in _creation():
            database.execute_sql(statement)
        create_name_index(database)
        _create_others(database)
        configure(database.connection(), "message_index")
        write_folding(database.connection())
        return VERSION
    MIGRATIONS[version](database)
    return version + 1


@cache
def _creation() -> tuple[str, ...]:
    """The statements that create `MODELS`: peewee writes them once, which takes 4 ms."""
    with closing(APSWDatabase(":memory:")) as database:
        database.connect()
        with database.bind_ctx(MODELS):
            database.create_tables(MODELS)
        rows = database.execute_sql(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND tbl_name NOT IN"
            " (SELECT name FROM pragma_table_list WHERE type = 'shadow')"  # FTS5 creates its own
        )
        return tuple(sql for (sql,) in rows)


def _check_identity(connection: apsw.Connection, path: Path) -> int:
    """The schema version of a store, 0 for an empty file; raises for anything else."""
    application: Any = connection.pragma("application_id")
    version: Any = connection.pragma("user_version")
    if application == 0 and not any(connection.execute("SELECT 1 FROM sqlite_schema")):
        return 0
    if application != APPLICATION_ID:
        raise StoreUnusableError(f"{path} is a SQLite database, but not a Backscroll store")
    if version > VERSION:
        raise StoreUnusableError(
            f"{path} has version {version} of the schema and this Backscroll supports {VERSION}; "
            "it was written by a newer version, install that"
        )
    return int(version)
