"""Purges sessions without a key: invisible at once, deleted in slices.

A cleanup chooses them, or a group deletes one that is too large for a commit. Their messages are
neither counted nor found.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterable
from typing import Any, Final

import apsw

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Operation
from backscroll_worker.contract.pacing import Pace
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.stores.sqlite import popped, session_states
from backscroll_worker.stores.sqlite.access import Door
from backscroll_worker.stores.sqlite.fts_merge import unindex
from backscroll_worker.stores.sqlite.gone_ids import note_all_gone, note_later_gone
from backscroll_worker.stores.sqlite.name_index import index_name
from backscroll_worker.stores.sqlite.packed_ids import pack_id
from backscroll_worker.stores.sqlite.tables import SessionRow

MOST_AT_ONCE: Final = 1_000
"""Messages that a group deletes itself, in some 10 ms; for more it only removes the key."""

MESSAGES_PER_ROUND: Final = 200_000
"""Their rows are sorted in some 20 ms."""
_MESSAGES_PER_SESSION: Final = 20  # finding the first message takes as long as reading this many

# Sessions of an erasure are counted and deleted by it; a fork still needs its source.
_DETACHED: Final = (
    "key IS NULL AND id NOT IN (SELECT session_id FROM erasing"
    " UNION ALL SELECT session_id FROM erasing_authors"
    " UNION ALL SELECT source FROM forks UNION ALL SELECT target FROM forks)"
)

_COLUMNS: Final = ", ".join(
    field.column_name
    for field in SessionRow._meta.sorted_fields
    if field.column_name not in ("id", "key", "message_count")
)


def insert_alike(connection: apsw.Connection, session: int, key: str | None) -> int:
    """Insert a session without messages and states, otherwise as the other one; its row."""
    connection.execute(
        f"INSERT INTO sessions(key, message_count, {_COLUMNS})"  # noqa: S608 - columns of ours
        f" SELECT ?, 0, {_COLUMNS} FROM sessions WHERE id = ?",
        (key, session),
    )
    return connection.last_insert_rowid()


def detach(connection: apsw.Connection, session: int) -> None:
    """Mark the session for the next cleanup or compaction, which deletes it with its messages."""
    connection.execute("UPDATE sessions SET key = NULL WHERE id = ?", (session,))


def detach_messages(connection: apsw.Connection, session: int, now: int) -> int:
    """The same for its messages only; returns the id of the row that replaces the session."""
    found: Any = connection.execute("SELECT key, name FROM sessions WHERE id = ?", (session,))
    ((key, name),) = found
    detach(connection, session)
    successor = insert_alike(connection, session, key)
    index_name(connection, successor, name)
    session_states.move(connection, session, successor)
    popped.move(connection, session, successor)
    note_all_gone(connection, session, successor, now)
    return successor


def detach_later(connection: apsw.Connection, session: int, row: int, now: int) -> None:
    """The same for the session's messages after that in `row`; the session stays."""
    note_later_gone(connection, session, row, now)
    successor = insert_alike(connection, session, None)
    connection.execute("UPDATE sessions SET name = NULL WHERE id = ?", (successor,))
    connection.execute(
        "UPDATE messages SET session_id = ? WHERE session_id = ? AND id > ?",
        (successor, session, row),
    )


def give_way(connection: apsw.Connection, operation: Operation) -> None:
    """Free the operation's message ids if messages that are being deleted have them."""
    connection.executemany(
        "UPDATE messages SET message_id = 'gone ' || id WHERE message_id = ?"  # noqa: S608
        f" AND session_id IN (SELECT id FROM sessions WHERE {_DETACHED})",
        [(pack_id(message_id),) for message_id in _ids(operation)],
    )


def _ids(operation: Operation) -> Iterable[str]:
    if isinstance(operation, Append):
        return operation.message_ids
    messages: tuple[ChatMessage, ...] = ()
    if isinstance(operation, ImportSession | RestoreSession):
        messages = operation.messages
    return [message.message_id for message in messages if message.message_id]


def purge_detached(door: Door) -> Generator[None]:
    """Delete them with their messages, including those left by a cleanup that was killed.

    Messages are deleted in the order of their rows, whatever their session: neighbours share a
    page, and a page that is changed in ten slices is written ten times.
    """
    with door() as connection:
        found: list[Any] = connection.execute(
            f"SELECT id FROM sessions WHERE {_DETACHED}"  # noqa: S608
        ).fetchall()
    waiting = [session for (session,) in found]
    while waiting:
        sessions, messages = yield from _gather(door, waiting)
        yield from _delete_messages(door, messages)
        yield from _delete_sessions(door, sessions)


def _gather(door: Door, waiting: list[int]) -> Generator[None, None, tuple[list[int], array[int]]]:
    """Take the sessions of one round off the list; returns the rows of their messages, in order.

    A session with more messages is kept on the list, and continued in the next round.
    """
    pace, sessions, messages, after = Pace(1_000, most=20_000), list[int](), array("q"), -1
    while waiting and len(messages) < MESSAGES_PER_ROUND:
        with pace.slice() as count, door() as connection:
            left = count
            while waiting and left > 0:
                found = connection.execute(
                    "SELECT id FROM messages WHERE session_id = ? AND id > ? ORDER BY id LIMIT ?",
                    (waiting[-1], after, left),
                ).fetchall()
                rows: list[Any] = [row for (row,) in found]
                messages.extend(rows)
                if len(rows) < left:
                    sessions.append(waiting.pop())
                    after = -1
                else:
                    after = rows[-1]
                left -= len(rows) + _MESSAGES_PER_SESSION
        yield
    return sessions, array("q", sorted(messages))


def _delete_messages(door: Door, messages: array[int]) -> Generator[None]:
    pace, start = Pace(200, most=2_000), 0
    while start < len(messages):
        with pace.slice() as count, door() as connection:
            rows = [(row,) for row in messages[start : start + count]]
            connection.executemany("DELETE FROM messages WHERE id = ?", rows)
            unindex(connection, "message_index", rows)
        start += len(rows)
        yield


def _delete_sessions(door: Door, sessions: list[int]) -> Generator[None]:
    pace, start = Pace(100, most=1_000), 0
    while start < len(sessions):
        with pace.slice() as count, door() as connection:
            rows = [(row,) for row in sessions[start : start + count]]
            unindex(connection, "name_index", rows)  # the trigger would do it one by one
            connection.executemany("DELETE FROM sessions WHERE id = ?", rows)
        start += len(rows)
        yield
