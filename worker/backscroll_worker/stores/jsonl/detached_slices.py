"""Deletes sessions that a deletion has detached, a few in a slice."""

from __future__ import annotations

from collections.abc import Generator

from backscroll_worker.contract.pacing import SliceClock
from backscroll_worker.stores.jsonl.slices import OpenGroup


def remove_detached(open_group: OpenGroup) -> Generator[None]:
    """Delete all of them; yields after each slice."""
    is_over = False
    while not is_over:
        clock = SliceClock()
        with open_group() as group:
            for name in list(group.detached.names):
                group.remove_detached(name)
                if clock.is_over:
                    break
            is_over = not group.detached.names
        if not is_over:
            yield
