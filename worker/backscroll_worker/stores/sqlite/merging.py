"""Merges two sessions: the messages of one get the other's row, and the order of time.

A session's messages are in the order of their rows, which is that in which they came. So those of
two sessions are nearly in the order of time as they are; the others swap rows among themselves.
While an author is being erased they get new rows instead: earlier ones say what is to be erased.
"""

from __future__ import annotations

from typing import Any

import apsw

from backscroll.contract.lifecycle import Merge, Rename
from backscroll_worker.contract.merging import check_size, in_order_of_time
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.sqlite import lifecycle, popped
from backscroll_worker.stores.sqlite.attachments import forget_uses, note_uses
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.write_group import WriteGroup

Message = tuple[int, int, str | None]
"""A message's row, its time and its platform id."""


def merge(group: WriteGroup, operation: Merge) -> int:
    """Apply the operation; returns how many messages `into` got."""
    key, into = operation.key, operation.into
    session, target, now = group._find(key), group._find(into), group._now
    if session is None:
        return 0
    both = [each for each in (session, target) if each is not None]
    if any(not group._turn(each).is_free(now) for each in both) or (target and target.closed):
        return CONFLICT
    if target is None:
        lifecycle.rename(group, Rename(operation.op_id, operation.at, key, into))
        return session.message_count
    check_size(operation, session.message_count)
    group.flush()
    connection = group._connection
    for erasing in group._memory.erasing:
        for each in both:  # whose messages the slices may not find in the other
            each.message_count -= author_erasure.move_at_once(connection, erasing, each.id)
    own, others = (_messages(connection, each.id) for each in (target, session))
    ids = {id_ for _, _, id_ in own if id_ is not None}
    repeated = [row for row, _, id_ in others if id_ in ids]
    kept = [each for each in others if each[2] not in ids]
    moves = _to_new_rows(group, own, kept) if group._memory.erasing else _moves(own, kept)
    check_size(operation, len(moves))
    connection.executemany("DELETE FROM messages WHERE id = ?", [(row,) for row in repeated])
    for row in (*repeated, *(old for _, old in moves)):
        group._pending.forget(row)
    _move(connection, moves)
    found: Any = connection.executemany(
        "SELECT id, content FROM messages WHERE id = ?", [(new,) for new, _ in moves]
    )
    group._pending.index.update((row, group._fold(content)) for row, content in found)
    _give(connection, session.id, target.id)
    target.message_count += len(kept)
    for each in both:
        group._platform_ids.forget(each.id)
    group._pending.touched[target.id] = target
    group._pending.touched.pop(session.id, None)
    del group._sessions[key]
    lifecycle.note_rename(group, operation, key, into)
    return len(kept)


def _messages(connection: apsw.Connection, session: int) -> list[Message]:
    found: Any = connection.execute(
        "SELECT id, created_at, platform_id FROM messages INDEXED BY messagerow_session_id"
        " WHERE session_id = ? ORDER BY id",
        (session,),
    )
    return list(found)


def _moves(*sessions: list[Message]) -> list[tuple[int, int]]:
    """The new row and the old one of each message that is not in the order of time by its row."""
    order = _rows_in_order(*sessions)
    return [(new, old) for old, new in zip(order, sorted(order), strict=True) if old != new]


def _to_new_rows(group: WriteGroup, *sessions: list[Message]) -> list[tuple[int, int]]:
    """The same with rows that no message ever had, from the first such message on."""
    order = _rows_in_order(*sessions)
    pairs = enumerate(zip(order, sorted(order), strict=True))
    first = next((index for index, (old, row) in pairs if old != row), len(order))
    last_row = group._memory.last_row
    group._memory.last_row += len(order) - first
    return [(last_row + number, old) for number, old in enumerate(order[first:], 1)]


def _rows_in_order(*sessions: list[Message]) -> list[int]:
    times = [[at for _, at, _ in messages] for messages in sessions]
    return [sessions[which][index][0] for which, index in in_order_of_time(*times)]


def _move(connection: apsw.Connection, moves: list[tuple[int, int]]) -> None:
    """Give messages other rows, by way of negative numbers, with all that refers to them."""
    new_rows = {old: new for new, old in moves}
    attached: list[Any] = connection.executemany(
        "SELECT id, attachments FROM messages WHERE id = ? AND attachments IS NOT NULL",
        [(old,) for old in new_rows],
    ).fetchall()
    connection.execute("PRAGMA defer_foreign_keys = ON")  # until the end of the transaction
    for table, column in (("messages", "id"), ("edits", "message_id")):
        update = f"UPDATE {table} SET {column} ="  # noqa: S608
        connection.executemany(f"{update} -? WHERE {column} = ?", moves)
        connection.execute(f"{update} -{column} WHERE {column} < 0")
    forget_uses(connection, attached)
    note_uses(connection, [(new_rows[old], stored) for old, stored in attached])


def _give(connection: apsw.Connection, session: int, target: int) -> None:
    """Have the target have all that the session has, and delete that."""
    both = target, session
    connection.execute("UPDATE messages SET session_id = ? WHERE session_id = ?", both)
    connection.execute(
        "UPDATE OR IGNORE gone_platform_ids SET session_id = ? WHERE session_id = ?", both
    )
    connection.execute(
        "UPDATE sessions SET created_at ="
        " min(created_at, (SELECT created_at FROM sessions WHERE id = ?)) WHERE id = ?",
        (session, target),
    )
    popped.move(connection, session, target)
    connection.execute("DELETE FROM sessions WHERE id = ?", (session,))
