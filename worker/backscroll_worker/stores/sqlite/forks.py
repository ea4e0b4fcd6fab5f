"""Forks: the messages of a session copied to a new one, at once or in slices between groups.

A large fork takes its place in the order of the writes, by which it is durable: a session without a
key, the numbers of its rows, and what is to be copied (`fork_table`). Slices then copy, from the
last message back, and at the end the session gets its key. So a kill leaves a fork that nobody sees
and that goes on. What is appended to the source meanwhile is beyond what is copied; before an
operation changes something that is still to be copied, or writes to the fork, it is copied at once.
As the last messages are the first to be copied, that is rarely much.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import apsw

from backscroll.contract.forks import Fork
from backscroll.contract.ids import message_id as nth_message_id
from backscroll.contract.lifecycle import DeleteSessions, Rewind
from backscroll.contract.messages import CIRCUMSTANCES
from backscroll.contract.operations import (
    Replace,
    Rollback,
    Write,
)
from backscroll.contract.results import Outcome
from backscroll.contract.splicing import Pop, Splice
from backscroll.contract.turns import EndTurn
from backscroll_worker.contract import forks as limits
from backscroll_worker.contract.forks import (
    attributes_of_fork,
    sessions_of,
    spares_messages,
    unknown_message,
    unknown_session,
)
from backscroll_worker.contract.pacing import Pace, Unfinished
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.sqlite import fork_table, session_states, splicing
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.fork_table import Copying
from backscroll_worker.stores.sqlite.listing import get_session
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.maintenance.space import with_checkpoints
from backscroll_worker.stores.sqlite.packed_ids import pack_id, unpack_id
from backscroll_worker.stores.sqlite.pending import put_index, put_messages
from backscroll_worker.stores.sqlite.write_group import WriteGroup
from backscroll_worker.stores.sqlite.writer_cache import KnownSession

_MOST_PER_SLICE: Final = 1_000
_LEAST_PER_SLICE: Final = 30  # a commit takes as long as these
_ALL: Final = 2**62
_IN_SOURCE: Final = "messages INDEXED BY messagerow_session_id WHERE session_id = ? AND id <= ?"
_NEXT: Final = (
    f"SELECT id, message_id, role, content, extra, created_at, {', '.join(CIRCUMSTANCES)}"  # noqa: S608
    ", attachments FROM messages INDEXED BY messagerow_session_id"
    " WHERE session_id = ? AND id < ? AND id >= ?"
)
_SUMMARIZED: Final = (
    "SELECT DISTINCT upto FROM messages INDEXED BY messagerow_session_id_upto"
    " WHERE session_id = ? AND upto IS NOT NULL"
)


class Copier(NamedTuple):
    """What the slices need besides the connection: how texts are folded, and the store's time."""

    fold: Callable[[str], str]
    clock: Callable[[], int]


def fork(group: WriteGroup, operation: Fork, *, at_once: bool) -> int:
    """Apply the operation, or reserve what it needs; returns how many messages the fork has.

    With `at_once` all are copied now, however many there are.
    """
    source = group._find(operation.key)
    if source is None:
        raise unknown_session(operation)
    target = group._find(operation.new_key)
    if target is not None and (target.message_count or target.closed):
        return CONFLICT
    _, row = group._locate(operation.key, operation.upto, operation.upto_platform_id)
    if row is None and (operation.upto or operation.upto_platform_id):
        raise unknown_message(operation)
    connection, memory = group._connection, group._memory
    but, values = author_erasure.but_those_of(memory.erasing)
    counted = f"SELECT count(*) FROM {_IN_SOURCE}{but}"  # noqa: S608
    found: Any = connection.execute(counted, (source.id, row or 0, *values)).get
    count = int(found)
    target = _begin(group, operation, source, row)
    op_id = group._packed[operation.op_id]
    copying = Copying(
        target.id, source.id, op_id, operation.new_key, (row or 0) + 1, count, memory.last_row
    )
    memory.last_row += count
    if at_once or count <= limits.MOST_AT_ONCE:
        _, index = _copy(connection, copying, count, group._fold)
        group._pending.index.update(index)
        target.message_count = count
        group._pending.touched[target.id] = target
        return count
    group.flush()
    connection.execute("UPDATE sessions SET key = NULL WHERE id = ?", (target.id,))
    del group._sessions[operation.new_key]
    fork_table.put(connection, copying)
    memory.is_forking = True
    return count


def _begin(
    group: WriteGroup, operation: Fork, source: KnownSession, row: int | None
) -> KnownSession:
    """The session to copy to, with all that it is to have besides messages."""
    connection = group._connection
    upto: Any = connection.execute("SELECT message_id FROM messages WHERE id = ?", (row,)).get
    original, there = (get_session(connection, key) for key in (operation.key, operation.new_key))
    if original is None:
        raise unknown_session(operation)
    target = group._find_or_create(operation.new_key)
    forked_upto = None if upto is None else unpack_id(upto)
    group._set(target, attributes_of_fork(original, forked_upto, there))
    states = session_states.stored(connection, source.id)
    states.update(session_states.stored(connection, target.id))
    session_states.put(connection, target.id, states)
    group._platform_ids.forget(target.id)
    return target


def rest(access: Access, copier: Copier, operation: Fork, outcome: Outcome) -> Outcome | Unfinished:
    """The answer to a fork: its outcome, or the slices if it is still to be copied."""
    with access.outside() as connection:
        copying = fork_table.find(connection, "op_id", pack_id(operation.op_id))
    if copying is None:
        return outcome

    def slices() -> Generator[None, None, Outcome]:
        yield from with_checkpoints(access, _finish(access, copier, copying.target))
        return outcome

    return Unfinished(slices())


def finish_all(access: Access, copier: Copier) -> Generator[None]:
    """Copy all that is still to be copied; what cannot be fails when its own job comes again."""
    with access.outside() as connection:
        targets = [copying.target for copying in fork_table.load(connection)]
    for target in targets:
        with suppress(UnicodeDecodeError):
            yield from with_checkpoints(access, _finish(access, copier, target))


def _finish(access: Access, copier: Copier, target: int) -> Generator[None]:
    try:
        yield from _copy_all(access, copier, target)
    except UnicodeDecodeError:  # a damaged message; nothing else is to wait for this fork again
        with access.transaction() as connection:
            fork_table.give_up(connection, target)
        raise


def _copy_all(access: Access, copier: Copier, target: int) -> Generator[None]:
    pace, is_left = Pace(100, _MOST_PER_SLICE, _LEAST_PER_SLICE, limits.SLICE_SECONDS), True
    while is_left:
        with pace.slice() as count, access.repeatable() as connection:
            is_left = _copy_some(connection, target, count, copier.fold)
        yield
    with access.transaction() as connection:  # on the disk, before anybody is told
        if (copying := fork_table.find(connection, "target", target)) is not None:
            _show(connection, copying, copier.clock())


def _copy_some(
    connection: apsw.Connection, target: int, count: int, fold: Callable[[str], str], first: int = 0
) -> bool:
    """Copy the next messages that are not before row `first`; returns whether some are left."""
    copying = fork_table.find(connection, "target", target)
    if copying is None:  # it was finished, or erased
        return False
    after, index = _copy(connection, copying, min(count, copying.places), fold, first)
    put_index(connection, index)
    connection.execute(
        "UPDATE sessions SET message_count = message_count + ? WHERE id = ?", (len(index), target)
    )
    fork_table.put(connection, after)
    return len(index) == count and after.places > 0


def _copy(
    connection: apsw.Connection,
    copying: Copying,
    count: int,
    fold: Callable[[str], str],
    first: int = 0,
) -> tuple[Copying, dict[int, str]]:
    """Copy the next messages; returns how far it is then, and their texts to index, by row.

    What an erasure of an author is about to take is passed over.
    """
    but, values = author_erasure.but_those_of(author_erasure.load(connection))
    found: list[Any] = connection.execute(
        f"{_NEXT}{but} ORDER BY id DESC LIMIT ?",
        (copying.source, copying.next_row, first, *values, count),
    ).fetchall()
    if not found:
        return copying, {}
    op_id, places = unpack_id(copying.op_id), range(copying.places, copying.places - count, -1)
    rows, index, ids = list[Any](), dict[int, str](), dict[str, str]()
    for place, (_, was, role, content, *others) in zip(places, found, strict=False):
        row, new = copying.base + place, nth_message_id(op_id, place)
        rows.append((row, copying.target, pack_id(new), role, content, *others))
        index[row], ids[unpack_id(was)] = fold(content), new
    put_messages(connection, rows[::-1])
    summarized: Any = connection.execute(_SUMMARIZED, (copying.target,)).fetchall()
    connection.executemany(
        "UPDATE messages SET upto = ? WHERE session_id = ? AND upto = ?",
        [(ids[upto], copying.target, upto) for (upto,) in summarized if upto in ids],
    )
    left = copying.places - len(found)
    return copying._replace(next_row=found[-1][0], places=left), index


def _show(connection: apsw.Connection, copying: Copying, now: int) -> None:
    """Give the fork its key: all of it is copied."""
    connection.execute(
        "UPDATE sessions SET key = ?, last_activity = max(last_activity, ?) WHERE id = ?",
        (copying.new_key, now, copying.target),
    )
    fork_table.drop(connection, copying.target)


def give_way(group: WriteGroup, operation: Write) -> None:
    """Copy at once what an operation is about to change, and all of a fork that it is about."""
    connection = group._connection
    forks = fork_table.load(connection)
    group._memory.is_forking = bool(forks)
    keys = sessions_of(operation)
    for copying in forks:
        if copying.new_key in keys:
            _hurry(group, copying, 0)
        elif not spares_messages(operation) and any(
            (session := group._find(key)) is not None and session.id == copying.source
            for key in keys
        ):
            _hurry(group, copying, _first_changed(group, operation))


def give_way_to_all(group: WriteGroup, operation: DeleteSessions) -> None:
    """Copy at once what is copied to or from a session that is about to be deleted."""
    for copying in fork_table.load(group._connection):
        sql = "SELECT key FROM sessions WHERE id = ?"
        key: Any = group._connection.execute(sql, (copying.source,)).get
        if any((name or "").startswith(operation.prefix) for name in (key, copying.new_key)):
            _hurry(group, copying, 0)


def _first_changed(group: WriteGroup, operation: Write) -> int:
    """The first of the rows that an operation may change; beyond all if it changes none."""
    named: list[tuple[str | None, str | None]]
    if isinstance(operation, Replace | Rollback):
        named = [(operation.message_id, operation.platform_id)]
    elif isinstance(operation, EndTurn):
        named = [(id_, None) for id_ in operation.remove]
    elif isinstance(operation, Rewind):
        named = [(operation.to, None)]
    elif isinstance(operation, Splice | Pop):
        return min(splicing.rows_of(group, operation), default=_ALL)
    else:
        return 0
    rows = [group._locate(operation.key, *ids)[1] for ids in named]
    return min([row for row in rows if row is not None], default=_ALL)


def _hurry(group: WriteGroup, copying: Copying, first: int) -> None:
    """Copy what is in row `first` of the source and after it; all, if that is 0."""
    connection = group._connection
    if first >= copying.next_row:
        return
    group.flush()
    while _copy_some(connection, copying.target, _MOST_PER_SLICE, group._fold, first):
        pass
    if first == 0:
        _show(connection, copying, group._now)
