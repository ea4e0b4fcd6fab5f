"""Edits and deletions of messages that have not arrived yet: they wait for them, for a while.

Of several edits of a message the last one waits; a deletion is final. A store keeps at most
`MOST_PER_SESSION` of a session and drops the oldest, and none longer than `MAX_AGE_MICROS`.

Most edits do not say whose message they are about. So when an author is erased, those that wait and
name nobody go as well, and none that was requested before an erasure begins to wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation, Replace, Rollback
from backscroll_worker.contract.tombstones import Tombstones

MOST_PER_SESSION: Final = 100
MAX_AGE_MICROS: Final = 24 * 3_600_000_000

Change = Rollback | Replace


def may_wait(operation: Operation, tombstones: Tombstones) -> bool:
    """Whether it is about a message of the platform's that may arrive later.

    An edit that names nobody may be of an author who was erased since.
    """
    if not isinstance(operation, Rollback | Replace) or operation.platform_id is None:
        return False
    is_nameless = isinstance(operation, Replace) and operation.message.author is None
    return not (is_nameless and tombstones.is_before(operation.at, tombstones.latest))


def goes_with(author: str, message: Mapping[str, Any] | None) -> bool:
    """Whether what waits goes when an author is erased: an edit of theirs, or that names nobody."""
    return message is not None and message.get("author") in (None, author)


def message_of(change: Change) -> dict[str, Any] | None:
    """The JSON form of what is to be said instead; None for a deletion."""
    return change.message.to_dict() if isinstance(change, Replace) else None


def change_of(key: str, platform_id: str, message: Mapping[str, Any] | None) -> Change:
    """The inverse of `message_of`; an operation that is recorded nowhere."""
    if message is None:
        return Rollback("", 0, key, platform_id=platform_id)
    return Replace("", 0, key, ChatMessage.from_dict(message), platform_id=platform_id)
