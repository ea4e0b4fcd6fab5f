"""The operations of one transaction: the hot path.

Their writes are collected (`Pending`). An operation that reads the tables flushes first, so every
operation sees the effects of all earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import apsw

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.ids import message_id as nth_message_id
from backscroll.contract.messages import ChatMessage, SessionAttributes, circumstances, to_micros
from backscroll.contract.operations import (
    Append,
    BeginTurn,
    Clear,
    Delete,
    Describe,
    EndTurn,
    Erase,
    Operation,
    RenameAgent,
    Replace,
    Rollback,
    Write,
)
from backscroll.contract.results import Outcome
from backscroll.contract.validation import ATTRIBUTES
from backscroll_worker.contract.attributes import differing, with_turn
from backscroll_worker.contract.clock import StoreClock, no_later
from backscroll_worker.contract.takeover import (
    ImportSession,
    RestoreSession,
    archived_attributes,
    has_another_history,
)
from backscroll_worker.contract.tombstones import emptied_by
from backscroll_worker.contract.turns import CONFLICT, Turn, is_conditional, lease_of, outcome
from backscroll_worker.stores.sqlite import edits, emptied, lifecycle
from backscroll_worker.stores.sqlite import restore as restoring
from backscroll_worker.stores.sqlite.maintenance import erasure
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.stores.sqlite.name_index import index_name
from backscroll_worker.stores.sqlite.pending import Pending
from backscroll_worker.stores.sqlite.schema import pack_id
from backscroll_worker.stores.sqlite.writer_cache import KnownSession, Memory


class Group:
    """Collects the effects of writes on an open transaction; `flush` writes them all."""

    def __init__(
        self,
        connection: apsw.Connection,
        now: int,
        operations: Iterable[Operation],
        memory: Memory,
        fold: Callable[[str], str],
        *,
        clock: StoreClock,
        keep_edits: bool,
    ) -> None:
        self._fold = fold
        self._clock = clock
        self._keep_edits = keep_edits
        self._connection = connection
        self._now = now
        self._memory = memory
        memory.tombstones.reopened = clock.reopened
        self._sessions = memory.sessions
        self._pending = Pending(now, memory)
        self._packed = {op.op_id: pack_id(op.op_id) for op in operations if isinstance(op, Write)}
        self._applied = self._already_applied()

    def write(self, operation: Write) -> Outcome:
        """Apply one write, unless its op id has been applied before."""
        op_id = self._packed[operation.op_id]
        affected = self._applied.get(op_id)
        if affected is not None:
            return outcome(affected, duplicate=True)
        asked, since = operation, -1
        if operation.at <= self._memory.renames.latest:
            operation, since = self._memory.renames.followed(operation)
        if operation.at <= self._memory.tombstones.latest and self._is_erased(operation):
            return outcome(0)
        is_late = operation.was_spooled and self._is_late(operation, asked, since)
        affected = 0 if is_late else _HANDLERS[type(operation)](self, operation)
        self._applied[op_id] = affected
        self._pending.op_ids.append((op_id, self._now, affected))
        if not is_late and (how := emptied_by(operation)) is not None:
            self._note_emptied(operation, how)
        return outcome(affected)

    def flush(self) -> None:
        """Write everything collected to the transaction."""
        self.flush_tables()
        self.flush_index()

    def flush_tables(self) -> None:
        """Write all but the new index entries; `flush_index` has to follow."""
        self._pending.flush_tables(self._connection)

    def flush_index(self) -> None:
        """Write the new index entries: one or two long SQLite calls."""
        self._pending.flush_index(self._connection)

    def _already_applied(self) -> dict[bytes | str, int]:
        maybe = self._memory.maybe_applied(self._packed.values())
        found = self._connection.executemany(
            "SELECT op_id, affected FROM applied WHERE op_id = ?", [(op_id,) for op_id in maybe]
        )
        return dict(cast(Iterable[tuple[bytes | str, int]], found))

    def _find(self, key: str) -> KnownSession | None:
        session = self._sessions.get(key)
        if session is None:
            row = self._connection.execute(
                "SELECT id, message_count, closed FROM sessions WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                session = self._sessions[key] = KnownSession(*row)
        return session

    def _find_or_create(self, key: str) -> KnownSession:
        session = self._find(key)
        if session is None:
            self._connection.execute(
                "INSERT INTO sessions(key, state, pinned, created_at, last_activity, message_count)"
                " VALUES (?, 'idle', 0, ?, ?, 0)",
                (key, self._now, self._now),
            )
            session = self._sessions[key] = KnownSession(self._connection.last_insert_rowid(), 0)
        return session

    def _append(self, operation: Append) -> int:
        if is_conditional(operation) and not self._holds(operation):
            return CONFLICT
        session = self._find_or_create(operation.key)
        if session.closed:
            return CONFLICT
        if operation.session is not None:
            self._update_attributes(session, operation.session)
        messages, op_id = operation.messages, operation.op_id
        ids = [self._packed[op_id]]  # also the first message's id
        if len(messages) > 1:
            ids += [pack_id(nth_message_id(op_id, index)) for index in range(1, len(messages))]
        self._add(session, operation.at, ids, messages)
        return len(messages)

    def _add(
        self,
        session: KnownSession,
        at: int,
        ids: Iterable[bytes | str],
        messages: Sequence[ChatMessage],
    ) -> None:
        """Append messages to a session; those without a time of their own were sent `at`."""
        row, session_id, moment, created_at = self._memory.last_row, session.id, None, at
        rows, index = self._pending.rows, self._pending.index
        for own_id, message in zip(ids, messages, strict=True):
            row += 1
            if message.created_at is not moment:  # many share the same object
                moment = message.created_at
                created_at = at if moment is None else to_micros(moment)
            role, content, extra = message.role, message.content, message.extra
            packed_extra = None if extra is None else edits.pack_extra(extra)
            said = role, content, packed_extra, created_at
            rows.append((row, session_id, own_id, *said, *circumstances(message)))
            index[row] = self._fold(content)
        self._memory.last_row = row
        session.message_count += len(messages)
        self._pending.touched[session_id] = session

    def _holds(self, operation: Append | Replace) -> bool:
        """Whether the condition of a write holds; one under a turn id renews the lease."""
        session = self._find(operation.key)
        if isinstance(operation, Append) and (tail := operation.expect_tail) is not None:
            _, last = self._locate(operation.key, None)
            expected = None if tail == "" else self._locate(operation.key, tail)[1]
            if last != expected or (last is None and tail != ""):
                return False
        if operation.turn_id is not None:
            turn = None if session is None else self._turn(session)
            if turn is None or session is None or not turn.is_that_of(operation.turn_id):
                return False
            if turn.lease is not None:
                self._set(session, {"turn_expires_at": turn.renewed(self._now)})
        return True

    def _turn(self, session: KnownSession) -> Turn:
        (row,) = self._connection.execute(
            "SELECT state, turn_id, turn_expires_at, turn_lease FROM sessions WHERE id = ?",
            (session.id,),
        )
        return Turn(*cast(tuple[Any, ...], row))

    def _begin_turn(self, operation: BeginTurn) -> int:
        session = self._find(operation.key)
        is_free = session is None or self._turn(session).is_free(self._now)
        if not (is_free or operation.supersedes):
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
        return sum(self._remove(operation.key, each) for each in operation.remove)

    def _rollback(self, operation: Rollback) -> int:
        return self._remove(operation.key, operation.message_id)

    def _remove(self, key: str, message_id: str | None) -> int:
        session, row = self._locate(key, message_id)
        if session is None or row is None:
            return 0
        self._connection.execute("DELETE FROM messages WHERE id = ?", (row,))
        self._pending.forget(row)
        session.message_count -= 1
        self._pending.touched[session.id] = session
        return 1

    def _replace(self, operation: Replace) -> int:
        if is_conditional(operation) and not self._holds(operation):
            return CONFLICT
        session, row = self._locate(operation.key, operation.message_id)
        if session is None or row is None:
            return 0
        message = operation.message
        if self._keep_edits:
            edits.keep(self._connection, row, message, self._now)
        self._connection.execute(
            "UPDATE messages SET role = ?, content = ?, extra = ?, tokens = ifnull(?, tokens)"
            " WHERE id = ?",
            (message.role, message.content, edits.pack_extra(message.extra), message.tokens, row),
        )
        self._pending.forget(row)
        self._pending.index[row] = self._fold(message.content)
        self._pending.touched[session.id] = session
        return 1

    def _clear(self, operation: Clear) -> int:
        session = self._find(operation.key)
        if session is None:
            return 0
        count = session.message_count
        if count > detached.MOST_AT_ONCE:
            self.flush()
            self._pending.touched.pop(session.id, None)
            session.id = detached.detach_messages(self._connection, session.id)
        else:
            self._delete_messages(session)
        session.message_count = 0
        self._pending.touched[session.id] = session
        return count

    def _delete(self, operation: Delete) -> int:
        session = self._find(operation.key)
        if session is None:
            return 0
        if session.message_count > detached.MOST_AT_ONCE:
            self.flush()
            detached.detach(self._connection, session.id)
        else:
            self._delete_messages(session)
            self._connection.execute("DELETE FROM sessions WHERE id = ?", (session.id,))
        del self._sessions[operation.key]
        self._pending.touched.pop(session.id, None)
        return 1

    def _delete_messages(self, session: KnownSession) -> None:
        self._pending.flush_rows(self._connection)
        rows: list[Any] = self._connection.execute(
            "DELETE FROM messages WHERE session_id = ? RETURNING id", (session.id,)
        ).fetchall()
        for (row,) in rows:
            self._pending.forget(row)

    def _describe(self, operation: Describe) -> int:
        session = self._find_or_create(operation.key)
        self._set(session, with_turn(operation.attributes, self._now))
        return 1

    def _update_attributes(self, session: KnownSession, attributes: SessionAttributes) -> None:
        """Set the attributes that the session lacks; usually it has all of them."""
        # The names are those `check_attributes` lets through, and none of the user's.
        sql = f"SELECT {', '.join(ATTRIBUTES)} FROM sessions WHERE id = ?"  # noqa: S608
        row: Any = self._connection.execute(sql, (session.id,)).fetchone()
        changed = differing(dict(zip(ATTRIBUTES, row, strict=True)), attributes)
        if changed:
            self._set(session, with_turn(changed, self._now))

    def _set(self, session: KnownSession, values: Mapping[str, Any]) -> None:
        # The names are those `check_attributes` lets through, and none of the user's.
        assignments = ", ".join(f"{name} = ?" for name in values)
        self._connection.execute(
            f"UPDATE sessions SET {assignments} WHERE id = ?",  # noqa: S608
            (*values.values(), session.id),
        )
        if "closed" in values:
            session.closed = values["closed"]
        if "name" in values:
            index_name(self._connection, session.id, values["name"])

    def _import_session(self, operation: ImportSession) -> int:
        session = self._find(operation.key)
        if session is not None and session.message_count:
            raise has_another_history(operation.key)
        if not all(message.message_id for message in operation.messages):
            raise OperationRefusedError("a message has no id")
        session = self._find_or_create(operation.key)
        if operation.attributes:
            started = {"turn_started_at": no_later(operation.turn_started_at, self._now)}
            self._set(session, {**operation.attributes, **started})
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
        now_there = [] if existing is None else restoring.take_out(self._connection, existing.id)
        for row, _ in now_there:
            self._pending.forget(row)
        session = self._find_or_create(operation.key)
        session.message_count = 0
        self._take_over(session, operation.at, (*missing, *(message for _, message in now_there)))
        times = restoring.times(self._connection, session.id, info, is_new=existing is None)
        self._pending.imported[session.id] = session, *times
        if existing is None:
            attributes, turn_started_at = archived_attributes(info, self._now)
            self._set(session, {**attributes, "turn_started_at": turn_started_at})
        elif info.pinned:
            self._set(session, {"pinned": True})
        return len(missing)

    def _take_over(self, session: KnownSession, at: int, messages: Sequence[ChatMessage]) -> None:
        """Add imported or restored messages, with their ids and earlier versions."""
        first = self._memory.last_row + 1
        self._add(session, at, [pack_id(each.message_id or "") for each in messages], messages)
        self._pending.edited += [
            (row, each) for row, each in enumerate(messages, first) if each.edits
        ]
        self._pending.touched.pop(session.id, None)  # its last activity does not change

    def _rename_agent(self, operation: RenameAgent) -> int:
        renamed = self._connection.execute(
            "UPDATE sessions SET agent = ? WHERE agent = ? AND key IS NOT NULL RETURNING id",
            (operation.new, operation.old),
        )
        return len(renamed.fetchall())

    def _erase(self, operation: Erase) -> int:
        self.flush()
        lifecycle.forget_renames(self, operation)
        self._sessions.clear()
        moments = self._now, self._clock.latest
        return erasure.begin(self._connection, *moments, operation, self._memory.tombstones)

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
        session = self._find(key)
        if session is not None:
            self._pending.flush_rows(self._connection)
            for row in erasure.delete_late(self._connection, session.id, tombstone.erased_at):
                self._pending.forget(row)
                session.message_count -= 1
                self._pending.touched[session.id] = session
            if not session.message_count:
                self._delete(Delete(operation.op_id, operation.at, key))
        return True

    def _note_emptied(self, operation: Write, how: str) -> None:
        key: str = operation.key  # type: ignore[attr-defined]
        emptied.note(self._connection, how, operation, key, self._clock.latest, self._now)

    def _is_late(self, operation: Write, asked: Write, since: int) -> bool:
        """Also where it was `asked` for under a key that its session had until `since`."""
        key: Any = getattr(operation, "key", None)
        if key is None:
            return False
        place = self._connection, operation
        tombstones = self._memory.tombstones
        if asked is not operation and emptied.is_late(
            *place, getattr(asked, "key", ""), tombstones, until=since
        ):
            return True
        return emptied.is_late(*place, key, tombstones, since)

    def _locate(self, key: str, message_id: str | None) -> tuple[KnownSession | None, int | None]:
        """The session and the row of its last message, or of the one named."""
        session = self._find(key)
        if session is None:
            return None, None
        self._pending.flush_rows(self._connection)
        row: Any
        if message_id is None:
            index = "messagerow_session_id"  # otherwise SQLite may scan all messages backwards
            sql = f"SELECT max(id) FROM messages INDEXED BY {index} WHERE session_id = ?"  # noqa: S608
            row = self._connection.execute(sql, (session.id,)).get
        else:
            sql = "SELECT id FROM messages WHERE message_id = ? AND session_id = ?"
            row = self._connection.execute(sql, (pack_id(message_id), session.id)).get
        return session, row


_HANDLERS: Final[dict[type[Operation], Callable[[Group, Any], int]]] = {
    Append: Group._append,
    BeginTurn: Group._begin_turn,
    EndTurn: Group._end_turn,
    Rollback: Group._rollback,
    Replace: Group._replace,
    Clear: Group._clear,
    Delete: Group._delete,
    Describe: Group._describe,
    RenameAgent: Group._rename_agent,
    ImportSession: Group._import_session,
    RestoreSession: Group._restore_session,
    Erase: Group._erase,
    **lifecycle.HANDLERS,
}
