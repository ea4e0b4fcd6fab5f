"""Turns whose lease has expired: their adapter died, or has not written for too long."""

from __future__ import annotations

from typing import Final

from backscroll_worker.contract.history import HistoryReader
from backscroll_worker.stores import Store

EXPIRED_ADVICE: Final = (
    "'backscroll sessions --expired' lists them; the next turn frees each, and so does "
    "'backscroll describe KEY --state idle'"
)
_MOST: Final = 1_000


def expired_turns(store: Store) -> str:
    """What to say of them; empty when there are none."""
    page = HistoryReader(store).sessions(expired=True, limit=_MOST)
    if not page:
        return ""
    more = " or more" if page.cursor else ""
    return f"{len(page):,}{more} sessions have a turn whose lease has expired"
