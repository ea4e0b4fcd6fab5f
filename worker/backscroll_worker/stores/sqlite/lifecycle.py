"""What becomes of sessions that live on, for a group of operations: see `contract.lifecycle`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from backscroll.contract.lifecycle import Rewind
from backscroll.contract.operations import Operation
from backscroll_worker.stores.sqlite.gone_ids import note_later_gone
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


HANDLERS: Final[dict[type[Operation], Callable[[Group, Any], int]]] = {
    Rewind: _rewind,
}
