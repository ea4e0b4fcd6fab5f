"""The operations of one transaction: the hot path.

Their writes are collected (`Pending`). An operation that reads the tables flushes first, so every
operation sees the effects of all earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.forks import Fork
from backscroll.contract.ids import message_id as nth_message_id
from backscroll.contract.lifecycle import DeleteSessions, Merge, Rename
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import (
    Append,
    Clear,
    Delete,
    Describe,
    Erase,
    Operation,
    RenameAgent,
    Replace,
    Rollback,
    Write,
)
from backscroll.contract.results import Outcome
from backscroll.contract.splicing import Pop, Splice
from backscroll.contract.turns import BeginTurn, EndTurn
from backscroll_worker.contract.attributes import with_turn
from backscroll_worker.contract.takeover import (
    ImportSession,
    RestoreSession,
    has_another_history,
    known_attributes,
    turn_times,
    turn_times_of,
)
from backscroll_worker.contract.tombstones import emptied_by
from backscroll_worker.contract.turns import CONFLICT, is_conditional, lease_of, outcome
from backscroll_worker.contract.waiting import arrived, may_wait
from backscroll_worker.stores.sqlite import (
    attributes,
    backfilling,
    deleting,
    edits,
    forks,
    lifecycle,
    merging,
    popped,
    session_meta,
    session_states,
    splicing,
)
from backscroll_worker.stores.sqlite import restore as restoring
from backscroll_worker.stores.sqlite.maintenance import author_erasure, erasure
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.stores.sqlite.packed_ids import pack_id
from backscroll_worker.stores.sqlite.waiting import forget
from backscroll_worker.stores.sqlite.write_group import WriteGroup
from backscroll_worker.stores.sqlite.writer_cache import KnownSession


class Group(WriteGroup):
    """What each operation does, in a group of them."""

    def write(self, operation: Write) -> Outcome:
        """Apply one write, unless its op id has been applied before."""
        op_id = self._packed[operation.op_id]
        affected = self._applied.get(op_id)
        asked, since, renames = operation, -1, self._memory.renames
        if renames.latest >= 0:
            operation, since = renames.followed(operation, self._is_for)
        if affected is not None:
            if isinstance(operation, Pop):
                return popped.outcome_again(self._connection, op_id, affected)
            return self._platform_ids.outcome_again(operation, self._find, affected)
        if self._memory.is_forking:
            forks.give_way(self, operation)
        tombstones = self._memory.tombstones
        if tombstones.latest >= 0 and tombstones.may_concern(operation):
            spared = tombstones.spared(operation)
            if self._is_erased(operation) or spared is None:
                return self._outcome(operation, 0, since)
            operation = spared
        is_late = operation.was_spooled and self._is_late(operation, asked, since)
        last_row = self._memory.last_row
        affected = 0 if is_late else _HANDLERS[type(operation)](self, operation)
        may_arrive = self._has_platform_ids or not isinstance(operation, Append)
        if may_arrive and self._waiting.has_some and affected != CONFLICT and not is_late:
            affected -= self._end_waits(operation, affected, last_row)
        self._applied[op_id] = affected
        self._pending.op_ids.append((op_id, self._now, affected))
        if not is_late and (how := emptied_by(operation)) is not None:
            self._note_emptied(operation, how)
        if self._also or since >= 0:
            return self._outcome(operation, affected, since)
        return outcome(affected)

    def _outcome(self, operation: Any, affected: int, since: int) -> Outcome:
        """With what else there is to say of the present operation."""
        also, self._also = self._also, {}
        if since >= 0:
            also["key"] = operation.key
        return replace(outcome(affected), **also)

    def _append(self, operation: Append) -> int:
        session = self._find(operation.key)
        return self._added(operation, session) if self._takes(operation, session) else CONFLICT

    def _splice(self, operation: Splice) -> int:
        if not self._takes(operation, self._find(operation.key)):
            return CONFLICT
        removed = splicing.remove(self, operation)
        is_more = operation.messages or operation.session is not None
        return removed + (self._added(operation) if is_more else 0)

    def _added(self, operation: Append, session: KnownSession | None = None) -> int:
        session = session or self._find_or_create(operation.key)
        if operation.session is not None:
            lacking = attributes.lacking(self._connection, session.id, operation.session)
            if lacking:
                self._set(session, with_turn(lacking, self._now))
        messages: Sequence[ChatMessage] = operation.messages
        op_id = operation.op_id
        ids: list[bytes | str] = [self._packed[op_id]]  # also the first message's id
        if operation.places is not None:
            ids = [pack_id(id_) for id_ in operation.message_ids]
        elif len(messages) > 1:
            ids += [pack_id(nth_message_id(op_id, index)) for index in range(1, len(messages))]
        if (
            messages
            and self._platform_ids.may_repeat
            and (selected := self._platform_ids.take(session.id, ids, messages))
        ):
            ids, messages, named = selected
            if named is not None:
                self._also["message_ids"] = named
        if messages:
            self._add(session, operation.at, ids, messages)
        return len(messages)

    def _begin_turn(self, operation: BeginTurn) -> int:
        session = self._find(operation.key)
        if session is not None:
            is_known = partial(self._platform_ids.knows, session.id)
            if not self._turn(session).gives_way_to(operation, self._now, is_known):
                return CONFLICT
        affected = self._append(operation)
        if affected != CONFLICT:
            lease = lease_of(operation)
            values = {"state": "running", "turn_id": operation.op_id}
            expiry = {"turn_lease": lease, "turn_expires_at": self._now + lease}
            self._set(
                self._find_or_create(operation.key), {**with_turn(values, self._now), **expiry}
            )
        return affected

    def _end_turn(self, operation: EndTurn) -> int:
        session = self._find(operation.key)
        if session is None or not self._turn(session).is_that_of(operation.turn_id):
            return CONFLICT
        self._set(session, with_turn({"state": operation.state}, self._now))
        removed = 0
        for message_id in operation.remove:
            _, row = self._locate(operation.key, message_id)
            if row is not None:
                self._remove(session, row)
                removed += 1
        self._platform_ids.forget(session.id)  # as if the turn had not been: they may be sent again
        return removed

    def _rollback(self, operation: Rollback) -> int:
        session, row = self._locate(operation.key, operation.message_id, operation.platform_id)
        if session is None or row is None:
            return self._wait(session, operation)
        gone = self._remove(session, row)
        self._platform_ids.note_gone(session.id, [gone], self._now)
        return 1

    def _replace(self, operation: Replace) -> int:
        if is_conditional(operation) and not self._holds(operation, self._find(operation.key)):
            return CONFLICT
        session, row = self._locate(operation.key, operation.message_id, operation.platform_id)
        if session is None or row is None:
            return self._wait(session, operation)
        message = operation.message
        if self._keep_edits:
            edits.keep(self._connection, row, message, self._now)
        self._connection.execute(
            "UPDATE messages SET role = ?, content = ?, extra = ?, tokens = ifnull(?, tokens),"
            " attachments = ifnull(?, attachments) WHERE id = ?",
            (
                message.role,
                message.content,
                edits.pack_extra(message.extra),
                message.tokens,
                self._attached(message),
                row,
            ),
        )
        self._pending.forget(row)
        self._pending.index[row] = self._fold(message.content)
        self._pending.touched[session.id] = session
        return 1

    def _wait(self, session: KnownSession | None, change: Rollback | Replace) -> int:
        """Have a change wait for its message, if that may still arrive."""
        id_ = change.platform_id
        if (
            id_ is not None
            and may_wait(change, self._memory.tombstones)
            and (not session or self._platform_ids.find(session.id, id_) is None)
        ):
            self._waiting.hold(change)
        return 0

    def _end_waits(self, operation: Write, affected: int, last_row: int) -> int:
        """Carry out what has waited for the operation's messages.

        Returns how many are gone by it of those that an append added, which are after `last_row`.
        """
        is_append, gone = isinstance(operation, Append), 0
        if messages := arrived(operation, affected):
            for change in self._waiting.take(operation.key, messages):  # type: ignore[attr-defined]
                _, row = self._locate(change.key, None, change.platform_id)
                gone += self._catch_up(change) * (is_append and (row or 0) > last_row)
        if gone and self._also:  # which has ids of messages that are gone again
            again = self._platform_ids.outcome_again(operation, self._find, affected - gone)
            self._also["message_ids"] = again.message_ids
        return gone

    def _catch_up(self, change: Rollback | Replace) -> int:
        """Carry out what has waited; returns how many messages are gone by it."""
        if isinstance(change, Rollback):
            return self._rollback(change)
        self._replace(change)
        return 0

    def _clear(self, operation: Clear) -> int:
        session = self._find(operation.key)
        if session is None:
            return 0
        count = session.message_count
        if count > detached.MOST_AT_ONCE:
            splicing.empty(self, session)
        else:
            gone = self._delete_messages(session)
            self._platform_ids.note_gone(session.id, gone, self._now)
        session.message_count = 0
        self._pending.touched[session.id] = session
        return count

    def _rename(self, operation: Rename) -> int:
        if (renamed := lifecycle.rename(self, operation)) > 0:
            self._catch_up_moved(operation.key, operation.new_key)
        return renamed

    def _merge(self, operation: Merge) -> int:
        is_there = self._find(operation.key) is not None
        merged = merging.merge(self, operation)
        if is_there and self._find(operation.key) is None:
            self._catch_up_moved(operation.key, operation.into)
        return merged

    def _fork(self, operation: Fork) -> int:
        is_awaited = self._waiting.has_for(operation.new_key)
        if (copied := forks.fork(self, operation, at_once=is_awaited)) > 0 and is_awaited:
            self._catch_up_moved(operation.new_key, operation.new_key)
        return copied

    def _catch_up_moved(self, key: str, new_key: str) -> None:
        """Carry out what has waited under either key, as far as its messages are there now."""
        session = self._find_or_create(new_key)
        for change in self._waiting.moved(key, new_key):
            if self._platform_ids.knows(session.id, change.platform_id or ""):
                self._catch_up(change)
            else:
                self._waiting.hold(change)

    def _describe(self, operation: Describe) -> int:
        session = self._find_or_create(operation.key)
        attributes = session_meta.described(self._connection, session.id, operation.attributes)
        self._set(session, with_turn(attributes, self._now))
        return 1

    def _import_session(self, operation: ImportSession) -> int:
        session = self._find(operation.key)
        if session is not None and session.message_count:
            raise has_another_history(operation.key)
        if not all(message.message_id for message in operation.messages):
            raise OperationRefusedError("a message has no id")
        session = self._find_or_create(operation.key)
        if operation.attributes:
            times = operation.turn_started_at, operation.turn_expires_at
            turn = turn_times(operation.attributes, times, self._now)
            self._set(session, {**operation.attributes, **turn})
        session_states.put(self._connection, session.id, operation.states)
        self._take_over(session, operation.at, operation.messages)
        self._pending.imported[session.id] = session, operation.created_at, operation.last_activity
        return len(operation.messages)

    def _restore_session(self, operation: RestoreSession) -> int:
        self.flush()
        detached.give_way(self._connection, operation)
        missing = restoring.missing(self._connection, operation.messages)
        existing, info = self._find(operation.key), operation.info
        if existing is None and operation.messages and not missing:
            return 0  # they are in another session
        if existing is not None:
            missing = self._platform_ids.absent(existing.id, missing)
        now_there = [] if existing is None else restoring.take_out(self._connection, existing.id)
        for row, _ in now_there:
            self._pending.forget(row)
        erasing = self._memory.erasing
        now_there = [each for each in now_there if not author_erasure.takes(erasing, *each)]
        session = self._find_or_create(operation.key)
        session.message_count = 0
        self._take_over(session, operation.at, (*missing, *(message for _, message in now_there)))
        times = restoring.times(self._connection, session.id, info, is_new=existing is None)
        self._pending.imported[session.id] = session, *times
        if existing is None:
            archived = known_attributes(info)
            turn = turn_times(archived, turn_times_of(info), self._now)
            self._set(session, {**archived, **turn})
            session_states.put(self._connection, session.id, operation.states)
        elif info.pinned:
            self._set(session, {"pinned": True})
        return len(missing)

    def _rename_agent(self, operation: RenameAgent) -> int:
        renamed = self._connection.execute(
            "UPDATE sessions SET agent = ? WHERE agent = ?"
            " AND (key IS NOT NULL OR id IN (SELECT target FROM forks)) RETURNING id",
            (operation.new, operation.old),
        )
        return len(renamed.fetchall())

    def _erase(self, operation: Erase) -> int:
        self.flush()
        lifecycle.forget_renames(self, operation)
        self._sessions.clear()
        moments, memory = (self._now, self._clock.latest), self._memory
        affected = erasure.begin(self._connection, *moments, operation, memory.tombstones)
        memory.erasing = author_erasure.load(self._connection)
        return affected

    def _is_erased(self, operation: Write) -> bool:
        """Whether the operation was requested before its session or subject was erased.

        If it attributes a session to an erased subject, the session's earlier messages are deleted.
        """
        tombstones = self._memory.tombstones
        if tombstones.cover(operation):
            return True
        tombstone = tombstones.of_described(operation)
        if tombstone is None or not isinstance(operation, Describe | Append):
            return False
        key = operation.key
        erasure.note(self._connection, tombstones, [("key", key)], tombstone)
        forget(self._connection, [key])
        session = self._find(key)
        if session is not None:
            self._pending.flush_rows(self._connection)
            for row in erasure.delete_late(self._connection, session.id, tombstone.erased_at):
                self._pending.forget(row)
                session.message_count -= 1
                self._pending.touched[session.id] = session
            self._platform_ids.forget(session.id)
            if not session.message_count:
                deleting.delete(self, Delete(operation.op_id, operation.at, key))
        return True


_HANDLERS: Final[dict[type[Operation], Callable[[Group, Any], int]]] = {
    Append: Group._append,
    Splice: Group._splice,
    BeginTurn: Group._begin_turn,
    EndTurn: Group._end_turn,
    Rollback: Group._rollback,
    Replace: Group._replace,
    Clear: Group._clear,
    Delete: deleting.delete,
    DeleteSessions: deleting.delete_sessions,
    Describe: Group._describe,
    Rename: Group._rename,
    Merge: Group._merge,
    Fork: Group._fork,
    RenameAgent: Group._rename_agent,
    ImportSession: Group._import_session,
    RestoreSession: Group._restore_session,
    Erase: Group._erase,
    **backfilling.HANDLERS,
    **lifecycle.HANDLERS,
    **splicing.HANDLERS,
}
