"""What was said earlier gets its place among a session's messages, as far as it is not there yet.

Messages are in the order of their rows. So those that come after a new one are deleted and inserted
again behind it, as in a restoration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from backscroll.contract.operations import Backfill, Operation
from backscroll_worker.contract.merging import Placed, with_backfilled
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.restore import take_out
from backscroll_worker.stores.sqlite.write_group import WriteGroup
from backscroll_worker.stores.sqlite.writer_cache import KnownSession


def _backfill(group: Any, operation: Backfill) -> int:
    """Append what is new, then put it in its place; returns how many messages that are."""
    last_row: int = group._memory.last_row
    affected: int = group._append(operation)
    session = group._find(operation.key)
    if affected > 0:
        group._flush_rows()
        group._connection.execute(
            "UPDATE sessions SET created_at = min(created_at, ?) WHERE id = ?",
            (min(map(operation.said_at, operation.messages)), session.id),
        )
        for erasing in group._memory.erasing:  # which knows by their rows what is to be erased
            moved = author_erasure.move_at_once(group._connection, erasing, session.id)
            session.message_count -= moved
        _put_in_place(group, session, operation, last_row)
    return affected


def _put_in_place(
    group: WriteGroup, session: KnownSession, operation: Backfill, last_row: int
) -> None:
    """Move the messages after `last_row` to where they belong."""
    connection, first = group._connection, operation.messages[0].platform_id
    _, start = group._locate(operation.key, None, first)
    rows: list[Any] = connection.execute(
        "SELECT id, created_at, platform_id FROM messages INDEXED BY messagerow_session_id"
        " WHERE session_id = ? AND id >= ? ORDER BY id",
        (session.id, start if start is not None and start <= last_row else 0),
    ).fetchall()
    count = sum(row <= last_row for row, _, _ in rows)
    found = [Placed(*each) for each in rows]
    order = with_backfilled(operation, found[:count], found[count:])
    moved = [row for row, each in zip(order, found, strict=True) if row != each.item]
    if not moved:
        return
    taken = dict(take_out(connection, session.id, min(moved)))
    for row in taken:
        group._pending.forget(row)
    session.message_count -= len(taken)
    group._take_over(session, operation.at, [taken[row] for row in order if row in taken])
    group._pending.touched[session.id] = session


HANDLERS: Final[dict[type[Operation], Callable[[Any, Any], int]]] = {Backfill: _backfill}
