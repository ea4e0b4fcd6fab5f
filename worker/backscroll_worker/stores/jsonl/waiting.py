"""Edits and deletions that arrived before their message, in `.waiting.json`.

There may be no such session yet. They are few, so all are in one file, which is written with the
sessions that an operation changes. See `contract.waiting`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.waiting import (
    MOST_PER_SESSION,
    Change,
    change_of,
    goes_with,
    message_of,
)
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory

_NAME: Final = ".waiting.json"  # no key's file begins with a dot


class _Waiting(NamedTuple):
    noted_at: int
    message: dict[str, Any] | None


class WaitingChanges:
    """What the file has, by key and platform id, the oldest of each session first."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._by_key: dict[str, dict[str, _Waiting]] = {}
        self._is_changed = False

    def recover(self) -> None:
        """Start from what the disk says."""
        self._by_key = _loads(self._directory.read(_NAME))
        self._is_changed = False

    def has_for(self, key: str) -> bool:
        """Whether any change waits for a message of this session."""
        return bool(self._by_key.get(key))

    def hold(self, change: Change, now: int) -> None:
        """Have a change wait for its message."""
        waiting, id_ = self._by_key.setdefault(change.key, {}), change.platform_id or ""
        before = waiting.get(id_)
        if before is None or before.message is not None:
            waiting.pop(id_, None)
            waiting[id_] = _Waiting(now, message_of(change))
        while len(waiting) > MOST_PER_SESSION:
            del waiting[next(iter(waiting))]
        self._is_changed = True

    def take(self, key: str, messages: Iterable[ChatMessage]) -> list[Change]:
        """Take out what waits for these messages of a session."""
        waiting = self._by_key.get(key)
        if not waiting:
            return []
        ids = dict.fromkeys(each.platform_id for each in messages)
        found = {id_: waiting.pop(id_) for id_ in ids if id_ is not None and id_ in waiting}
        self._is_changed |= bool(found)
        return [change_of(key, id_, each.message) for id_, each in found.items()]

    def moved(self, key: str, new_key: str) -> list[Change]:
        """Take out what waits for messages of both, under the new key and the oldest first."""
        waiting = [
            (each.noted_at, own, id_, each.message)
            for own in (key, new_key)
            for id_, each in self._by_key.pop(own, {}).items()
        ]
        self._is_changed |= bool(waiting)
        return [
            change_of(new_key, id_, message)
            for noted_at, _, id_, message in sorted(waiting, key=lambda each: each[0])
        ]

    def forget(self, key: str) -> None:
        """Drop what waits for messages of this session."""
        self._is_changed |= self._by_key.pop(key, None) is not None

    def forget_prefix(self, prefix: str) -> None:
        """Drop what waits for messages of sessions whose key begins so."""
        for key in [key for key in self._by_key if key.startswith(prefix)]:
            self.forget(key)

    def forget_author(self, author: str) -> None:
        """Drop the edits that wait and are the author's, or may be."""
        for waiting in self._by_key.values():
            for id_ in [id_ for id_, each in waiting.items() if goes_with(author, each.message)]:
                del waiting[id_]
                self._is_changed = True

    def compact(self, old: Cutoff) -> None:
        """Drop what waited too long."""
        for waiting in self._by_key.values():
            for id_ in [id_ for id_, each in waiting.items() if old.is_past(each.noted_at)]:
                del waiting[id_]
                self._is_changed = True

    def stage(self, changes: Changes) -> None:
        if not self._is_changed:
            return
        rows = [
            [key, id_, *each]
            for key, waiting in self._by_key.items()
            for id_, each in waiting.items()
        ]
        if rows:
            changes.put(_NAME, orjson.dumps({"version": 1, "waiting": rows}) + b"\n")
        else:
            changes.remove(_NAME)

    def settle(self) -> None:
        """What was staged is committed."""
        self._by_key = {key: waiting for key, waiting in self._by_key.items() if waiting}
        self._is_changed = False


def count_waiting(directory: Directory) -> int:
    """How many changes wait, by what the disk says."""
    return sum(map(len, _loads(directory.read(_NAME)).values()))


def _loads(content: bytes | None) -> dict[str, dict[str, _Waiting]]:
    """What the file says; nothing when it cannot be read."""
    found: dict[str, dict[str, _Waiting]] = {}
    try:
        for key, id_, noted_at, message in orjson.loads(content or b"{}").get("waiting", ()):
            if not isinstance(message, dict | None):
                return {}
            found.setdefault(str(key), {})[str(id_)] = _Waiting(int(noted_at), message)
    except (ValueError, TypeError, AttributeError):
        return {}
    return found
