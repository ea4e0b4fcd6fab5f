"""Earlier versions of replaced messages: kept if the store is set to keep them, read on request.

They are deleted with their message: the foreign key cascades.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import apsw
import orjson

from backscroll.contract.messages import ChatMessage, EarlierVersion, from_micros, to_micros

_INSERT = "INSERT INTO edits(message_id, role, content, extra, replaced_at) VALUES (?, ?, ?, ?, ?)"

# A CROSS JOIN, so that SQLite looks up the messages' edits and never scans all edits.
_OF_ROWS = (
    "FROM messages m INDEXED BY messagerow_session_id CROSS JOIN edits e ON e.message_id = m.id"
    " WHERE m.session_id = ? AND m.id BETWEEN ? AND ?"
)


_LEAST_BYTES = 42
"""The shortest version in an answer: {"role":"a","content":"","replaced_at":0}, and a comma."""


def keep(connection: apsw.Connection, row: int, message: ChatMessage, now: int) -> None:
    """Keep the current version of the message in `row`, unless `message` is equal."""
    (old,) = connection.execute("SELECT role, content, extra FROM messages WHERE id = ?", (row,))
    role, content, extra = old
    if (role, content, unpack_extra(extra)) != (message.role, message.content, message.extra):
        connection.execute(_INSERT, (row, role, content, extra, now))


def put(connection: apsw.Connection, edited: Iterable[tuple[int, ChatMessage]]) -> None:
    """Store the earlier versions of imported or restored messages, by their rows."""
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
    """The minimum size in bytes of the earlier versions in these rows, without reading them."""
    size: Any = connection.execute(
        f"SELECT ifnull(sum({_LEAST_BYTES} + octet_length(e.content)"
        f" + ifnull(octet_length(e.extra), 0)), 0) {_OF_ROWS}",
        (session, first, last),
    ).get
    return int(size)


def pack_extra(extra: Mapping[str, Any] | None) -> str | None:
    """`extra` as stored in a column."""
    return None if extra is None else orjson.dumps(extra).decode()


def unpack_extra(extra: str | None) -> dict[str, Any] | None:
    """The inverse of `pack_extra`."""
    return None if extra is None else orjson.loads(extra)
