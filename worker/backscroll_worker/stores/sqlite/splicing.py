"""Removes a part of a session's messages: as a splice names it, or to be returned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll.contract.splicing import Pop, Splice
from backscroll_worker.stores.sqlite import popped
from backscroll_worker.stores.sqlite.gone_ids import bring_back
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.stores.sqlite.reads import row_of
from backscroll_worker.stores.sqlite.rows import MESSAGE_COLUMNS, message_of
from backscroll_worker.stores.sqlite.write_group import WriteGroup
from backscroll_worker.stores.sqlite.writer_cache import KnownSession

_NEWEST: Final = "SELECT id FROM messages INDEXED BY messagerow_session_id WHERE session_id = ?"


def remove(group: WriteGroup, operation: Splice) -> int:
    """Remove what a splice is to remove; returns how many messages that was.

    Those that it brings back by their platform ids may be stored again.
    """
    session = group._find(operation.key)
    if session is None or not operation.remove:
        return 0
    back = {each.platform_id for each in operation.messages if each.platform_id is not None}
    count = _most(session, operation)
    if count > detached.MOST_AT_ONCE and not group._memory.erasing:
        _remove_many(group, session, count, back)
        return count
    rows = rows_of(group, operation)
    gone = {group._remove(session, row) for row in rows}
    group._platform_ids.note_gone(session.id, gone - back, group._now)
    if returning := [id_ for id_ in gone & back if id_ is not None]:
        group._platform_ids.forget(session.id)
        bring_back(group._connection, session.id, returning)  # as a fork or a merge may note them
    return len(rows)


def pop(group: WriteGroup, operation: Pop) -> int:
    """Apply the operation; what it returns is in the group's `_also` then."""
    session, rows = group._find(operation.key), rows_of(group, operation)[::-1]
    messages = [_message(group, row) for row in rows]
    if session is not None and messages:
        op_id = group._packed[operation.op_id]
        popped.put(group._connection, op_id, session.id, messages, group._now)
        gone = [group._remove(session, row) for row in rows]
        group._platform_ids.note_gone(session.id, gone, group._now)
    group._also["messages"] = tuple(messages)
    return len(messages)


def _message(group: WriteGroup, row: int) -> ChatMessage:
    (found,) = group._connection.execute(
        f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ?",  # noqa: S608
        (row,),
    )
    return message_of(found)


def rows_of(group: WriteGroup, operation: Splice | Pop) -> list[int]:
    """The rows of the messages that it is to remove, the last one first."""
    session = group._find(operation.key)
    if session is None:
        return []
    if isinstance(operation, Pop):
        if operation.message_ids is None:
            return newest(group, session, operation.count)
        return _named(group, operation.key, operation.message_ids)
    if isinstance(operation.remove, tuple):
        return _named(group, operation.key, operation.remove)
    return newest(group, session, _most(session, operation))


def _named(group: WriteGroup, key: str, ids: Iterable[str]) -> list[int]:
    """The rows of those messages that the session has, the last one first."""
    found = {group._locate(key, id_)[1] for id_ in ids}
    return sorted((row for row in found if row is not None), reverse=True)


def newest(group: WriteGroup, session: KnownSession, count: int) -> list[int]:
    """The rows of the session's last messages, the last one first."""
    group._flush_rows()
    but, values = author_erasure.but_those_of(group._memory.erasing)
    rows: Iterable[Any] = group._connection.execute(
        f"{_NEWEST}{but} ORDER BY id DESC LIMIT ?", (session.id, *values, count)
    )
    return [row for (row,) in rows]


def empty(group: WriteGroup, session: KnownSession) -> None:
    """Remove all messages out of sight; a compaction deletes them."""
    group.flush()
    group._pending.touched.pop(session.id, None)
    session.id = detached.detach_messages(group._connection, session.id, group._now)
    session.message_count = 0
    group._pending.touched[session.id] = session


def _most(session: KnownSession, operation: Splice) -> int:
    """How many messages it removes at most; those that it names are always removed one by one."""
    wanted = operation.remove
    if isinstance(wanted, tuple):
        return 0
    return session.message_count if wanted == "all" else min(wanted, session.message_count)


def _remove_many(group: WriteGroup, session: KnownSession, count: int, back: set[str]) -> None:
    """Remove the last messages out of sight, but those that come back by their platform ids."""
    connection = group._connection
    group.flush()
    stays: Any = connection.execute(
        f"{_NEWEST} ORDER BY id DESC LIMIT 1 OFFSET ?", (session.id, count)
    ).get
    rows = {id_: row_of(connection, session.id, None, id_) for id_ in back}
    group._platform_ids.forget(session.id)
    if stays is None:
        empty(group, session)
    else:
        detached.detach_later(connection, session.id, stays, group._now)
        session.message_count -= count
        group._pending.touched[session.id] = session
    returning = [id_ for id_, row in rows.items() if row is not None and row > (stays or 0)]
    bring_back(connection, session.id, returning)


HANDLERS: Final[dict[type[Operation], Callable[[WriteGroup, Any], int]]] = {Pop: pop}
