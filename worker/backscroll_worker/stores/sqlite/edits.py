"""Earlier versions of replaced messages: kept when the store is to keep them, read when asked for.

They go with their message, whatever takes it away: the foreign key cascades.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import apsw
import orjson

from backscroll.contract.messages import ChatMessage, EarlierVersion, from_micros, to_micros

_INSERT = "INSERT INTO edits(message_id, role, content, extra, replaced_at) VALUES (?, ?, ?, ?, ?)"

# A CROSS JOIN, by which SQLite looks up the messages' edits and never goes through all edits.
_OF_ROWS = (
    "FROM messages m INDEXED BY messagerow_session_id CROSS JOIN edits e ON e.message_id = m.id"
    " WHERE m.session_id = ? AND m.id BETWEEN ? AND ?"
)


_LEAST_BYTES = 42
"""No version is shorter in an answer: {"role":"a","content":"","replaced_at":0}, and a comma."""


def keep(connection: apsw.Connection, row: int, message: ChatMessage, now: int) -> None:
    """Keep what the message in `row` is, unless `message` is no different."""
    (old,) = connection.execute("SELECT role, content, extra FROM messages WHERE id = ?", (row,))
    role, content, extra = old
    if (role, content, unpack_extra(extra)) != (message.role, message.content, message.extra):
        connection.execute(_INSERT, (row, role, content, extra, now))


def put(connection: apsw.Connection, edited: Iterable[tuple[int, ChatMessage]]) -> None:
    """Store the earlier versions of messages that come from elsewhere, by their rows."""
    connection.executemany(
        _INSERT,
        [
            (row, edit.role, edit.content, pack_extra(edit.extra), to_micros(edit.replaced_at))
            for row, message in edited
            for edit in message.edits
        ],
    )


def of_session(
    connection: apsw.Connection, session: int, first: int, last: int
) -> Mapping[int, tuple[EarlierVersion, ...]]:
    """The earlier versions of a session's messages in rows `first` to `last`, by row."""
    found: defaultdict[int, list[EarlierVersion]] = defaultdict(list)
    rows: Iterable[Any] = connection.execute(
        f"SELECT e.message_id, e.role, e.content, e.extra, e.replaced_at {_OF_ROWS} ORDER BY e.id",
        (session, first, last),
    )
    for row, role, content, extra, replaced_at in rows:
        edit = EarlierVersion(role, content, unpack_extra(extra), from_micros(replaced_at))
        found[row].append(edit)
    return {row: tuple(edits) for row, edits in found.items()}


def size_bytes(connection: apsw.Connection, session: int, first: int, last: int) -> int:
    """How many bytes the earlier versions in these rows have at least; none of them is read."""
    size: Any = connection.execute(
        f"SELECT ifnull(sum({_LEAST_BYTES} + octet_length(e.content)"
        f" + ifnull(octet_length(e.extra), 0)), 0) {_OF_ROWS}",
        (session, first, last),
    ).get
    return int(size)


def pack_extra(extra: Mapping[str, Any] | None) -> str | None:
    """`extra` as a column holds it."""
    return None if extra is None else orjson.dumps(extra).decode()


def unpack_extra(extra: str | None) -> dict[str, Any] | None:
    """The inverse of `pack_extra`."""
    return None if extra is None else orjson.loads(extra)
