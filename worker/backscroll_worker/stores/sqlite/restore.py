"""The queries of a restoration; the rest is done as for any write of a group.

Messages are in the order of their rows, so the present messages of a session are deleted and
inserted again after the restored ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import apsw

from backscroll.contract.messages import ChatMessage, SessionInfo, to_micros
from backscroll_worker.stores.sqlite.packed_ids import pack_id, unpack_id
from backscroll_worker.stores.sqlite.reads import stored_messages

_LAST_ROW: Final = 2**63 - 1


def missing(
    connection: apsw.Connection, messages: Iterable[ChatMessage]
) -> tuple[ChatMessage, ...]:
    """The messages that the store does not have."""
    wanted = list(messages)
    found: Any = connection.executemany(
        "SELECT message_id FROM messages WHERE message_id = ?",
        [(pack_id(message.message_id or ""),) for message in wanted],
    )
    there = {unpack_id(message_id) for (message_id,) in found}
    return tuple(message for message in wanted if message.message_id not in there)


def take_out(
    connection: apsw.Connection, session: int, first: int = 0
) -> list[tuple[int, ChatMessage]]:
    """Delete a session's messages from that row on; returns them with their rows."""
    messages = stored_messages(connection, session, first, _LAST_ROW, -1)
    connection.execute("DELETE FROM messages WHERE session_id = ? AND id >= ?", (session, first))
    return messages


def times(
    connection: apsw.Connection, session: int, info: SessionInfo, *, is_new: bool
) -> tuple[int, int]:
    """The session's times of creation and last activity after the restoration, in microseconds."""
    if is_new:
        return to_micros(info.created_at), to_micros(info.last_activity)
    (row,) = connection.execute(
        "SELECT created_at, last_activity FROM sessions WHERE id = ?", (session,)
    )
    created_at, last_activity = row
    return min(int(created_at), to_micros(info.created_at)), int(last_activity)
