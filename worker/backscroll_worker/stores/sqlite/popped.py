"""What pops removed, in its table: a row for each message. See `contract.popped`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import apsw
import orjson
from playhouse.apsw_ext import APSWDatabase

from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll_worker.contract.popped import in_json, kept

_SCHEMA: Final = (
    'CREATE TABLE IF NOT EXISTS "popped" (id INTEGER PRIMARY KEY, op_id BLOB NOT NULL,'
    " session_id INTEGER NOT NULL, noted_at INTEGER NOT NULL, author TEXT, message TEXT NOT NULL)",
    'CREATE INDEX IF NOT EXISTS "popped_op_id" ON "popped" (op_id)',
    'CREATE INDEX IF NOT EXISTS "popped_session_id" ON "popped" (session_id)',
    'CREATE INDEX IF NOT EXISTS "popped_author" ON "popped" (author) WHERE author IS NOT NULL',
    'CREATE TRIGGER IF NOT EXISTS "popped_gone" AFTER DELETE ON "sessions"'
    ' BEGIN DELETE FROM "popped" WHERE session_id = old.id; END',
)


def create_popped(database: APSWDatabase) -> None:
    """Create the table, and what empties it with its sessions."""
    for statement in _SCHEMA:
        database.execute_sql(statement)


def put(
    connection: apsw.Connection,
    op_id: bytes | str,
    session: int,
    messages: Iterable[ChatMessage],
    now: int,
) -> None:
    """Record what a pop is about to remove; the session's oldest records may go for it.

    Raises `OperationRefusedError` where that is too much.
    """
    messages = list(messages)
    rows = [
        (op_id, session, now, message.author, encoded.decode())
        for message, encoded in zip(messages, in_json(messages), strict=True)
    ]
    connection.executemany(
        "INSERT INTO popped(op_id, session_id, noted_at, author, message) VALUES (?, ?, ?, ?, ?)",
        rows,
    )
    found: list[Any] = connection.execute(
        "SELECT op_id, count(*), sum(octet_length(message)) FROM popped WHERE session_id = ?"
        " GROUP BY op_id ORDER BY max(id) DESC",
        (session,),
    ).fetchall()
    surplus = found[kept([sizes for _, *sizes in found]) :]
    connection.executemany("DELETE FROM popped WHERE op_id = ?", [(each,) for each, *_ in surplus])


def outcome_again(connection: apsw.Connection, op_id: bytes | str, affected: int) -> Outcome:
    """The outcome of a pop that was applied before, with what is still recorded of it."""
    found: Iterable[Any] = connection.execute(
        "SELECT message FROM popped p CROSS JOIN sessions s ON s.id = p.session_id"
        " WHERE p.op_id = ? AND s.key IS NOT NULL ORDER BY p.id",
        (op_id,),
    )
    messages = tuple(ChatMessage.from_dict(orjson.loads(message)) for (message,) in found)
    return Outcome(affected, duplicate=True, messages=messages)


def move(connection: apsw.Connection, session: int, successor: int) -> None:
    """Give the records of a session to the row that takes its place, or takes it in."""
    connection.execute(
        "UPDATE popped SET session_id = ? WHERE session_id = ?", (successor, session)
    )


def forget_session(connection: apsw.Connection, session: int) -> None:
    """Delete the records of a session that stays."""
    connection.execute("DELETE FROM popped WHERE session_id = ?", (session,))


def forget_author(connection: apsw.Connection, author: str) -> None:
    """Delete an author's messages from all records."""
    connection.execute("DELETE FROM popped WHERE author = ?", (author,))
