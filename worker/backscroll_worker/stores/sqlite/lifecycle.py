"""What becomes of sessions as a whole, for a group of operations: rewinding, and their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from backscroll.contract.lifecycle import Rename, Reset, Rewind
from backscroll.contract.operations import Erase, Operation, Write
from backscroll.contract.states import SetState
from backscroll.contract.validation import OF_SESSIONS
from backscroll_worker.contract.attributes import begun_anew, with_turn
from backscroll_worker.contract.session_renames import SessionRename, earlier_tombstone
from backscroll_worker.contract.states import state_after
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.sqlite import session_states
from backscroll_worker.stores.sqlite.gone_ids import note_also_gone, note_later_gone
from backscroll_worker.stores.sqlite.maintenance import erasure
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.stores.sqlite.session_renames import put_renames
from backscroll_worker.stores.sqlite.write_group import WriteGroup
from backscroll_worker.stores.sqlite.writer_cache import KnownSession

_AFTER: Final = "messages INDEXED BY messagerow_session_id WHERE session_id = ? AND id > ?"


def _rewind(group: WriteGroup, operation: Rewind) -> int:
    session, row = group._locate(operation.key, operation.to)
    if session is None or row is None:
        return 0
    later, connection = (session.id, row), group._connection
    count: Any = connection.execute(f"SELECT count(*) FROM {_AFTER}", later).get  # noqa: S608
    if count > detached.MOST_AT_ONCE:
        group.flush()
        detached.detach_later(connection, session.id, row, group._now)
    else:
        note_later_gone(connection, session.id, row, group._now)
        sql = f"DELETE FROM {_AFTER} RETURNING id"  # noqa: S608
        gone: list[Any] = connection.execute(sql, later).fetchall()
        for (each,) in gone:
            group._pending.forget(each)
    if count:
        group._platform_ids.forget(session.id)
        session.message_count -= count
        group._pending.touched[session.id] = session
    return int(count)


def rename(group: WriteGroup, operation: Rename) -> int:
    """Give the session its new key; what waits under both is still to be carried out."""
    session, keys = group._find(operation.key), (operation.key, operation.new_key)
    if session is None:
        return 0
    if group._find(operation.new_key) is not None:
        return CONFLICT
    connection = group._connection
    connection.execute("UPDATE sessions SET key = ? WHERE id = ?", (operation.new_key, session.id))
    group._sessions[operation.new_key] = group._sessions.pop(operation.key)
    _note_rename(group, SessionRename(*keys, _asked_at(group, operation), group._now))
    return 1


def _reset(group: WriteGroup, operation: Reset) -> int:
    session, key, past_key = group._find(operation.key), operation.key, operation.past_key
    if session is None or not session.message_count:
        return 0
    if group._find(past_key) is not None:
        return CONFLICT
    connection, now = group._connection, group._now
    group._flush_rows()
    connection.execute("UPDATE sessions SET key = ? WHERE id = ?", (past_key, session.id))
    new = KnownSession(detached.insert_alike(connection, session.id, key), 0)
    session_states.put(connection, new.id, session_states.stored(connection, session.id))
    note_also_gone(connection, session.id, new.id, now)
    group._sessions.update({key: new, past_key: session})
    if group._turn(session).is_running:
        group._set(session, with_turn({"state": "idle"}, now))
    name = connection.execute("SELECT name FROM sessions WHERE id = ?", (new.id,)).get
    times = {"created_at": now, "last_activity": now}
    group._set(new, {**with_turn(begun_anew(past_key), now), **times, "name": name})
    _note_rename(group, SessionRename(key, past_key, _asked_at(group, operation), now, True))
    return session.message_count


def _asked_at(group: WriteGroup, operation: Write) -> int:
    """When it was requested; a clock that is ahead must not exclude later operations."""
    return min(operation.at, group._clock.latest)


def _note_rename(group: WriteGroup, rename: SessionRename) -> None:
    put_renames(group._connection, [rename])
    group._memory.renames.add(rename)


def forget_renames(group: WriteGroup, operation: Erase) -> None:
    """Before an erasure: its sessions are erased under their earlier keys, too."""
    renames, connection = group._memory.renames, group._connection
    subject, value = operation.subject
    if not renames or subject not in OF_SESSIONS:
        return
    sql = f"SELECT key FROM sessions WHERE {subject} = ? AND key IS NOT NULL"  # noqa: S608
    found: list[Any] = connection.execute(sql, (value,)).fetchall()
    tombstones = group._memory.tombstones
    for key in {key for (key,) in found} | ({value} if subject == "key" else set()):
        for earlier, until in renames.forget(key):
            tombstone = earlier_tombstone(tombstones, min(until, operation.at), group._now)
            erasure.note(connection, tombstones, [("key", earlier)], tombstone)
    connection.execute("DELETE FROM session_renames")
    put_renames(connection, renames)


def _set_state(group: WriteGroup, operation: SetState) -> int:
    """Apply the operation; returns the version after it."""
    session, connection = group._find(operation.key), group._connection
    before = {} if session is None else session_states.stored(connection, session.id)
    state = state_after(before, operation)
    if state is None:
        return CONFLICT
    if state is not before.get(operation.name) and state.version:
        session_states.put(
            connection, group._find_or_create(operation.key).id, {operation.name: state}
        )
    return state.version


HANDLERS: Final[dict[type[Operation], Callable[[WriteGroup, Any], int]]] = {
    Reset: _reset,
    Rewind: _rewind,
    SetState: _set_state,
}
