"""Sessions that get another key, or become one with another: the effects on two sessions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final, Protocol

from backscroll.contract.lifecycle import Merge, Rename, Reset
from backscroll.contract.messages import to_micros
from backscroll.contract.operations import Operation, Write
from backscroll_worker.contract.attributes import begun_anew
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.merging import check_size, in_order_of_time
from backscroll_worker.contract.session_renames import SessionRename
from backscroll_worker.contract.tombstones import EMPTIED, digest
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.jsonl.lines import Line, note_platform_ids
from backscroll_worker.stores.jsonl.maintained_session import MARK
from backscroll_worker.stores.jsonl.renames import Renames
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.waiting import WaitingChanges


class Group(Protocol):
    """The group of operations that an effect belongs to."""

    now: int
    clock: StoreClock
    renames: Renames
    waiting: WaitingChanges

    def find(self, key: str) -> Session:
        """The session, whether it exists or not."""


def rename(group: Group, operation: Rename) -> int:
    session, renamed = group.find(operation.key), group.find(operation.new_key)
    if not session.exists:
        return session._note(operation.op_id, 0)
    if renamed.exists:
        return session._note(operation.op_id, CONFLICT)
    session._note(operation.op_id, 1)
    _take_place(renamed, session)
    _redirect(group, operation, session, renamed)
    return 1


def reset(group: Group, operation: Reset) -> int:
    session, past = group.find(operation.key), group.find(operation.past_key)
    if not session.exists or not session.count:
        return session._note(operation.op_id, 0)
    if past.exists:
        return session._note(operation.op_id, CONFLICT)
    count = session.count
    _take_place(past, session)
    if past.sidecar.turn.is_running:
        past.sidecar.describe({"state": "idle"}, group.now)
    _begin_anew(session, past.key, group.now)
    _note_rename(group, operation, session.key, past.key, is_reset=True)
    return session._note(operation.op_id, count)


def merge(group: Group, operation: Merge) -> int:
    session, target = group.find(operation.key), group.find(operation.into)
    if not session.exists:
        return target._note(operation.op_id, 0)
    both = [each for each in (session, target) if each.exists]
    is_free = all(each.sidecar.turn.is_free(group.now) for each in both)
    if not is_free or (target.exists and target.is_closed):
        return target._note(operation.op_id, CONFLICT)
    if target.exists:
        check_size(operation, session.count)
        count = _take_in(target, session)
    else:
        count = session.count
        _take_place(target, session)
    _redirect(group, operation, session, target)
    return target._note(operation.op_id, count)


def _redirect(group: Group, operation: Rename | Merge, session: Session, to: Session) -> None:
    """Have the session leave, and what is for it be for the other one."""
    session.leave()
    _note_rename(group, operation, session.key, to.key)
    catch_up(group, session.key, to)


def catch_up(group: Group, key: str, to: Session) -> None:
    """Carry out what has waited under the key or the session's, if its messages are there now."""
    for change in group.waiting.moved(key, to.key):
        if to.may_come(change):
            group.waiting.hold(change, group.now)
        else:
            to.catch_up(change)


def _note_rename(
    group: Group, operation: Write, old: str, new: str, *, is_reset: bool = False
) -> None:
    asked_at = min(operation.at, group.clock.latest)
    group.renames.note_session(SessionRename(old, new, asked_at, group.now, is_reset))


def _take_place(session: Session, other: Session) -> None:
    """Be the other session, under this key."""
    session._create()
    session._rewrite()[:] = other.lines
    session._sidecar = replace(other.sidecar, key=session.key)
    session.sidecar.restored_from = _origin(other)
    session._is_described = True
    session.last_activity, session._is_touched = other.last_activity, False
    session._cached_session().count = other.count
    session._cached_session().platform_ids.update(other._cached_session().platform_ids)
    _take_records(session, other)


def _origin(session: Session) -> str:
    """The hash of the key under which messages of the session may have been archived."""
    return session.sidecar.restored_from or digest("key", session.key).hex()


def _take_in(session: Session, other: Session) -> int:
    """Have the messages of both, in the order of time; returns how many there are more."""
    own, there = session._rewrite(), session._cached_session().platform_ids
    new = [line for line in other.lines if line.message.platform_id not in there]
    lines = own[:], new
    times = [list(_times(each)) for each in lines]
    own[:] = [lines[which][index] for which, index in in_order_of_time(*times)]
    sidecar = session.sidecar
    sidecar.created_at = min(sidecar.created_at, other.sidecar.created_at)
    sidecar.restored_from = sidecar.restored_from or _origin(other)
    sidecar.popped.update(other.sidecar.popped)
    session._is_described = True
    session._touch()
    session._cached_session().count = len(own)
    note_platform_ids(own, there)
    _take_records(session, other)
    return len(new)


def _times(lines: list[Line]) -> Iterator[int]:
    for line in lines:
        at = line.message.created_at
        yield 0 if at is None else to_micros(at)


def _take_records(session: Session, other: Session) -> None:
    """Know the op ids of the other session, too, and the platform ids that it had."""
    session.transcript.damage += other.transcript.damage
    records = {**other.sidecar.applied, **other.transcript.records}
    emptied = {MARK + how for how in EMPTIED}
    known = {op_id: n for op_id, n in other.known.items() if op_id not in emptied}
    session.transcript.records.update(
        {op_id: record for op_id, record in records.items() if op_id in known}
    )
    session.known.update(known)


def _begin_anew(session: Session, past_key: str, now: int) -> None:
    """Be a new conversation: another session has taken over what this one had."""
    before = session.sidecar
    session._note_gone(session.lines)
    session._rewrite().clear()
    session.transcript.damage.clear()
    session._cached_session().count = 0
    session._sidecar = replace(
        before,
        created_at=now,
        attributes=dict(before.attributes),
        states=dict(before.states),
        popped={},  # the past one's
    )
    session.sidecar.describe(begun_anew(past_key), now)
    session._is_described = True
    session._touch()


HANDLERS: Final[dict[type[Operation], Any]] = {Merge: merge, Rename: rename, Reset: reset}
