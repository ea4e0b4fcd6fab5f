"""What a cleanup does alike when it deletes some messages of a session, by whatever rule."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import apsw

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.interchange import message_line
from backscroll_worker.stores.sqlite.fts_merge import unindex
from backscroll_worker.stores.sqlite.gone_ids import note_gone


def digest_of(messages: Iterable[tuple[int, ChatMessage]]) -> bytes:
    """That of their lines in an archive, without the bytes of what is attached."""
    return hashlib.sha256(b"".join(message_line(message) for _, message in messages)).digest()


def delete_messages(
    connection: apsw.Connection, session: int, which: str, values: tuple[Any, ...], at: int
) -> int:
    """Delete those of a session's messages that `which`, an SQL condition, says; their number."""
    rows: list[Any] = connection.execute(
        f"DELETE FROM messages {which} RETURNING id, platform_id",  # noqa: S608
        (session, *values),
    ).fetchall()
    unindex(connection, "message_index", [(row,) for row, _ in rows])
    note_gone(connection, session, [platform_id for _, platform_id in rows], at)
    connection.execute(
        "UPDATE sessions SET message_count = message_count - ? WHERE id = ?", (len(rows), session)
    )
    return len(rows)
