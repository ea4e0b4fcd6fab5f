"""What becomes of sessions as a whole, for a group of operations: rewinding, and their states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from backscroll.contract.lifecycle import Rewind
from backscroll.contract.operations import Operation
from backscroll.contract.states import SetState
from backscroll_worker.contract.states import state_after
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.sqlite import session_states
from backscroll_worker.stores.sqlite.gone_ids import note_later_gone
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.stores.sqlite.write_group import WriteGroup

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
    Rewind: _rewind,
    SetState: _set_state,
}
