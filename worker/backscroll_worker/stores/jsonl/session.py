"""One session while a group works on it: the effect of each operation.

Operations change only this object, and reads see their changes; `Group.flush` then writes each file
once.
"""

from __future__ import annotations

from collections.abc import Iterable

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.lifecycle import Rewind
from backscroll.contract.messages import LATEST_MICROS, ChatMessage, SessionAttributes, to_micros
from backscroll.contract.operations import Append, Clear, Delete, Describe, Replace, Rollback, Write
from backscroll.contract.states import SetState
from backscroll.contract.turns import BeginTurn, EndTurn
from backscroll.contract.validation import check_attributes
from backscroll_worker.contract.attributes import differing, with_meta
from backscroll_worker.contract.states import state_after
from backscroll_worker.contract.takeover import (
    ImportSession,
    RestoreSession,
    check_known,
    has_another_history,
)
from backscroll_worker.contract.tombstones import Tombstones, digest, emptied_by, undone_by
from backscroll_worker.contract.turns import CONFLICT, is_conditional, lease_of
from backscroll_worker.stores.jsonl.lines import (
    Line,
    Record,
    lines_of,
    may_quote,
    note_platform_ids,
)
from backscroll_worker.stores.jsonl.maintained_session import MARK, MaintainedSession, gone_mark


class Session(MaintainedSession):
    """A session after the operations so far."""

    def append(self, operation: Append) -> int:
        if not self.takes(operation):
            return self._note(operation.op_id, CONFLICT)
        return self.add(operation)

    def takes(self, operation: Append) -> bool:
        """Whether the session takes the messages, if there is one; otherwise it is a conflict."""
        if self.is_closed and operation.needs_open:
            return False
        if operation.session is not None and self.exists:
            with_meta(self.sidecar.attributes, operation.session)  # or refused now
        if is_conditional(operation) and not self._holds(operation):
            return False
        cached = self._cached or self._cached_session()
        is_one = len(operation.messages) == 1 and operation.places is None
        if not is_one and any(map(cached.known.__contains__, operation.message_ids)):
            raise OperationRefusedError(
                "a message with this operation's id is stored already, though its op id is "
                "forgotten"
            )
        return True

    def add(self, operation: Append) -> int:
        """Add the messages that the session takes; returns how many."""
        op_id, count = operation.op_id, len(operation.messages)
        cached = self._cached or self._cached_session()
        new = self._new_ones(operation)
        lines = lines_of(operation, self._directory.blobs, new)
        if new is not None or not count:
            count = self._note(op_id, len(lines))
        if lines and not self._is_touched:
            self._create()
            self._touch()
        if operation.session is not None:
            self._describe_anew(operation.session)
        self._pending += lines
        cached.count += count
        cached.known[op_id] = count
        if operation.places is not None:  # its lines alone do not record the whole op id
            self._note(op_id, count)
        return count

    def _holds(self, operation: Append | Replace) -> bool:
        """Whether the condition of a write holds; one under a turn id renews the lease."""
        if operation.tail is not None:
            lines = self.lines[-max(1, len(operation.tail)) :] if self.exists else []
            if [line.message.message_id for line in lines] != list(operation.tail):
                return False
        if operation.turn_id is not None:
            if not self.exists or not self.sidecar.turn.is_that_of(operation.turn_id):
                return False
            if self.sidecar.turn_lease is not None:
                self.sidecar.turn_expires_at = self.sidecar.turn.renewed(self._now)
                self._is_described = True
        return True

    def begin_turn(self, operation: BeginTurn) -> int:
        if self.exists and not self.sidecar.turn.gives_way_to(operation, self._now, self.knows):
            return self._note(operation.op_id, CONFLICT)
        affected = self.append(operation)
        if affected != CONFLICT:
            self._create()
            sidecar, lease = self.sidecar, lease_of(operation)
            sidecar.describe({"state": "running", "turn_id": operation.op_id}, self._now)
            sidecar.turn_lease, sidecar.turn_expires_at = lease, self._now + lease
            self._is_described = True
        return affected

    def end_turn(self, operation: EndTurn) -> int:
        if not self.exists or not self.sidecar.turn.is_that_of(operation.turn_id):
            return self._note(operation.op_id, CONFLICT)
        self.sidecar.describe({"state": operation.state}, self._now)
        self._is_described = True
        removed = set(operation.remove)
        lines = self.lines if removed else []
        kept = [line for line in lines if line.message.message_id not in removed]
        count = len(lines) - len(kept)
        if not count:
            return self._note(operation.op_id, 0)
        self._touch()
        self._rewrite()[:] = kept
        cached = self._cached_session()  # as if the turn had not been: they may be sent again
        cached.count, cached.platform_ids = len(kept), note_platform_ids(kept, {})
        return self._done(operation.op_id, count)

    def stored_ids(self, operation: Append) -> tuple[str, ...] | None:
        """The ids of its messages as they are stored; None if they follow from the op id."""
        known = self._cached_session().platform_ids
        ids = tuple(
            known.get(message.platform_id or "", id_)
            for message, id_ in zip(operation.messages, operation.message_ids, strict=True)
        )
        return None if ids == operation.message_ids else ids

    def message_id_of(self, platform_id: str) -> str | None:
        """The id of the message with that platform id; None if there is none."""
        return self._cached_session().platform_ids.get(platform_id)

    def rollback(self, operation: Rollback) -> int:
        affected = self._remove(self._index(operation))
        return self._done(operation.op_id, 1) if affected else self._note(operation.op_id, 0)

    def rewind(self, operation: Rewind) -> int:
        index = self._index_of(operation.to) if self.exists else None
        count = 0 if index is None else self.count - 1 - index
        if not count:
            return self._note(operation.op_id, 0)
        self._touch()
        self._note_gone(self.lines[-count:])
        del self._rewrite()[-count:]
        self._cached_session().count -= count
        return self._done(operation.op_id, count)

    def replace(self, operation: Replace) -> int:
        if is_conditional(operation) and not self._holds(operation):
            return self._note(operation.op_id, CONFLICT)
        affected = self._put(self._index(operation), operation.message)
        return self._done(operation.op_id, 1) if affected else self._note(operation.op_id, 0)

    def may_come(self, change: Rollback | Replace) -> bool:
        """Whether the change names a message by its platform id that was never there."""
        return change.platform_id is not None and not self.knows(change.platform_id)

    def knows(self, platform_id: str) -> bool:
        """Whether the session has, or had, such a message."""
        cached = self._cached_session()
        return platform_id in cached.platform_ids or gone_mark(platform_id) in cached.known

    def catch_up(self, change: Rollback | Replace, operation: Write | None = None) -> int:
        """Apply what has waited for its message, which an operation brought; returns how many
        messages of an append are gone by it.
        """
        index = self._index(change)
        if isinstance(change, Rollback):
            return self._remove(index)
        self._put(index, change.message)
        return 0

    def _remove(self, index: int | None) -> int:
        if index is None:
            return 0
        self._touch()
        self._note_gone(self.lines[index : index + 1])
        del self._rewrite()[index]
        self._cached_session().count -= 1
        return 1

    def _put(self, index: int | None, message: ChatMessage) -> int:
        if index is None:
            return 0
        kept_at = self._now if self._keep_edits else None
        message = self._directory.blobs.keep(message)
        line = self.lines[index].with_message(message, kept_at)
        self._touch()
        self._rewrite()[index] = line
        return 1

    def clear(self, operation: Clear) -> int:
        if not self.exists:
            self._note_emptied(operation)
            return self._note(operation.op_id, 0)
        count = self.count
        self._touch()
        self._note_gone(self.lines)
        self._rewrite().clear()
        self.transcript.damage.clear()
        self._cached_session().count = 0
        self._note_emptied(operation)
        return self._done(operation.op_id, count)

    def delete(self, operation: Delete) -> int:
        self._note_emptied(operation)
        affected = self._note(operation.op_id, int(self.exists))
        if self.exists:
            self.leave()
        return affected

    def is_late(
        self,
        operation: Write,
        tombstones: Tombstones,
        since: int = -1,
        until: int = LATEST_MICROS,
    ) -> bool:
        """Whether the session was deleted or cleared after the operation was requested.

        Before `since` and after `until` another session had the key.
        """
        moments = [self.applied(MARK + how) for how in undone_by(operation)]
        return tombstones.is_obsolete(operation, self.key, moments, since, until)

    def note(self, op_id: str, affected: int) -> int:
        """Record an operation of the group that changes nothing here."""
        return self._note(op_id, affected)

    def drop_late(self, operation: Write) -> int:
        """Record the operation without applying it; a resend that was not spooled is dropped."""
        return self._note(operation.op_id, 0)

    def _note_emptied(self, operation: Clear | Delete) -> None:
        """Record the time before which spooled operations are late, under an impossible op id."""
        name = f"{MARK}{emptied_by(operation)}"
        self.transcript.records.pop(name, None)
        self._note(name, max(min(operation.at, self._now), self.applied(name) or 0))

    def describe(self, operation: Describe) -> int:
        check_attributes(operation.attributes)
        self._create()
        attributes = with_meta(self.sidecar.attributes, operation.attributes)
        self.sidecar.describe(attributes, self._now)
        self.sidecar.applied[operation.op_id] = Record(self._now, 1)
        self._is_described = True
        return self._done(operation.op_id, 1)

    def _describe_anew(self, attributes: SessionAttributes) -> None:
        """Set the attributes that the session lacks; usually it has all of them.

        An unreadable sidecar is left for a repair: it may contain more than these.
        """
        sidecar = self.sidecar
        changed = None if sidecar.is_damaged else differing(sidecar.attributes, attributes)
        if changed:
            sidecar.describe(changed, self._now)
            self._is_described = True

    def set_state(self, operation: SetState) -> int:
        states = self.sidecar.states if self.exists else {}
        state = state_after(states, operation)
        if state is None:
            return self._note(operation.op_id, CONFLICT)
        if state is not states.get(operation.name) and state.version:
            self._create()
            self.sidecar.states[operation.name] = state
            self._is_described = True
        return self._note(operation.op_id, state.version)

    def rename_agent(self, old: str, new: str | None) -> bool:
        """Change the agent's alias if it is `old`; returns whether it was."""
        if self.sidecar.attributes.get("agent") != old:
            return False
        self.sidecar.attributes["agent"] = new
        self._is_described = True
        return True

    def take_over(self, operation: ImportSession) -> int:
        """Import the session."""
        if self.exists and self.count:
            raise has_another_history(self.key)
        lines = [self._line_of(message) for message in operation.messages]
        if len({line.op_id for line in lines}) < len(lines):
            raise OperationRefusedError("two of the messages have the same id")
        if operation.attributes:
            check_known(operation.attributes)
        self._create()
        if operation.attributes:
            self.sidecar.attributes.update(operation.attributes)
            times = operation.turn_started_at, operation.turn_expires_at
            self.sidecar.take_over_turn(times, self._now)
        self.sidecar.states.update(operation.states)
        self.sidecar.created_at = min(operation.created_at, self._now)
        self._is_described = True
        self._rewrite().extend(lines)
        self.last_activity = min(operation.last_activity, self._now)
        self._is_touched = False
        cached = self._cached_session()
        cached.count = len(lines)
        cached.known.update((line.op_id, 1) for line in lines)
        note_platform_ids(lines, cached.platform_ids)
        return self._done(operation.op_id, len(lines))

    def put_back(self, operation: RestoreSession, elsewhere: Iterable[Session]) -> int:
        """Insert archived messages before all others, except those in the store already: here or
        in the sessions `elsewhere`.
        """
        sessions = [self, *elsewhere]
        present = {line.message.message_id for session in sessions for line in session.lines}
        lines = [self._line_of(m) for m in operation.messages if m.message_id not in present]
        cached = self._cached_session()
        info, is_new = operation.info, not self.exists
        if is_new and operation.messages and not lines:
            return self._note(operation.op_id, 0)  # they are in another session
        lines = [line for line in lines if line.message.platform_id not in cached.platform_ids]
        self._create()
        if is_new:
            self.sidecar.restore(info, self._now)
            self.sidecar.states.update(operation.states)
            self.last_activity = min(to_micros(info.last_activity), self._now)
        self.sidecar.created_at = min(self.sidecar.created_at, to_micros(info.created_at))
        if info.pinned:
            self.sidecar.attributes["pinned"] = True
        if lines and operation.source != self.key:
            self.sidecar.restored_from = digest("key", operation.source).hex()
        self._is_described = True
        self._rewrite()[:0] = lines
        cached.count += len(lines)
        for line in lines:
            cached.known.setdefault(line.op_id, 1)
        note_platform_ids(lines, cached.platform_ids)
        return self._done(operation.op_id, len(lines))

    def mentions(self, author: str) -> bool:
        """Whether the author said something here, though a pop removed it."""
        return self.quotes(author) or self.sidecar.has_popped(author)

    def quotes(self, author: str) -> bool:
        """Whether the author said something that is here, or a damaged line may be the author's."""
        if self.is_on_disk and not may_quote(self._directory.read(self.names.messages), author):
            return False
        damage = self.transcript.damage
        return bool(self.said_by(author)) or any(may_quote(each.raw, author) for each in damage)

    def brings(self, author: str) -> bool:
        """Whether this group adds a message of the author."""
        if self._is_rewritten:
            return bool(self.said_by(author))
        return any(may_quote(raw, author) for raw in self._pending)

    def _new_ones(self, operation: Append) -> list[int] | None:
        """The indexes of the messages to store, those without a platform id that the session has
        or had; None for all of them.
        """
        cached, new, ids = self._cached_session(), list[int](), operation.message_ids
        for index, message in enumerate(operation.messages):
            platform_id = message.platform_id
            if platform_id is not None:
                if platform_id in cached.platform_ids or gone_mark(platform_id) in cached.known:
                    continue
                cached.platform_ids[platform_id] = ids[index]
            new.append(index)
        return None if len(new) == len(ids) else new

    def _index(self, change: Rollback | Replace) -> int | None:
        """The index of the last message, or of the one named."""
        if not self.exists or not self.count:
            return None
        if change.message_id is None and change.platform_id is None:
            return self.count - 1
        if change.platform_id is not None:
            return self._index_of(self.message_id_of(change.platform_id))
        return self._index_of(change.message_id)

    def _index_of(self, message_id: str | None) -> int | None:
        for index, line in enumerate(self.lines):
            if line.message.message_id == message_id:
                return index
        return None

    def _line_of(self, message: ChatMessage) -> Line:
        if message.message_id is None or message.created_at is None:
            raise OperationRefusedError("a message has no id or no time")
        return Line.of(self._directory.blobs.keep(message), message.message_id)
