"""What becomes of sessions that live on, for a group of operations: see `contract.lifecycle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import apsw

from backscroll.contract.lifecycle import Rename, Rewind
from backscroll.contract.operations import Erase, Operation
from backscroll.contract.validation import SUBJECTS
from backscroll_worker.contract.session_renames import (
    SessionRename,
    SessionRenames,
    earlier_tombstone,
)
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.sqlite.maintenance import erasure
from backscroll_worker.stores.sqlite.maintenance import purge as detached

if TYPE_CHECKING:
    from backscroll_worker.stores.sqlite.write_batch import Group

_AFTER: Final = "messages INDEXED BY messagerow_session_id WHERE session_id = ? AND id > ?"


def _rewind(group: Group, operation: Rewind) -> int:
    session, row = group._locate(operation.key, operation.to)
    if session is None or row is None:
        return 0
    later, connection = (session.id, row), group._connection
    count: Any = connection.execute(f"SELECT count(*) FROM {_AFTER}", later).get  # noqa: S608
    if count > detached.MOST_AT_ONCE:
        group.flush()
        detached.detach_later(connection, session.id, row)
    else:
        sql = f"DELETE FROM {_AFTER} RETURNING id"  # noqa: S608
        gone: list[Any] = connection.execute(sql, later).fetchall()
        for (each,) in gone:
            group._pending.forget(each)
    if count:
        session.message_count -= count
        group._pending.touched[session.id] = session
    return int(count)


def _rename(group: Group, operation: Rename) -> int:
    session = group._find(operation.key)
    if session is None:
        return 0
    if group._find(operation.new_key) is not None:
        return CONFLICT
    keys, connection = (operation.key, operation.new_key), group._connection
    connection.execute("UPDATE sessions SET key = ? WHERE id = ?", (operation.new_key, session.id))
    group._sessions[operation.new_key] = group._sessions.pop(operation.key)
    rename = SessionRename(*keys, min(operation.at, group._clock.latest), group._now)
    connection.execute(
        "INSERT INTO session_renames(old_key, new_key, asked_at, noted_at) VALUES (?, ?, ?, ?)",
        rename,
    )
    group._memory.renames.add(rename)
    return 1


def load_renames(connection: apsw.Connection) -> SessionRenames:
    """The renames of sessions that the store knows."""
    rows: Any = connection.execute(
        "SELECT old_key, new_key, asked_at, noted_at FROM session_renames ORDER BY id"
    )
    return SessionRenames(SessionRename(*row) for row in rows)


def forget_renames(group: Group, operation: Erase) -> None:
    """Before an erasure: its sessions are erased under their earlier keys, too."""
    renames, connection = group._memory.renames, group._connection
    subject, value = operation.subject
    if not renames or subject not in SUBJECTS:
        return
    sql = f"SELECT key FROM sessions WHERE {subject} = ? AND key IS NOT NULL"  # noqa: S608
    found: list[Any] = connection.execute(sql, (value,)).fetchall()
    keys = {key for (key,) in found} | ({value} if subject == "key" else set())
    tombstones = group._memory.tombstones
    for key in keys:
        for earlier, until in renames.forget(key):
            tombstone = earlier_tombstone(tombstones, min(until, operation.at), group._now)
            erasure.note(connection, tombstones, [("key", earlier)], tombstone)
    connection.execute("DELETE FROM session_renames")
    connection.executemany(
        "INSERT INTO session_renames(old_key, new_key, asked_at, noted_at) VALUES (?, ?, ?, ?)",
        list(renames),
    )


HANDLERS: Final[dict[type[Operation], Callable[[Group, Any], int]]] = {
    Rewind: _rewind,
    Rename: _rename,
}
