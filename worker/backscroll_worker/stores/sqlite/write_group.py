"""A group of writes on an open transaction, before any operation: what all of them do.

The writes are collected (`Pending`). An operation that reads the tables flushes first, so every
operation sees the effects of all earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apsw

from backscroll.contract.messages import ChatMessage, circumstances, to_micros
from backscroll.contract.operations import (
    Append,
    Operation,
    Replace,
    Write,
)
from backscroll.contract.splicing import Pop
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.tombstones import keys_of
from backscroll_worker.contract.turns import Turn, is_conditional
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.sqlite import (
    attributes,
    edits,
    emptied,
    session_meta,
)
from backscroll_worker.stores.sqlite.attachments import dumps
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.packed_ids import pack_id
from backscroll_worker.stores.sqlite.pending import Pending
from backscroll_worker.stores.sqlite.platform_ids import PlatformIds
from backscroll_worker.stores.sqlite.reads import row_of
from backscroll_worker.stores.sqlite.waiting import WaitingChanges
from backscroll_worker.stores.sqlite.writer_cache import KnownSession, Memory


class WriteGroup:
    """Collects the effects of writes on an open transaction; `flush` writes them all."""

    def __init__(
        self,
        connection: apsw.Connection,
        now: int,
        operations: Sequence[Operation],
        memory: Memory,
        fold: Callable[[str], str],
        *,
        clock: StoreClock,
        keep_edits: bool,
        blobs: Blobs,
    ) -> None:
        self._blobs = blobs
        self._fold = fold
        self._clock = clock
        self._keep_edits = keep_edits
        self._connection = connection
        self._now = now
        self._memory = memory
        memory.tombstones.reopened = clock.reopened
        if memory.erasing:  # slices between the groups end these erasures
            memory.erasing = author_erasure.load(connection)
        self._sessions = memory.sessions
        self._pending = Pending(now, memory)
        self._packed = {op.op_id: pack_id(op.op_id) for op in operations if isinstance(op, Write)}
        self._applied = memory.applied(connection, self._packed.values())
        self._platform_ids = PlatformIds(connection, self._pending)
        self._waiting = WaitingChanges(connection, now)
        are_keys_final = memory.renames.latest < 0 and not memory.is_forking
        self._has_platform_ids = self._platform_ids.expect(
            operations, self._find, are_keys_final=are_keys_final
        )
        self._also: dict[str, Any] = {}
        """What the outcome of the present operation says besides how much it affected."""

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

    def _flush_rows(self) -> None:
        self._pending.flush_rows(self._connection)

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
        return self._find(key) or self._create(key)

    def _create(self, key: str) -> KnownSession:
        self._connection.execute(
            "INSERT INTO sessions(key, state, pinned, created_at, last_activity, message_count)"
            " VALUES (?, 'idle', 0, ?, ?, 0)",
            (key, self._now, self._now),
        )
        session = self._sessions[key] = KnownSession(self._connection.last_insert_rowid(), 0)
        self._platform_ids.new_sessions.add(session.id)
        return session

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
            attached = self._attached(message) if message.attachments else None
            rows.append((row, session_id, own_id, *said, *circumstances(message), attached))
            index[row] = self._fold(content)
        self._memory.last_row = row
        session.message_count += len(messages)
        self._pending.touched[session_id] = session

    def _attached(self, message: ChatMessage) -> str | None:
        """What is attached, as it is in a row, with its bytes in files; None for nothing."""
        stored = self._blobs.stored(message.attachments)
        return dumps(stored) if stored else None

    def _locate(
        self, key: str, message_id: str | None, platform_id: str | None = None
    ) -> tuple[KnownSession | None, int | None]:
        """The session and the row of its last message, or of the one named."""
        session = self._find(key)
        if session is None:
            return None, None
        self._flush_rows()
        if message_id is not None or platform_id is not None:
            row = row_of(self._connection, session.id, message_id, platform_id)
            return session, None if row is None or self._is_being_erased(row) else row
        index = "messagerow_session_id"  # otherwise SQLite may scan all messages backwards
        sql = f"SELECT max(id) FROM messages INDEXED BY {index} WHERE session_id = ?"  # noqa: S608
        but, values = author_erasure.but_those_of(self._memory.erasing)
        last: Any = self._connection.execute(sql + but, (session.id, *values)).get
        return session, last

    def _is_being_erased(self, row: int) -> bool:
        if not (erasing := self._memory.erasing):
            return False
        but, values = author_erasure.but_those_of(erasing)
        sql = "SELECT 1 FROM messages WHERE id = ?" + but  # noqa: S608
        return self._connection.execute(sql, (row, *values)).get is None

    def _remove(self, session: KnownSession, row: int) -> str | None:
        """Delete a message; returns the platform's id of it."""
        deleted = "DELETE FROM messages WHERE id = ? RETURNING platform_id"
        platform_id: str | None = self._connection.execute(deleted, (row,)).get
        self._pending.forget(row)
        session.message_count -= 1
        self._pending.touched[session.id] = session
        return platform_id

    def _delete_messages(self, session: KnownSession) -> list[str | None]:
        """Delete them; returns the platform's ids of them."""
        self._pending.flush_rows(self._connection)
        rows: list[Any] = self._connection.execute(
            "DELETE FROM messages WHERE session_id = ? RETURNING id, platform_id", (session.id,)
        ).fetchall()
        for row, _ in rows:
            self._pending.forget(row)
        return [platform_id for _, platform_id in rows]

    def _set(self, session: KnownSession, values: Mapping[str, Any]) -> None:
        attributes.put(self._connection, session.id, values)
        if "closed" in values:
            session.closed = values["closed"]

    def _take_over(self, session: KnownSession, at: int, messages: Sequence[ChatMessage]) -> None:
        """Add imported or restored messages, with their ids and earlier versions."""
        first = self._memory.last_row + 1
        self._add(session, at, [pack_id(each.message_id or "") for each in messages], messages)
        self._pending.edited += [
            (row, each) for row, each in enumerate(messages, first) if each.edits
        ]
        self._pending.touched.pop(session.id, None)  # its last activity does not change
        self._platform_ids.forget(session.id)

    def _turn(self, session: KnownSession) -> Turn:
        row: Any
        (row,) = self._connection.execute(
            "SELECT state, turn_id, turn_expires_at, turn_lease FROM sessions WHERE id = ?",
            (session.id,),
        )
        return Turn(*row)

    def _is_for(self, key: str, operation: Any) -> bool:
        """Whether the session runs the operation's turn, or has messages that a pop names."""
        session = self._find(key)
        if session is None or not isinstance(operation, Pop):
            return session is not None and self._turn(session).is_that_of(operation.turn_id)
        ids = operation.message_ids or ()
        return any(self._locate(key, each)[1] is not None for each in ids)

    def _takes(self, operation: Append, known: KnownSession | None) -> bool:
        """Whether the session takes the messages, if there is one; otherwise it is a conflict."""
        if known is not None and known.closed and operation.needs_open:
            return False
        if known is not None and operation.session is not None:
            session_meta.described(self._connection, known.id, operation.session)  # or refused now
        return not is_conditional(operation) or self._holds(operation, known)

    def _holds(self, operation: Append | Replace, session: KnownSession | None) -> bool:
        """Whether the condition of a write holds; one under a turn id renews the lease."""
        if operation.tail is not None and not self._ends_with(session, operation.tail):
            return False
        if operation.turn_id is not None:
            turn = None if session is None else self._turn(session)
            if turn is None or session is None or not turn.is_that_of(operation.turn_id):
                return False
            if turn.lease is not None:
                self._set(session, {"turn_expires_at": turn.renewed(self._now)})
        return True

    def _ends_with(self, session: KnownSession | None, tail: Sequence[str]) -> bool:
        """Whether these are the ids of its last messages; for none, whether it has no messages."""
        if session is None:
            return not tail
        self._flush_rows()
        but, values = author_erasure.but_those_of(self._memory.erasing)
        last: Iterable[Any] = self._connection.execute(
            "SELECT message_id FROM messages INDEXED BY messagerow_session_id"  # noqa: S608
            f" WHERE session_id = ?{but} ORDER BY id DESC LIMIT ?",
            (session.id, *values, max(1, len(tail))),
        )
        return [id_ for (id_,) in last] == [pack_id(id_) for id_ in reversed(tail)]

    def _note_emptied(self, operation: Write, how: str) -> None:
        key: str = operation.key  # type: ignore[attr-defined]
        emptied.note(self._connection, how, operation, key, self._clock.latest, self._now)

    def _is_late(self, operation: Write, asked: Write, since: int) -> bool:
        """Also where it was `asked` for under a key that its session had until `since`."""
        place, tombstones = (self._connection, operation), self._memory.tombstones
        before: Any = getattr(asked, "key", None)
        if since >= 0 and emptied.is_late(*place, before, tombstones, until=since):
            return True
        return any(emptied.is_late(*place, key, tombstones, since) for key in keys_of(operation))
