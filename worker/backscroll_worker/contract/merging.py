"""Messages that get a place among those of a session: what both stores decide alike."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.lifecycle import Merge
from backscroll.contract.operations import Backfill

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


class Placed(NamedTuple):
    """A message of a session, as the store has it: `at` is when it was said, in microseconds."""

    item: Any
    at: int
    platform_id: str | None


def with_backfilled(operation: Backfill, own: Sequence[Placed], new: Iterable[Placed]) -> list[Any]:
    """The messages of a session with those that a backfill adds, each in its place.

    A new one comes after those that come before it in the operation, before those that come behind
    it there, and among others by its time.
    """
    indexes = dict[str | None, int]()
    for index, each in enumerate(own):
        indexes.setdefault(each.platform_id, index)
    added = {each.platform_id: each for each in new}
    ids = list(dict.fromkeys(message.platform_id for message in operation.messages))
    ends, end = list[int](), len(own)
    for id_ in reversed(ids):
        ends.append(end)
        end = indexes.get(id_, end)
    found, at = list[Any](), 0
    for id_, end in zip(ids, reversed(ends), strict=True):
        upto = at
        if id_ in indexes:
            upto = max(at, indexes[id_] + 1)
        elif id_ in added:
            while upto < end and own[upto].at <= added[id_].at:
                upto += 1
        found += [each.item for each in own[at:upto]]
        at = upto
        if id_ in added:
            found.append(added[id_].item)
    return found + [each.item for each in own[at:]]
