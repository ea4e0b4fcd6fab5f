"""Forks: a session's messages copied to a new file, in the group's one commit."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import DeleteSessions
from backscroll.contract.operations import Erase, Write
from backscroll_worker.contract import forks as limits
from backscroll_worker.contract.forks import (
    attributes_of_fork,
    sessions_of,
    spares_messages,
    unknown_message,
    unknown_session,
)
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.jsonl.fork_ledger import Besides, Forks, PendingFork
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.session import Session

_FEWEST_BYTES: Final = 100
"""The least that a message takes in a file."""


class Group(Protocol):
    """The group of operations that a fork belongs to, or is completed in."""

    forks: Forks

    def find(self, key: str) -> Session:
        """The session, whether it exists or not."""


def fork(target: Session, source: Session, operation: Fork, besides: Besides | None = None) -> int:
    """Apply the operation; returns how many messages the fork has.

    It gets what it was to have `besides` messages when it was begun, or what it is to have now.

    Raises `OperationRefusedError` where there is nothing to copy.
    """
    if _is_conflict(target, source, operation):
        return target._note(operation.op_id, CONFLICT)
    originals, upto = source.lines, _upto(source, operation)
    if upto is not None:
        index = source._index_of(upto)
        if index is None:
            raise unknown_message(operation)
        originals = originals[: index + 1]
    copier = Copier(operation)
    lines = list(map(copier.copy, originals))
    besides = besides or besides_messages(target, source)
    target._create()
    describe(target, besides, originals[-1].message.message_id if originals else None)
    target._touch()
    target._rewrite().extend(lines)
    cached = target._cached_session()
    cached.count = len(lines)
    cached.known.update(copier.known)
    cached.platform_ids.update(copier.platform_ids)
    return target._done(operation.op_id, len(lines))


def pending_fork(target: Session, source: Session, operation: Fork) -> PendingFork | None:
    """What is to be copied later; None if `fork` has to do it at once.

    Whether the source has the message is seen when it is copied: counting what a long session has
    takes as long.
    """
    least = limits.MOST_AT_ONCE * _FEWEST_BYTES
    if _is_conflict(target, source, operation) or source.size_bytes <= least:
        return None
    upto, by_platform = operation.upto, operation.upto_platform_id
    if upto is None and by_platform is None and not (upto := source.tail):
        return None
    asked = operation.op_id, operation.at, *operation.keys, upto, by_platform
    return PendingFork(*asked, besides_messages(target, source))


def give_way(group: Group, operation: Write) -> None:
    """Copy at once what the operation would take from a fork, or add to it."""
    keys, is_sparing = sessions_of(operation), spares_messages(operation)
    for pending in list(group.forks.pending.values()):
        if operation.op_id == pending.op_id:
            continue
        is_one = isinstance(operation, DeleteSessions) and any(
            key.startswith(operation.prefix) for key in (pending.key, pending.new_key)
        )
        if (
            isinstance(operation, Erase)
            or is_one
            or pending.new_key in keys
            or (pending.key in keys and not is_sparing)
        ):
            complete(group, pending)


def complete(group: Group, pending: PendingFork) -> None:
    """Copy at once what is being copied; what cannot be copied is dropped."""
    group.forks.drop(pending.op_id)
    operation, target = pending.operation(), group.find(pending.new_key)
    if target.applied(pending.op_id) is None:
        with suppress(OperationRefusedError):
            fork(target, group.find(pending.key), operation, pending.besides)


def besides_messages(target: Session, source: Session) -> Besides:
    """All that a fork is to have besides messages; what the target has is its own."""
    there = target.info() if target.exists else None
    original = source.sidecar.info(source.last_activity, 0)  # nobody has to count its messages
    own = target.sidecar.states if target.exists else {}
    return Besides(attributes_of_fork(original, None, there), {**source.sidecar.states, **own})


def describe(target: Session, besides: Besides, upto: str | None) -> None:
    """Give the fork all that it has besides messages."""
    sidecar = target.sidecar
    sidecar.attributes |= {**besides.attributes, "forked_upto": upto}
    sidecar.states = dict(besides.states)
    target._is_described = True


class Copier:
    """Makes the lines of copies, each of an operation of its own; summaries go up to copies."""

    def __init__(self, operation: Fork) -> None:
        self._operation = operation
        self._places: dict[str | None, int] = {}
        self.count = 0
        self.known: dict[str, int] = {}
        self.platform_ids: dict[str, str] = {}

    def copy(self, line: Line) -> Line:
        """The copy of the next message."""
        self.count += 1
        message, id_ = line.message, self._operation.copy_id(self.count)
        self._places[message.message_id] = self.count
        self.known[id_] = 1
        if message.platform_id is not None:
            self.platform_ids.setdefault(message.platform_id, id_)
        upto = message.upto
        if upto is not None and upto in self._places:
            upto = self._operation.copy_id(self._places[upto])
        return Line.of(replace(message, message_id=id_, upto=upto), id_)


def _is_conflict(target: Session, source: Session, operation: Fork) -> bool:
    if not source.exists:
        raise unknown_session(operation)
    return target.exists and (target.count > 0 or target.is_closed)


def _upto(source: Session, operation: Fork) -> str | None:
    """The id of the last message of the fork; None for all."""
    if operation.upto_platform_id is None:
        return operation.upto
    upto = source.message_id_of(operation.upto_platform_id)
    if upto is None:
        raise unknown_message(operation)
    return upto
