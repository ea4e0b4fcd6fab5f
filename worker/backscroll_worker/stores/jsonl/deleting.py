"""Deletes all sessions whose key begins with a text: a few at once, many by their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from backscroll.contract.lifecycle import DeleteSessions
from backscroll.contract.results import Outcome
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.tombstones import BY_PREFIX, Tombstone
from backscroll_worker.stores.jsonl.detached import Detached
from backscroll_worker.stores.jsonl.erasure_ledger import Erasures
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, beginning
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.fork_ledger import Forks
from backscroll_worker.stores.jsonl.forks import give_way
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.waiting import WaitingChanges

MOST_AT_ONCE: Final = 50
"""Sessions that a group deletes itself: of each, files are read, written and removed."""


class Group(Protocol):
    """The group of operations that the deletion belongs to."""

    now: int
    clock: StoreClock
    directory: Directory
    detached: Detached
    erasures: Erasures
    forks: Forks
    waiting: WaitingChanges

    def find(self, key: str) -> Session:
        """The session, whether it exists or not."""

    def opened(self) -> Iterator[Session]:
        """The existing sessions that the group has to do with."""

    def key_of(self, name: str) -> str | None:
        """The key of the session with this messages file; None if it is not one."""


def delete_sessions(group: Group, operation: DeleteSessions) -> Outcome:
    """Delete the sessions, once; files of many are removed later."""
    if (record := group.erasures.applied.get(operation.op_id)) is not None:
        return Outcome(record.affected, duplicate=True)
    give_way(group, operation)
    names = _names(group, operation.prefix)
    is_few = len(names) <= MOST_AT_ONCE
    if is_few or operation.was_spooled:  # some may have been deleted and begun anew since
        for key in names.values():
            group.find(key)
        names = {}
    count = len(names)
    for session in group.opened():
        if session.key.startswith(operation.prefix) and not _is_late(group, operation, session):
            session.leave()
            count += 1
    group.detached.hold(names)
    group.waiting.forget_prefix(operation.prefix)
    moments = min(operation.at, group.clock.latest), group.now
    group.erasures.add_tombstone(BY_PREFIX, operation.prefix, Tombstone(*moments))
    group.erasures.note_applied(operation.op_id, count, group.now)
    return Outcome(count)


def _names(group: Group, prefix: str) -> dict[str, str]:
    """By the name of its file the key of each session that begins so and nobody has opened."""
    known = {session.names.messages for session in group.opened()} | group.detached.names
    begins, names = beginning(prefix), group.directory.names(MESSAGES_SUFFIX)
    maybe = (name for name in names if name.startswith(begins) and name not in known)
    keys = ((name, group.key_of(name)) for name in maybe)
    return {name: key for name, key in keys if key is not None and key.startswith(prefix)}


def _is_late(group: Group, operation: DeleteSessions, session: Session) -> bool:
    return operation.was_spooled and session.is_late(operation, group.erasures.tombstones)
