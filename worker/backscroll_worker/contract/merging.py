"""Two sessions become one: what both stores decide alike."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.lifecycle import Merge

MOST_MOVED: Final = 5_000
"""Messages that a merge may move in the store, in some 0.4 s: it is done at once."""


def check_size(operation: Merge, moved: int) -> None:
    """Raise `OperationRefusedError` where a merge would move more messages than are at once."""
    if moved > MOST_MOVED:
        raise OperationRefusedError(
            f"merging {operation.key!r} into {operation.into!r} would move {moved:,} messages, and "
            f"{MOST_MOVED:,} are the most"
        )


def in_order_of_time(into: Sequence[int], other: Sequence[int]) -> list[tuple[int, int]]:
    """The order of two sessions' messages, by their times: (0, index) for one of `into`, else 1.

    Each session's stay in their order: none counts as earlier than one before it.
    """
    placed = (_placed(which, times) for which, times in enumerate((into, other)))
    return [(which, index) for _, which, index in heapq.merge(*placed)]


def _placed(which: int, times: Iterable[int]) -> Iterator[tuple[int, int, int]]:
    latest = 0
    for index, at in enumerate(times):
        latest = max(latest, at)
        yield latest, which, index
