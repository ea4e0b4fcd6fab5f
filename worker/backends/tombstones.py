"""What was erased, by hash alone: keeps out what was asked for before and arrives afterwards.

An adapter's spool, a resend or a requeued job may bring back what an erasure removed. A tombstone
says until when everything about a session, a sender or a room is to be dropped; it holds the
SHA-256 of the name and no text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Final

from producer.operations import Describe, Operation

_NEVER: Final = -1


def digest(subject: str, value: str) -> bytes:
    """The hash a tombstone has for `value`, which is a "key", a "sender" or a "room"."""
    return hashlib.sha256(f"{subject}\0{value}".encode()).digest()


class Tombstones:
    """Those of a store, by digest: until which moment, in microseconds, its subject was erased.

    `latest` is the last of these moments, for whoever wants to know whether to look at all.
    """

    def __init__(self, moments: Mapping[bytes, int]) -> None:
        self._moments = dict(moments)
        self.latest = max(self._moments.values(), default=_NEVER)

    def add(self, subject: str, value: str, erased_at: int) -> bytes:
        """Note an erasure; an earlier one does not shorten a later one. Returns the digest."""
        name = digest(subject, value)
        self._moments[name] = max(erased_at, self._moments.get(name, _NEVER))
        self.latest = max(self.latest, erased_at)
        return name

    def cover(self, operation: Operation) -> bool:
        """Whether the operation is about a session that was erased after it was asked for."""
        key = getattr(operation, "key", None)
        return key is not None and self.moment("key", key) >= operation.at

    def told_by(self, operation: Operation) -> int | None:
        """When the sender or room was erased to which the operation, made before, adds a session.

        None if it does no such thing.
        """
        if not isinstance(operation, Describe):
            return None
        moments = [
            self.moment(name, value)
            for name in ("sender", "room")
            if isinstance(value := operation.attributes.get(name), str)
        ]
        moment = max(moments, default=_NEVER)
        return moment if moment >= operation.at else None

    def moment(self, subject: str, value: str) -> int:
        """Until when it was erased; before all time if it was not."""
        return self._moments.get(digest(subject, value), _NEVER)
