"""Erases what an author said: moves the messages, in slices, to a session without a key.

The erasure then deletes that session as it deletes those of a sender. The number of the last row at
the time of the request separates what was said before from what is said afterwards; see
`writer_cache.Memory`. Until the slices have moved a message, reads still return it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from typing import Any, Final, NamedTuple

import apsw

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.pacing import Pace
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.fork_table import last_reserved_row
from backscroll_worker.stores.sqlite.gone_ids import note_gone

_NEXT: Final = (
    "SELECT id, session_id, platform_id FROM messages INDEXED BY messagerow_author_session_id"
    " WHERE author = ? AND session_id BETWEEN ? AND ? AND id <= ? ORDER BY session_id, id LIMIT ?"
)


class ErasingAuthor(NamedTuple):
    """An author whose messages, up to row `last_row`, are being moved to `session`."""

    session: int
    author: str
    last_row: int


def load(connection: apsw.Connection) -> list[ErasingAuthor]:
    """Those whose messages are not all moved yet."""
    rows: Iterable[Any] = connection.execute(
        "SELECT session_id, author, last_row FROM erasing_authors WHERE author IS NOT NULL"
    )
    return [ErasingAuthor(*row) for row in rows]


def sessions(connection: apsw.Connection) -> dict[int, int]:
    """The sessions for authors' messages, each with the number of those where they were."""
    rows: Iterable[Any] = connection.execute("SELECT session_id, sessions FROM erasing_authors")
    return dict(rows)


def takes(erasing: Iterable[ErasingAuthor], row: int, message: ChatMessage) -> bool:
    """Whether one of these erasures is to move the message."""
    return any(message.author == each.author and row <= each.last_row for each in erasing)


def but_those_of(erasing: Sequence[ErasingAuthor]) -> tuple[str, list[Any]]:
    """A condition that excludes the messages to be moved, and its values."""
    values = [value for each in erasing for value in (each.author, each.last_row)]
    return " AND NOT (author IS ? AND id <= ?)" * len(erasing), values


def begin(connection: apsw.Connection, op_id: bytes | str, author: str, now: int) -> None:
    """Note, within the caller's transaction, what is to be moved."""
    connection.execute(
        "INSERT INTO sessions(key, state, pinned, created_at, last_activity, message_count)"
        " VALUES (NULL, 'idle', 0, ?, ?, 0)",
        (now, now),
    )
    session = connection.last_insert_rowid()
    connection.execute("INSERT INTO erasing(session_id, op_id) VALUES (?, ?)", (session, op_id))
    connection.execute(
        "INSERT INTO erasing_authors(session_id, author, last_row, sessions)"
        " SELECT ?, ?, max((SELECT ifnull(max(id), 0) FROM messages),"
        " (SELECT ifnull(max(last_row), 0) FROM erasing_authors), ?), 0",
        (session, author, last_reserved_row(connection)),
    )


def move_at_once(connection: apsw.Connection, erasing: ErasingAuthor, session: int) -> int:
    """Move all that one session still has, which is about to be another's; how many messages."""
    moved = connection.execute(
        "UPDATE messages SET session_id = ?"
        " WHERE session_id = ? AND author = ? AND id <= ? RETURNING id, ?, platform_id",
        (erasing.session, session, erasing.author, erasing.last_row, session),
    ).fetchall()
    _note_gone(connection, erasing, moved)
    connection.execute(
        "UPDATE erasing_authors SET sessions = sessions + ? WHERE session_id = ?",
        (bool(moved), erasing.session),
    )
    return len(moved)


def move_messages(access: Access, sessions: Iterable[int]) -> Generator[None]:
    """Move what is to be moved to those of the sessions that are for an author's messages."""
    with access.outside() as connection:
        known = {each.session: each for each in load(connection)}
    for session in sessions:
        if session in known:
            yield from _move(access, known[session])


def _move(access: Access, erasing: ErasingAuthor) -> Generator[None]:
    pace, start, is_left = Pace(25, most=2_000), 0, True
    while is_left:
        with pace.slice() as count, access.removing() as connection:
            wanted = erasing.author, start, erasing.session - 1, erasing.last_row, count + 1
            found: list[Any] = connection.execute(_NEXT, wanted).fetchall()
            rows, left = found[:count], found[count:]
            connection.executemany(
                "UPDATE messages SET session_id = ? WHERE id = ?",
                [(erasing.session, row) for row, _, _ in rows],
            )
            _note_gone(connection, erasing, rows)
            moved, is_left = Counter(session for _, session, _ in rows), bool(left)
            connection.executemany(
                "UPDATE sessions SET message_count = message_count - ? WHERE id = ?",
                [(messages, session) for session, messages in moved.items()],
            )
            if left:  # the last session may have more of them, and is counted with these
                start = left[0][1]
                del moved[start]
            connection.execute(
                "UPDATE erasing_authors SET sessions = sessions + ?, author = ?"
                " WHERE session_id = ?",
                (len(moved), erasing.author if is_left else None, erasing.session),
            )
        yield


def _note_gone(connection: apsw.Connection, erasing: ErasingAuthor, rows: Iterable[Any]) -> None:
    """Keep the sessions from storing what was erased, when the platform delivers it again."""
    erased_at: Any = connection.execute(
        "SELECT created_at FROM sessions WHERE id = ?", (erasing.session,)
    ).get
    for _, session, platform_id in rows:
        note_gone(connection, session, [platform_id], erased_at)


def finish_lost(access: Access) -> Generator[None]:
    """End the erasures that are forgotten by now; their sessions are purged as after a cleanup."""
    with access.outside() as connection:
        rows: list[Any] = connection.execute(
            "SELECT session_id FROM erasing_authors"
            " WHERE session_id NOT IN (SELECT session_id FROM erasing)"
        ).fetchall()
    yield from move_messages(access, [session for (session,) in rows])
    with access.repeatable() as connection:
        connection.executemany("DELETE FROM erasing_authors WHERE session_id = ?", rows)
