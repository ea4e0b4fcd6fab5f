"""A cache of what messages files contain, so that an append does not read one again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.files import Stamp

_MAX_OP_IDS: Final = 500_000


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


class SessionCache:
    """The sessions used last, limited by the number of their op ids."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self._by_key: OrderedDict[str, tuple[CachedSession, int]] = OrderedDict()
        self._op_ids = 0

    def get(self, key: str, stamp: Stamp | None) -> CachedSession | None:
        """The cached session, if its file has not changed since."""
        cached, _ = self._by_key.get(key, (None, 0))
        if cached is None or cached.stamp != stamp:
            return None
        self._by_key.move_to_end(key)
        return cached

    def put(self, key: str, cached: CachedSession) -> None:
        self.drop(key)
        self._by_key[key] = cached, len(cached.known)
        self._op_ids += len(cached.known)
        while self._op_ids > _MAX_OP_IDS and len(self._by_key) > 1:
            self.drop(next(iter(self._by_key)))

    def drop(self, key: str) -> None:
        _, op_ids = self._by_key.pop(key, (None, 0))
        self._op_ids -= op_ids

    def clear(self) -> None:
        self._by_key.clear()
        self._op_ids = 0
