"""Turns whose lease has expired: their adapter died, or has not written for too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from backscroll_worker.contract.history import HistoryReader
from backscroll_worker.stores import Store

_ADVICE: Final = (
    "'backscroll sessions --expired' lists them; the next turn frees each, and so does "
    "'backscroll describe KEY --state idle'"
)
_MOST: Final = 1_000


def expired_turns(store: Store) -> Iterator[tuple[str, str]]:
    """How many there are, if any, and what to do about them."""
    page = HistoryReader(store).sessions(expired=True, limit=_MOST)
    if page:
        more = " or more" if page.cursor else ""
        yield f"sessions with an expired turn: {len(page):,}{more}", _ADVICE
