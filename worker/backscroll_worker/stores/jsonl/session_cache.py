"""What is remembered of messages files, so that an append need not read one again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.files import Stamp

_IDS: Final = 500_000


@dataclass(slots=True)
class Memory:
    """What one session's files tell: its op ids with how much each touched, and its count."""

    stamp: Stamp | None
    known: dict[str, int]
    count: int
    ends_line: bool = True
    """Whether the messages file ends where a line does."""
    has_sidecar: bool = False
    is_foreign: bool = False
    """Whether the messages file is not in UTF-8, so that nothing can be added to it."""
    platform_ids: dict[str, str] = field(default_factory=dict)
    """By the platform's id of a message, its message id; of several the first one's."""

    @property
    def size(self) -> int:
        """How many ids it has."""
        return len(self.known) + len(self.platform_ids)


class Memories:
    """Those of the sessions used last, bounded by the ids in them."""

    def __init__(self, activity: Activity) -> None:
        self.activity = activity
        self._by_key: OrderedDict[str, tuple[Memory, int]] = OrderedDict()
        self._ids = 0

    def get(self, key: str, stamp: Stamp | None) -> Memory | None:
        """The session's, if its file is still as it was."""
        memory, _ = self._by_key.get(key, (None, 0))
        if memory is None or memory.stamp != stamp:
            return None
        self._by_key.move_to_end(key)
        return memory

    def put(self, key: str, memory: Memory) -> None:
        self.drop(key)
        self._by_key[key] = memory, memory.size
        self._ids += memory.size
        while self._ids > _IDS and len(self._by_key) > 1:
            self.drop(next(iter(self._by_key)))

    def drop(self, key: str) -> None:
        _, ids = self._by_key.pop(key, (None, 0))
        self._ids -= ids

    def clear(self) -> None:
        self._by_key.clear()
        self._ids = 0
