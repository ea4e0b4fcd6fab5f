"""Deleting sessions, for a group of operations: one, or all whose key begins with a text.

What is too much for a commit loses its keys only, and is invisible by that; the next cleanup or
compaction deletes it (`purge`).
"""

from __future__ import annotations

from typing import Any

import orjson

from backscroll.contract.lifecycle import DeleteSessions
from backscroll.contract.operations import Delete
from backscroll_worker.contract.tombstones import BY_PREFIX, Tombstone
from backscroll_worker.stores.sqlite import emptied, forks
from backscroll_worker.stores.sqlite.key_prefix import BY_KEY, begins_with
from backscroll_worker.stores.sqlite.maintenance import erasure
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.stores.sqlite.waiting import forget, forget_prefix
from backscroll_worker.stores.sqlite.write_group import WriteGroup


def delete(group: WriteGroup, operation: Delete) -> int:
    """Delete a session; whether there was one."""
    forget(group._connection, [operation.key])
    session = group._find(operation.key)
    if session is None:
        return 0
    if session.message_count > detached.MOST_AT_ONCE:
        group.flush()
        detached.detach(group._connection, session.id)
    else:
        group._delete_messages(session)
        group._connection.execute("DELETE FROM sessions WHERE id = ?", (session.id,))
    del group._sessions[operation.key]
    group._platform_ids.forget(session.id)
    group._pending.touched.pop(session.id, None)
    group._pending.imported.pop(session.id, None)  # the next session may get its row
    return 1


def delete_sessions(group: WriteGroup, operation: DeleteSessions) -> int:
    """Delete all sessions whose key begins with the prefix; how many there were."""
    connection = group._connection
    group.flush()
    if group._memory.is_forking:
        forks.give_way_to_all(group, operation)
    forget_prefix(connection, operation.prefix)
    condition, values = begins_with(operation.prefix)
    if spared := _deleted_since(group, operation):
        condition += " AND key NOT IN (SELECT value FROM json_each(?))"
        values += (orjson.dumps(spared).decode(),)
    found: Any = connection.execute(
        f"SELECT count(*), total(message_count) FROM {BY_KEY} WHERE {condition}",  # noqa: S608
        values,
    ).fetchall()
    ((count, messages),) = found
    if count + messages <= detached.MOST_AT_ONCE:
        keys: Any = connection.execute(
            f"SELECT key FROM {BY_KEY} WHERE {condition}",  # noqa: S608
            values,
        ).fetchall()
        for (key,) in keys:
            delete(group, Delete(operation.op_id, operation.at, key))
    else:
        _detach(group, operation.prefix, condition, values)
    moments = min(operation.at, group._clock.latest), group._now
    erasure.note(
        connection, group._memory.tombstones, [(BY_PREFIX, operation.prefix)], Tombstone(*moments)
    )
    return int(count)


def _detach(group: WriteGroup, prefix: str, condition: str, values: tuple[Any, ...]) -> None:
    """Take the keys of those sessions, and forget what is cached of any with the prefix."""
    group._connection.execute(
        f"UPDATE sessions INDEXED BY sessionrow_key SET key = NULL WHERE {condition}",  # noqa: S608
        values,
    )
    for key in [key for key in group._sessions if key.startswith(prefix)]:
        group._platform_ids.forget(group._sessions.pop(key).id)


def _deleted_since(group: WriteGroup, operation: DeleteSessions) -> list[str]:
    """The keys of sessions that were deleted since a late one was requested, and begun anew."""
    if not operation.was_spooled:
        return []
    condition, values = begins_with(operation.prefix)
    sql = f"SELECT key FROM {BY_KEY} WHERE {condition}"  # noqa: S608
    keys: Any = group._connection.execute(sql, values).fetchall()
    place, tombstones = (group._connection, operation), group._memory.tombstones
    return [key for (key,) in keys if emptied.is_late(*place, key, tombstones)]
