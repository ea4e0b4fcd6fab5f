"""One group of operations: carried out in memory, then written, each session's files once.

The order on the disk, and why:

1. The sidecar of a new session comes before its messages file. The latter's appearance is what
   makes the session exist, with its key, times and attributes known from the first moment; a
   sidecar alone means nothing.
2. A deletion first lays down the session's op ids, then removes the messages, then the sidecar.
   The op ids mean nothing until the messages are gone and everything from then on, so deletion
   and its record take effect together. It does not wait for the end of the group, so that what
   comes after it begins with a clean slate.
3. A new messages file takes over the op ids laid down before; only then are those removed.

Between these steps the directory is synced, so a power cut leaves a prefix of them. Whatever the
group has not reached then is done when it comes again, and what it has reached is recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from producer.answers import Outcome
from producer.operations import (
    Append,
    Clear,
    Delete,
    Describe,
    Operation,
    RenameAgent,
    Replace,
    Rollback,
    Write,
)
from worker.backends.base import ImportSession
from worker.backends.jsonl.files import Directory
from worker.backends.jsonl.memory import Memories
from worker.backends.jsonl.names import MESSAGES_SUFFIX, key_of
from worker.backends.jsonl.renames import Renames
from worker.backends.jsonl.session import Session


class Group:
    """The sessions that a group of operations reads and writes."""

    def __init__(
        self, directory: Directory, memories: Memories, renames: Renames, now: int
    ) -> None:
        self.now = now
        self.directory = directory
        self._memories = memories
        self._renames = renames
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

    def write(self, operation: Write) -> Outcome:
        """Carry out one write, unless its op id has been applied before."""
        if isinstance(operation, RenameAgent):
            return self._rename_agent(operation)
        session = self.find(operation.key)  # type: ignore[attr-defined]
        affected = session.applied(operation.op_id)
        if affected is not None:
            return Outcome(affected, duplicate=True)
        return Outcome(_HANDLERS[type(operation)](self, session, operation))

    def flush(self) -> None:
        """Write everything, and make it durable."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.write_sidecar()
        if any(session.is_new for session in sessions):
            self.directory.sync()
        additions = [session.write_messages() for session in sessions]
        self.directory.append([addition for addition in additions if addition is not None])
        self.directory.sync()
        for session in sessions:
            session.settle()
        self._sessions.clear()

    def delete(self, sessions: Sequence[Session]) -> None:
        """Remove sessions; what they would have written before does not matter any more."""
        for session in sessions:
            session.leave_records()
        self.directory.sync()
        for session in sessions:
            self.directory.remove(session.names.messages)
        self.directory.sync()
        for session in sessions:
            self.directory.remove(session.names.sidecar)
            self._memories.drop(session.key)
            self._sessions.pop(session.key, None)

    def _open(self, key: str) -> Session:
        return Session(self.directory, self._memories, key, self.now)

    def _append(self, session: Session, operation: Append) -> int:
        return session.append(operation.op_id, operation.messages)

    def _rollback(self, session: Session, operation: Rollback) -> int:
        return session.rollback(operation.op_id, operation.message_id)

    def _replace(self, session: Session, operation: Replace) -> int:
        return session.replace(operation.op_id, operation.message, operation.message_id)

    def _clear(self, session: Session, operation: Clear) -> int:
        return session.clear(operation.op_id)

    def _delete(self, session: Session, operation: Delete) -> int:
        affected = int(session.exists)
        session.note(operation.op_id, affected)
        if session.exists:
            self.delete([session])
        return affected

    def _describe(self, session: Session, operation: Describe) -> int:
        return session.describe(operation.op_id, operation.attributes)

    def _import_session(self, session: Session, operation: ImportSession) -> int:
        return session.take_over(
            operation.op_id,
            operation.messages,
            operation.attributes,
            operation.created_at,
            operation.last_activity,
        )

    def _rename_agent(self, operation: RenameAgent) -> Outcome:
        affected = self._renames.applied(operation.op_id)
        if affected is not None:
            return Outcome(affected, duplicate=True)
        self.flush()  # what comes before it, and above all the descriptions, must be on the disk
        keys = [
            session.key
            for session in self.sessions()
            if session.sidecar.attributes.get("agent") == operation.old
        ]
        return Outcome(self._renames.carry_out(operation, keys, self.now))


_HANDLERS: Final[dict[type[Operation], Callable[[Group, Session, Any], int]]] = {
    Append: Group._append,
    Rollback: Group._rollback,
    Replace: Group._replace,
    Clear: Group._clear,
    Delete: Group._delete,
    Describe: Group._describe,
    ImportSession: Group._import_session,
}
