"""The tables, and opening a database file: new, current, older, or of another program."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, Final

import apsw
import peewee
from playhouse.apsw_ext import APSWDatabase
from playhouse.sqlite_ext import FTS5Model, SearchField

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import CIRCUMSTANCES
from backscroll.contract.validation import ORIGINS
from backscroll.private_files import create_private, make_private_directory
from backscroll_worker.stores.sqlite.failures import WRITABLE, store_errors
from backscroll_worker.stores.sqlite.folding import write_folding
from backscroll_worker.stores.sqlite.fork_table import create_forks
from backscroll_worker.stores.sqlite.fts_merge import configure, resume_merging
from backscroll_worker.stores.sqlite.identity import read_identity, write_identity
from backscroll_worker.stores.sqlite.name_index import create_name_index
from backscroll_worker.stores.sqlite.session_meta import create_meta_index
from backscroll_worker.stores.sqlite.session_renames import create_renames
from backscroll_worker.stores.sqlite.session_states import create_states
from backscroll_worker.stores.sqlite.wal import BUSY_MS, CHECKPOINT_PAGES

MAGIC: Final = b"SQLite format 3\0"
"""The first bytes of any SQLite database (https://www.sqlite.org/fileformat.html)."""

APPLICATION_ID: Final = int.from_bytes(b"BkSc", "big")
VERSION: Final = 4
FULL: Final = 2
"""The value of "synchronous" with which a commit waits for the disk."""

_COMPACT_ID: Final = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,8}))?")


def pack_id(text: str) -> bytes | str:
    """An op or message id as stored: ours in 16 to 20 bytes, any other as its text."""
    if len(text) == 32 and text.isalnum() and text.islower():  # nearly all of them
        try:
            return bytes.fromhex(text)
        except ValueError:
            return text
    match = _COMPACT_ID.fullmatch(text)
    if match is None:
        return text
    index = int(match[2] or 0)
    return bytes.fromhex(match[1]) + index.to_bytes((index.bit_length() + 7) // 8, "big")


def unpack_id(stored: bytes | str) -> str:
    """The inverse of `pack_id`."""
    if isinstance(stored, str):
        return stored
    index = int.from_bytes(stored[16:], "big")
    return stored[:16].hex() + (f"-{index}" if index else "")


class SessionRow(peewee.Model):
    """One session. A row whose key is NULL is being deleted, a slice at a time."""

    id = peewee.AutoField()
    key = peewee.TextField(null=True, unique=True)
    name = peewee.TextField(null=True)
    agent = peewee.TextField(null=True)
    channel = peewee.TextField(null=True)
    room = peewee.TextField(null=True)
    sender = peewee.TextField(null=True)
    state = peewee.TextField(default="idle")
    turn_id = peewee.TextField(null=True)
    turn_started_at = peewee.BigIntegerField(null=True)
    pinned = peewee.IntegerField(default=0)
    created_at = peewee.BigIntegerField()
    last_activity = peewee.BigIntegerField(index=True)
    message_count = peewee.IntegerField(default=0)
    turn_expires_at = peewee.BigIntegerField(null=True)
    turn_lease = peewee.BigIntegerField(null=True)
    meta = peewee.TextField(null=True)
    closed = peewee.IntegerField(null=True)
    forked_from = peewee.TextField(null=True)
    forked_upto = peewee.TextField(null=True)
    continued_from = peewee.TextField(null=True)

    class Meta:
        table_name = "sessions"


class MessageRow(peewee.Model):
    """One message; a session's messages are in the order of `id`.

    The index on the session holds `id` as well, as every SQLite index ends with the row's id.
    """

    id = peewee.AutoField()
    session = peewee.ForeignKeyField(SessionRow, on_delete="RESTRICT", index=True)
    message_id = peewee.BlobField(unique=True)
    role = peewee.TextField()
    content = peewee.TextField()
    extra = peewee.TextField(null=True)
    created_at = peewee.BigIntegerField()
    author = peewee.TextField(null=True)
    author_name = peewee.TextField(null=True)
    platform_id = peewee.TextField(null=True)
    reply_to = peewee.TextField(null=True)
    tokens = peewee.BigIntegerField(null=True)
    upto = peewee.TextField(null=True)

    class Meta:
        table_name = "messages"


class EditRow(peewee.Model):
    """An earlier version of a replaced message; a message's versions are in the order of `id`."""

    id = peewee.AutoField()
    message = peewee.ForeignKeyField(MessageRow, on_delete="CASCADE", index=True)
    role = peewee.TextField()
    content = peewee.TextField()
    extra = peewee.TextField(null=True)
    replaced_at = peewee.BigIntegerField()

    class Meta:
        table_name = "edits"


class AppliedRow(peewee.Model):
    """An op id that was applied, and how many rows it affected."""

    op_id = peewee.BlobField(primary_key=True)
    applied_at = peewee.BigIntegerField()
    affected = peewee.IntegerField()

    class Meta:
        table_name = "applied"
        without_rowid = True


class GonePlatformIdRow(peewee.Model):
    """The hash of a platform id that a message of the session had; see `gone_ids`."""

    session = peewee.ForeignKeyField(SessionRow, on_delete="CASCADE", index=False)
    digest = peewee.BlobField()
    noted_at = peewee.BigIntegerField()

    class Meta:
        table_name = "gone_platform_ids"
        primary_key = peewee.CompositeKey("session", "digest")
        without_rowid = True


class WaitingChangeRow(peewee.Model):
    """An edit, or a deletion without a message, that arrived before what it is about."""

    key = peewee.TextField()
    platform_id = peewee.TextField()
    noted_at = peewee.BigIntegerField()
    message = peewee.TextField(null=True)
    author = peewee.TextField(null=True)

    class Meta:
        table_name = "waiting_changes"
        primary_key = peewee.CompositeKey("key", "platform_id")
        without_rowid = True


class ErasedRow(peewee.Model):
    """A tombstone; see `contract.tombstones`."""

    digest = peewee.BlobField(primary_key=True)
    erased_at = peewee.BigIntegerField()
    noted_at = peewee.BigIntegerField()

    class Meta:
        table_name = "erased"
        without_rowid = True


class ErasureRow(peewee.Model):
    """An erasure that has begun, and its receipt, once it has counted what to delete."""

    op_id = peewee.BlobField(primary_key=True)
    noted_at = peewee.BigIntegerField()
    receipt = peewee.BlobField(null=True)

    class Meta:
        table_name = "erasures"
        without_rowid = True


class ErasingRow(peewee.Model):
    """A session without a key that an erasure is about to delete."""

    session_id = peewee.IntegerField(primary_key=True)
    op_id = peewee.BlobField()

    class Meta:
        table_name = "erasing"


class ErasingAuthorRow(peewee.Model):
    """What an erasure moves to one of its sessions; see `maintenance.author_erasure`."""

    session_id = peewee.IntegerField(primary_key=True)
    author = peewee.TextField(null=True)
    last_row = peewee.IntegerField()
    sessions = peewee.IntegerField()

    class Meta:
        table_name = "erasing_authors"


class ClockRow(peewee.Model):
    """The history of the store's clock; one row. See `contract.clock`."""

    id = peewee.IntegerField(primary_key=True)
    history = peewee.BlobField()

    class Meta:
        table_name = "clock"


class MessageIndex(FTS5Model):  # type: ignore[misc]
    """The words of the messages, by message id; the text itself is only in `messages`."""

    text = SearchField()

    class Meta:
        table_name = "message_index"
        # `stores.search.text` has folded and cut the text before it comes here.
        options = {"content": "", "contentless_delete": 1, "tokenize": "ascii"}  # noqa: RUF012


MODELS: Final = (
    SessionRow,
    MessageRow,
    EditRow,
    AppliedRow,
    GonePlatformIdRow,
    WaitingChangeRow,
    ErasedRow,
    ErasureRow,
    ErasingRow,
    ErasingAuthorRow,
    ClockRow,
    MessageIndex,
)


# For listings. Most sessions lack most of these attributes, and then no index has to be written.
for _column in (SessionRow.agent, SessionRow.channel, SessionRow.room, SessionRow.sender):
    SessionRow.add_index(_column, where=_column.is_null(False))
MessageRow.add_index(MessageRow.author, MessageRow.session, where=MessageRow.author.is_null(False))
MessageRow.add_index(MessageRow.session, MessageRow.upto, where=MessageRow.upto.is_null(False))
MessageRow.add_index(  # most platforms' ids grow, so the index does at its end
    MessageRow.platform_id, MessageRow.session, where=MessageRow.platform_id.is_null(False)
)
SessionRow.add_index(SessionRow.state, where=peewee.SQL("state <> 'idle'"))
SessionRow.add_index(SessionRow.pinned, where=SessionRow.pinned == 1)
SessionRow.add_index(SessionRow.forked_from, where=SessionRow.forked_from.is_null(False))


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
    create_meta_index(database)
    create_states(database)
    create_renames(database)
    create_forks(database)


_ADDED: Final[dict[str, dict[str, str]]] = {
    "messages": {**dict.fromkeys(CIRCUMSTANCES, "TEXT"), "tokens": "INTEGER"},
    "sessions": {
        "turn_expires_at": "INTEGER",
        "turn_lease": "INTEGER",
        "meta": "TEXT",
        "closed": "INTEGER",
        **dict.fromkeys(ORIGINS, "TEXT"),
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
    connection.wal_autocheckpoint(CHECKPOINT_PAGES)
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
        create_meta_index(database)
        create_states(database)
        create_renames(database)
        create_forks(database)
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
