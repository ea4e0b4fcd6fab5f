"""One group of operations: carried out in memory, then committed, each session's files once.

All of a group is in one frame of the journal, so it takes effect as a whole. Its files come into
view one after the other, though, and a reader beside the writer may see a part for a moment:
therefore the sidecar of a new session comes before its messages file, whose appearance is what
makes the session exist, and that of one that is deleted goes after it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

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
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.contract.tombstones import digest
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.erasure_ledger import Erasures, Pending
from backscroll_worker.stores.jsonl.file_names import (
    MESSAGES_SUFFIX,
    SIDECAR_SUFFIX,
    key_of,
    key_told_by,
)
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.renames import Renames
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.session_cache import Memories
from backscroll_worker.stores.jsonl.waiting import WaitingChanges
from backscroll_worker.stores.jsonl.writer import Writer


class Group:
    """The sessions that a group of operations reads and writes."""

    def __init__(
        self,
        directory: Directory,
        writer: Writer,
        memories: Memories,
        renames: Renames,
        waiting: WaitingChanges,
        erasures: Erasures,
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
        erasures.tombstones.reopened = clock.reopened
        self.changes = Changes()
        self.activity = memories.activity
        self._memories = memories
        self._sessions: dict[str, Session] = {}

    def find(self, key: str) -> Session:
        """The session to work on, whether it exists or not."""
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = self._open(key)
        return session

    def sessions(self) -> Iterator[Session]:
        """All sessions that exist, in no order."""
        yield from [session for session in self._sessions.values() if session.exists]
        for name in self.directory.names(MESSAGES_SUFFIX):
            key = key_of(self.directory.path / name)
            if key is not None and key not in self._sessions and (found := self._open(key)).exists:
                yield found

    def newest_first(self) -> Iterator[tuple[int, Iterator[Session]]]:
        """The times at which sessions were last active, the latest first, with those of each.

        A session is opened when it is asked for: a page of a listing needs few of them.
        """
        opened = {session.names.messages: session for session in self._sessions.values()}
        places = [(session.last_activity, name) for name, session in opened.items()]
        places += [
            (self.activity.of(name, stamp, self.now), name)
            for name, stamp in self.directory.stamps(MESSAGES_SUFFIX)
            if name not in opened
        ]
        places.sort(reverse=True)
        for at, same in groupby(places, key=itemgetter(0)):
            sessions = (opened.get(name) or self._of_file(name) for _, name in same)
            yield at, (session for session in sessions if session is not None and session.exists)

    def write(self, operation: Write) -> Outcome:
        """Carry out one write, unless its op id has been applied before."""
        if isinstance(operation, RenameAgent):
            return self._rename_agent(operation)
        if isinstance(operation, Erase):
            return self._erase(operation)
        key: str = operation.key  # type: ignore[attr-defined]
        session = self._sessions.get(key) or self.find(key)
        affected = session.applied(operation.op_id)
        if affected is None and (record := self.erasures.applied.get(operation.op_id)):
            affected = record.affected
        if affected is not None:
            return _outcome(session, operation, affected, duplicate=True)
        if operation.at <= self.erasures.tombstones.latest and self._is_erased(operation):
            return Outcome(0)
        if operation.was_spooled and session.is_late(operation, self.erasures.tombstones):
            return Outcome(session.drop_late(operation))
        if isinstance(operation, RestoreSession):
            return Outcome(session.put_back(operation, self._restored(operation)))
        affected = _HANDLERS[type(operation)](session, operation)
        return _outcome(session, operation, self._wait(session, operation, affected))

    def _wait(self, session: Session, operation: Write, affected: int) -> int:
        """Carry out what has waited for an operation, or have it wait; returns what is affected."""
        if isinstance(operation, Append):
            for change in self.waiting.take(operation, self.now):
                affected = session.catch_up(change, operation.op_id, affected)
        elif isinstance(operation, Delete):
            self.waiting.forget(operation.key)
        elif isinstance(operation, Rollback | Replace) and session.may_come(operation):
            self.waiting.hold(operation, self.now)
        return affected

    def flush(self, meanwhile: Callable[[], None] | None = None) -> None:
        """Commit everything; `meanwhile` is called while the disk is at it."""
        for session in self._sessions.values():
            self.erasures.pass_over(session)
            session.stage(self.changes)
        self.renames.stage(self.changes)
        self.waiting.stage(self.changes)
        self.erasures.stage(self.changes)
        self.activity.stage(self.changes)
        stamps = self.writer.commit(self.changes, meanwhile)
        self.activity.settle(self.changes)
        for session in self._sessions.values():
            session.settle(stamps)
        self.renames.settle()
        self.waiting.settle()
        self.erasures.settle()

    def _open(self, key: str) -> Session:
        session = Session(self.directory, self._memories, key, self.now, self._keep_edits)
        if self.erasures.pending:
            self._look_at(session, self.erasures.pending)
        return session

    def _of_file(self, name: str) -> Session | None:
        key = key_of(self.directory.path / name)
        return None if key is None else self._open(key)

    def _erase(self, operation: Erase) -> Outcome:
        record = self.erasures.applied.get(operation.op_id)
        if record is not None:
            return Outcome(record.affected, duplicate=True)
        pending = self.erasures.begin(operation, self.now, self.clock.latest)
        for session in list(self._sessions.values()):
            self._look_at(session, [pending])  # the others have; what they left is not theirs
        if operation.key is not None and not (session := self.find(operation.key)).exists:
            self.erasures.keep_op_ids(session, pending.tombstone.erased_at, pending.began)
            session.erase()  # or its op ids would stay under its name
            self.waiting.forget(operation.key)
        self.erasures.note_applied(operation.op_id, pending.sessions, self.now)
        return Outcome(pending.sessions)

    def _look_at(self, session: Session, erasures: Sequence[Pending]) -> None:
        """Erase the session if it is one that one of the erasures under way is to."""
        for pending in erasures:
            if self.erasures.takes(pending, session):
                session.erase()
                self.waiting.forget(session.key)
                self._sessions[session.key] = session

    def _is_erased(self, operation: Write) -> bool:
        """Whether the operation was asked for before what it is about was erased.

        One that tells only now whose session it is takes back what came before it.
        """
        if self.erasures.tombstones.cover(operation):
            return True
        tombstone = self.erasures.tombstones.told_by(operation)
        if tombstone is None or not isinstance(operation, Describe | Append):
            return False
        self.erasures.add_tombstone("key", operation.key, tombstone)
        self.waiting.forget(operation.key)
        session = self.find(operation.key)
        if session.exists:
            self.erasures.keep_op_ids(session, tombstone.erased_at, self.now)
            session.erase_until(tombstone.erased_at)
        return True

    def _restored(self, operation: RestoreSession) -> list[Session]:
        """The other sessions that may have messages of the one that is to be restored."""
        digests = {digest("key", key).hex() for key in (operation.source, operation.key)}
        keys = {operation.source, *self._sessions}
        for name in self.directory.names(SIDECAR_SUFFIX):
            if b'"restored_from"' in (self.directory.read(name) or b""):
                keys.add(key_told_by(self.directory.path / name) or operation.source)
        found = [self.find(key) for key in keys if key != operation.key]
        return [
            session
            for session in found
            if session.key == operation.source or session.sidecar.restored_from in digests
        ]

    def _rename_agent(self, operation: RenameAgent) -> Outcome:
        affected = self.renames.applied(operation.op_id)
        if affected is not None:
            return Outcome(affected, duplicate=True)
        affected = 0
        for session in self.sessions():
            if session.rename_agent(operation.old, operation.new):
                self._sessions[session.key] = session
                affected += 1
        self.renames.note(operation.op_id, affected, self.now)
        return Outcome(affected)


def _outcome(
    session: Session, operation: Write, affected: int, *, duplicate: bool = False
) -> Outcome:
    if isinstance(operation, Append) and affected < len(operation.messages):
        return Outcome(affected, duplicate, session.named(operation))
    return Outcome(affected, duplicate) if duplicate else _first_outcome(affected)


@functools.lru_cache(maxsize=64)
def _first_outcome(affected: int) -> Outcome:
    """Nearly all are the same."""
    return Outcome(affected)


_HANDLERS: Final[dict[type[Operation], Callable[[Session, Any], int]]] = {
    Append: Session.append,
    Rollback: Session.rollback,
    Replace: Session.replace,
    Clear: Session.clear,
    Delete: Session.delete,
    Describe: Session.describe,
    ImportSession: Session.take_over,
}
