"""Adds up the tokens of messages, by reading all sessions that pass the filter."""

from __future__ import annotations

from collections.abc import Iterator

from backscroll.contract.filters import SearchFilter
from backscroll.contract.results import Usage
from backscroll.contract.tokens import GetUsage
from backscroll_worker.contract.choosing import passes
from backscroll_worker.stores.jsonl.session import Session
from backscroll_worker.stores.jsonl.write_batch import Group

_SESSION_FILTERS = ("channel", "sender", "room", "agent")


def usage(group: Group, operation: GetUsage) -> Usage:
    """The tokens of the messages that pass the filter."""
    where = operation.where
    return Usage.of(
        (message.role, message.author, 1, int(message.tokens is not None), message.tokens or 0)
        for session in _sessions(group, where)
        for message in (line.message for line in session.lines)
        if passes(message, where)
    )


def _sessions(group: Group, where: SearchFilter) -> Iterator[Session]:
    for session in group.sessions() if where.key is None else [group.find(where.key)]:
        attributes = session.sidecar.attributes if session.exists else {}
        if session.exists and all(
            getattr(where, name) in (None, attributes.get(name)) for name in _SESSION_FILTERS
        ):
            yield session
