"""What is attached to messages: JSON in each one's row, and which message uses which blob.

Who inserts messages notes their uses; a trigger would take a fifth of the time of each insertion.
Triggers keep the table of uses in step with all else that changes the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import apsw
import orjson
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.attachment_reading import GetAttachment
from backscroll.contract.attachments import Attachment, attachments_of
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.stores.blobs import Blobs, BlobTotals, Used
from backscroll_worker.stores.sqlite.access import Access

SUFFIX: Final = "-blobs"
"""What the directory beside a database is called in addition."""

_GONE: Final = (
    "DELETE FROM blob_uses WHERE message_id = old.id AND sha256 IN"
    " (SELECT value ->> 'sha256' FROM json_each(old.attachments))"
)
_COME: Final = (
    "INSERT OR IGNORE INTO blob_uses SELECT value ->> 'sha256', new.id"
    " FROM json_each(new.attachments) WHERE value ->> 'sha256' IS NOT NULL"
)
_SCHEMA: Final = (
    'CREATE TABLE IF NOT EXISTS "blob_uses" (sha256 TEXT NOT NULL, message_id INTEGER NOT NULL,'
    " PRIMARY KEY (sha256, message_id)) WITHOUT ROWID",
    'CREATE TRIGGER IF NOT EXISTS "blob_uses_changed" AFTER UPDATE OF attachments ON "messages"'
    f" WHEN new.attachments IS NOT old.attachments BEGIN {_GONE}; {_COME}; END",
    'CREATE TRIGGER IF NOT EXISTS "blob_uses_gone" AFTER DELETE ON "messages"'
    f" WHEN old.attachments IS NOT NULL BEGIN {_GONE}; END",
)


def beside(path: Path) -> Blobs:
    """The blobs of the database at `path`."""
    return Blobs(path.with_name(f"{path.name}{SUFFIX}"))


def create_blob_uses(database: APSWDatabase) -> None:
    """Create the table and its triggers."""
    for statement in _SCHEMA:
        database.execute_sql(statement)


def note_uses(connection: apsw.Connection, rows: Iterable[tuple[int, str]]) -> None:
    """Note what inserted rows have attached, as `dumps` gives it."""
    connection.executemany(
        "INSERT OR IGNORE INTO blob_uses(sha256, message_id) VALUES (?, ?)",
        [
            (each.sha256, row)
            for row, stored in rows
            for each in loads(stored)
            if each.sha256 is not None
        ],
    )


def dumps(attachments: Iterable[Attachment]) -> str:
    """As they are in a row."""
    return orjson.dumps([each.to_dict() for each in attachments]).decode()


def loads(stored: str | None) -> tuple[Attachment, ...]:
    """The inverse of `dumps`; empty for none."""
    return () if stored is None else attachments_of(orjson.loads(stored))


def get_attachment(
    connection: apsw.Connection, blobs: Blobs, operation: GetAttachment
) -> bytes | None:
    """The bytes, if a message of the session has them attached."""
    found: Any = connection.execute(
        "SELECT 1 FROM blob_uses u CROSS JOIN messages m ON m.id = u.message_id"
        " CROSS JOIN sessions s ON s.id = m.session_id WHERE u.sha256 = ? AND s.key = ?",
        (operation.sha256, operation.key),
    ).get
    return None if found is None else blobs.read(operation.sha256)


def used_blobs(connection: apsw.Connection) -> Iterator[str]:
    """What messages refer to, in order."""
    sha256: Any = ""
    while True:
        sha256 = connection.execute(
            "SELECT sha256 FROM blob_uses WHERE sha256 > ? ORDER BY sha256 LIMIT 1", (sha256,)
        ).get
        if sha256 is None:
            return
        yield sha256


def remove_unused(access: Access, blobs: Blobs) -> Slices[BlobTotals]:
    """Remove the blobs that no message refers to; what was removed."""

    @contextmanager
    def door() -> Iterator[Used]:
        with access.outside() as connection:

            def used(names: Sequence[str]) -> list[str]:
                sql = "SELECT sha256 FROM blob_uses WHERE sha256 = ? LIMIT 1"
                return [name for name in names if connection.execute(sql, (name,)).get is not None]

            yield used

    return blobs.remove_unused(door)
