"""A cache of what messages files contain, so that an append does not read one again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.files import Stamp

_MAX_IDS: Final = 500_000


@dataclass(slots=True)
class CachedSession:
    """A session's op ids with the number of messages each affected, and its message count."""

    stamp: Stamp | None
    known: dict[str, int]
    count: int
    ends_line: bool = True
    """Whether the messages file ends with a line feed."""
    has_sidecar: bool = False
    is_closed: bool = False
    is_foreign: bool = False
    """Whether the messages file is not in UTF-8, so that lines cannot be added to it."""
    platform_ids: dict[str, str] = field(default_factory=dict)
    """The message id by the platform's id; of several messages with it, the first one's."""

    @property
    def size(self) -> int:
        """The number of its ids."""
        return len(self.known) + len(self.platform_ids)


class SessionCache:
    """The sessions used last, limited by the number of their ids."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self._by_key: OrderedDict[str, tuple[CachedSession, int]] = OrderedDict()
        self._ids = 0

    def get(self, key: str, stamp: Stamp | None) -> CachedSession | None:
        """The cached session, if its file has not changed since."""
        cached, _ = self._by_key.get(key, (None, 0))
        if cached is None or cached.stamp != stamp:
            return None
        self._by_key.move_to_end(key)
        return cached

    def put(self, key: str, cached: CachedSession) -> None:
        self.drop(key)
        self._by_key[key] = cached, cached.size
        self._ids += cached.size
        while self._ids > _MAX_IDS and len(self._by_key) > 1:
            self.drop(next(iter(self._by_key)))

    def drop(self, key: str) -> None:
        _, ids = self._by_key.pop(key, (None, 0))
        self._ids -= ids

    def clear(self) -> None:
        self._by_key.clear()
        self._ids = 0
