"""One group of operations: applied in memory, then committed, each file written once.

A group is one frame of the journal, so it is applied as a whole. But its files change one after the
other, and a reader beside the writer may see a part of it for a moment. So the sidecar of a new
session is written before its messages file, which makes the session exist, and that of a deleted
session is removed after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, Final

from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import DeleteSessions
from backscroll.contract.operations import (
    Append,
    Delete,
    Describe,
    Erase,
    Operation,
    RenameAgent,
    Write,
)
from backscroll.contract.results import Outcome
from backscroll.contract.splicing import Pop
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.session_renames import earlier_tombstone
from backscroll_worker.contract.takeover import RestoreSession
from backscroll_worker.contract.tombstones import keys_of
from backscroll_worker.contract.turns import CONFLICT, outcome
from backscroll_worker.contract.waiting import arrived, may_wait
from backscroll_worker.stores.blobs import references
from backscroll_worker.stores.jsonl import lifecycle, restored, splicing
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.deleting import delete_sessions
from backscroll_worker.stores.jsonl.detached import Detached
from backscroll_worker.stores.jsonl.erasure_ledger import Erasures, Pending
from backscroll_worker.stores.jsonl.file_names import (
    MESSAGES_SUFFIX,
    beginning,
    key_of,
)
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.fork_ledger import Forks
from backscroll_worker.stores.jsonl.forks import fork, give_way, pending_fork
from backscroll_worker.stores.jsonl.renames import Renames
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.session_cache import CachedSession, SessionCache
from backscroll_worker.stores.jsonl.session_writes import HANDLERS
from backscroll_worker.stores.jsonl.waiting import WaitingChanges
from backscroll_worker.stores.jsonl.writer import Writer


class Group:
    """The sessions that a group of operations reads and writes."""

    def __init__(
        self,
        directory: Directory,
        writer: Writer,
        cache: SessionCache,
        renames: Renames,
        waiting: WaitingChanges,
        erasures: Erasures,
        forks: Forks,
        detached: Detached,
        clock: StoreClock,
        keep_edits: bool = False,
    ) -> None:
        self._keep_edits = keep_edits
        self.now = clock.now()
        self.clock = clock
        self.directory = directory
        self.writer = writer
        self.renames = renames
        self.waiting = waiting
        self.erasures = erasures
        self.forks = forks
        self.detached = detached
        erasures.tombstones.reopened = clock.reopened
        self.changes = Changes()
        self.activity = cache.activity
        self._cache = cache
        self._sessions: dict[str, Session] = {}

    def find(self, key: str) -> Session:
        """The session, whether it exists or not."""
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = self._open(key)
            if self.detached.take(session.names.messages) and session.exists:
                session.leave()
        return session

    def opened(self) -> Iterator[Session]:
        """The existing sessions that the group has to do with."""
        yield from [session for session in self._sessions.values() if session.exists]

    def remove_detached(self, name: str) -> None:
        """Delete a session by the name of its file; nobody has opened it."""
        key = self.key_of(name)
        if key is not None and (session := self._open(key)).exists:
            session.leave()
            self._sessions[key] = session
        self.detached.drop(name)

    def of_file(self, name: str) -> Session | None:
        """The existing session with this messages file, to work on."""
        key = self.key_of(name)
        session = None if key is None else self.find(key)
        return session if session is not None and session.exists else None

    def key_of(self, name: str) -> str | None:
        """The key of the session with this messages file; None if it is not one."""
        return key_of(self.directory.path / name)

    def sessions(self) -> Iterator[Session]:
        """All existing sessions, in any order."""
        yield from self.opened()
        for name in self.directory.names(MESSAGES_SUFFIX):
            key = None if name in self.detached.names else self.key_of(name)
            if key is not None and key not in self._sessions and (found := self._open(key)).exists:
                yield found

    def newest_first(self, prefix: str = "") -> Iterator[tuple[int, Iterator[Session]]]:
        """The times of last activity, latest first, each with its sessions.

        A session is opened when the iterator reaches it, if its key begins with `prefix`: a page of
        a listing needs few of them.
        """
        begins = beginning(prefix)
        opened = {session.names.messages: session for session in self._sessions.values()}
        places = [(session.last_activity, name) for name, session in opened.items()]
        places += [
            (self.activity.of(name, stamp, self.now), name)
            for name, stamp in self.directory.stamps(MESSAGES_SUFFIX)
            if name.startswith(begins) and name not in opened and name not in self.detached.names
        ]
        places.sort(reverse=True)
        for at, same in groupby(places, key=itemgetter(0)):
            sessions = (opened.get(name) or self._of_file(name, prefix) for _, name in same)
            yield at, (session for session in sessions if session is not None and session.exists)

    def write(self, operation: Write) -> Outcome:
        """Apply one write, unless its op id has been applied before; a fork's is with the fork."""
        if (handle := _OF_MANY.get(type(operation))) is not None:
            return handle(self, operation)
        asked, since = operation, -1
        if self.renames.sessions:
            self._erase_renamed(asked)
            operation, since = self.renames.sessions.followed(asked, self._is_for)
        if self.forks.pending:
            give_way(self, operation)
        key: str = keys_of(operation)[-1]  # a fork's op id is with the fork
        session, affected = self._known(key, operation, asked)
        if affected is not None:
            return self._outcome(session, operation, affected, duplicate=True)
        if self.erasures.tombstones.may_concern(operation):
            spared = self.erasures.tombstones.spared(operation)
            if self._is_erased(operation) or spared is None:
                return Outcome(0, key=None if since < 0 else key)
            operation = spared
        if operation.was_spooled and self._is_late(operation, asked, since):
            return Outcome(session.drop_late(operation))
        done = self._outcome(session, operation, self._carry_out(session, operation))
        return done if since < 0 else replace(done, key=key)

    def _known(self, key: str, operation: Any, asked: Any) -> tuple[Session, int | None]:
        """The session, and how much the operation affected if it was applied before."""
        session = self.find(key)
        affected = self.applied(session, operation)
        if (
            affected is None and operation is not asked
        ):  # or it came earlier, and not out of a spool
            before = self.find(asked.key)
            if (affected := before.applied(operation.op_id)) is not None:
                return before, affected
        return session, 0 if affected is None and self.is_copying(operation) else affected

    def applied(self, session: Session, operation: Operation) -> int | None:
        """How much the operation affected; None if it was not applied before."""
        record = self.erasures.applied.get(operation.op_id)
        affected = session.applied(operation.op_id)
        return record.affected if affected is None and record else affected

    def _carry_out(self, session: Session, operation: Write) -> int:
        if isinstance(operation, RestoreSession):
            affected = session.put_back(operation, restored.others(self, operation))
            return self._wait(session, operation, affected)
        if isinstance(operation, Fork):
            return self._fork(session, operation)
        if (handle := lifecycle.HANDLERS.get(type(operation))) is not None:
            return handle(self, operation)  # type: ignore[no-any-return]
        return self._wait(session, operation, HANDLERS[type(operation)](session, operation))

    def _outcome(
        self, session: Session, operation: Write, affected: int, *, duplicate: bool = False
    ) -> Outcome:
        """With the ids of what an append stored, if not all of it, or what a pop removed."""
        if isinstance(operation, Append) and operation.may_be_elsewhere(affected):
            return Outcome(affected, duplicate, message_ids=session.stored_ids(operation))
        if isinstance(operation, Pop):
            renamed = (self.find(key) for key, _ in self.renames.sessions.reached(session.key))
            removed = splicing.popped(chain([session], renamed), operation) if affected else ()
            return Outcome(affected, duplicate, messages=removed)
        return outcome(affected, duplicate=duplicate)

    def _fork(self, target: Session, operation: Fork) -> int:
        """Copy now or, as `is_copying` says, later."""
        source = self.find(operation.key)
        pending = None
        if not self.waiting.has_for(target.key):
            pending = pending_fork(target, source, operation)
        if pending is None:
            if (copied := fork(target, source, operation)) > 0:
                lifecycle.catch_up(self, target.key, target)
            return copied
        self.forks.hold(pending)
        return 0

    def is_copying(self, operation: Operation) -> bool:
        """Whether the operation is a fork that is being copied."""
        return operation.op_id in self.forks.pending

    def new_session(self, key: str) -> Session:
        """The session as it is on the disk, without a part in the group's commit."""
        return Session(self.directory, self._cache, key, self.now, self._keep_edits)

    def remember(self, key: str, cached: CachedSession) -> None:
        """Cache what a session's file has, which was not written by a commit."""
        self._cache.put(key, cached)

    def _wait(self, session: Session, operation: Write, affected: int) -> int:
        """Apply what has waited for an operation, or have it wait; returns how much it affected."""
        if affected == CONFLICT:
            return affected
        new = operation.message_ids if isinstance(operation, Append) else ()
        for change in self.waiting.take(session.key, arrived(operation, affected)):
            is_new = session.message_id_of(change.platform_id or "") in new
            if session.catch_up(change) and is_new:
                affected = session.note(operation.op_id, affected - 1)
        if isinstance(operation, Delete):
            self.waiting.forget(operation.key)
        elif may_wait(operation, self.erasures.tombstones) and session.may_come(operation):
            self.waiting.hold(operation, self.now)
        return affected

    def _is_for(self, key: str, operation: Any) -> bool:
        """Whether the session runs the operation's turn, or has messages that a pop names.

        It did when it applied the operation.
        """
        session = self.find(key)
        if session.applied(operation.op_id) is not None:
            return True
        if isinstance(operation, Pop):
            return splicing.has_any(session, operation.message_ids or ())
        return session.exists and session.sidecar.turn.is_that_of(operation.turn_id)

    def _is_late(self, operation: Write, asked: Write, since: int) -> bool:
        """Also where it was `asked` for under a key that its session had until `since`."""
        tombstones = self.erasures.tombstones
        if since >= 0:
            before = self.find(asked.key)  # type: ignore[attr-defined]
            if before.is_late(operation, tombstones, until=since):
                return True
        sessions = map(self.find, keys_of(operation))
        return any(each.is_late(operation, tombstones, since) for each in sessions)

    def flush(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Commit everything; `meanwhile` is called during the sync."""
        for session in self._sessions.values():
            self.erasures.exclude(session)
            session.stage(self.changes)
        self.renames.stage(self.changes)
        self.waiting.stage(self.changes)
        self.forks.stage(self.changes)
        self.detached.stage(self.changes)
        self.erasures.stage(self.changes)
        self.activity.stage(self.changes)
        self._spare()
        stamps = self.writer.commit(self.changes, meanwhile)
        self.activity.settle(self.changes)
        for session in self._sessions.values():
            session.settle(stamps)
        self.renames.settle()
        self.waiting.settle()
        self.forks.settle()
        self.detached.settle()
        self.erasures.settle()

    def _spare(self) -> None:
        """During a sweep, keep the blobs in what is written, which it may have read past."""
        spared = self.directory.blobs.spared
        if spared is not None:
            changes = self.changes
            added = [each.content for each in changes.additions.values()]
            replaced = [each.content for each in changes.replacements.values()]
            spared.update(*map(references, (*added, *replaced)))

    def _open(self, key: str) -> Session:
        session = Session(self.directory, self._cache, key, self.now, self._keep_edits)
        if self.erasures.pending:
            self._erase_if_pending(session, self.erasures.pending)
        return session

    def _of_file(self, name: str, prefix: str) -> Session | None:
        key = self.key_of(name)
        return None if key is None or not key.startswith(prefix) else self._open(key)

    def _erase(self, operation: Erase) -> Outcome:
        give_way(self, operation)
        record = self.erasures.applied.get(operation.op_id)
        if record is not None:
            return Outcome(record.affected, duplicate=True)
        operation, _ = self.renames.sessions.followed(operation)
        pending = self.erasures.begin(operation, self.now, self.clock.latest)
        for session in list(self._sessions.values()):
            self._erase_if_pending(session, [pending])  # the other erasures have seen them
        if operation.key is not None and not (session := self.find(operation.key)).exists:
            self.erasures.keep_op_ids(session, pending.tombstone.erased_at, pending.began)
            session.erase()  # or a file with its name would keep its op ids
            self._forget_renames(operation.key, operation.at)
            self.waiting.forget(operation.key)
        if operation.author is not None:
            self.waiting.forget_author(operation.author)
        self.erasures.note_applied(operation.op_id, pending.sessions, self.now)
        return Outcome(pending.sessions)

    def _erase_if_pending(self, session: Session, erasures: Sequence[Pending]) -> None:
        """Erase the session if it is the subject of one of these erasures."""
        for pending in erasures:
            if self.erasures.claim(pending, session):
                if pending.subject == "author":
                    session.erase_author(pending.value)
                else:
                    session.erase()
                    self._forget_renames(session.key, pending.asked_at)
                    self.waiting.forget(session.key)
                self._sessions[session.key] = session

    def _erase_renamed(self, operation: Write) -> None:
        """Erase what pending erasures are about of the sessions that had the operation's keys.

        Only then is it known that the operation may be one of those erased.
        """
        if self.erasures.pending:
            for key in keys_of(operation):
                for renamed, _ in self.renames.sessions.reached(key):
                    self.find(renamed)

    def _forget_renames(self, key: str, asked_at: int) -> None:
        """An erased session is erased under its earlier keys, too."""
        for earlier, until in self.renames.forget(key):
            known, at = self.erasures.tombstones, min(until, asked_at)
            self.erasures.add_tombstone("key", earlier, earlier_tombstone(known, at, self.now))

    def _is_erased(self, operation: Write) -> bool:
        """Whether the operation was requested before its session or subject was erased.

        If it attributes a session to an erased subject, the session's earlier messages are deleted.
        """
        if self.erasures.tombstones.cover(operation):
            return True
        tombstone = self.erasures.tombstones.of_described(operation)
        if tombstone is None or not isinstance(operation, Describe | Append):
            return False
        self.erasures.add_tombstone("key", operation.key, tombstone)
        self.waiting.forget(operation.key)
        session = self.find(operation.key)
        if session.exists:
            self.erasures.keep_op_ids(session, tombstone.erased_at, self.now)
            session.erase_until(tombstone.erased_at)
        return True

    def _rename_agent(self, operation: RenameAgent) -> Outcome:
        affected = self.renames.applied(operation.op_id)
        if affected is not None:
            return Outcome(affected, duplicate=True)
        affected = self.forks.rename_agent(operation.old, operation.new)
        for session in self.sessions():
            if session.rename_agent(operation.old, operation.new):
                self._sessions[session.key] = session
                affected += 1
        self.renames.note(operation.op_id, affected, self.now)
        return Outcome(affected)


_OF_MANY: Final[dict[type[Operation], Callable[[Group, Any], Outcome]]] = {
    RenameAgent: Group._rename_agent,
    Erase: Group._erase,
    DeleteSessions: delete_sessions,
}
