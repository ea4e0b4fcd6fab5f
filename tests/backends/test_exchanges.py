"""Tool calls and results: no cut tears one from the other, whatever adapters write."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backscroll_worker.contract.tool_calls import Exchanges
from backscroll_worker.testing.conformance.retention import EXTRAS, pairs, tears


@given(st.lists(EXTRAS, max_size=14))
def test_a_cut_is_the_nearest_that_tears_nothing(extras: list[dict[str, Any] | None]) -> None:
    exchanges = Exchanges()
    for place, extra in enumerate(extras):
        exchanges.take(place, extra)
    torn = pairs(extras)
    sound = [cut for cut in range(len(extras) + 2) if not tears(torn, cut)]
    for wanted in range(len(extras) + 1):
        assert exchanges.cut_at_most(wanted) == max(cut for cut in sound if cut <= wanted)
        assert exchanges.cut_at_least(wanted) == min(cut for cut in sound if cut >= wanted)


@given(st.lists(EXTRAS, max_size=10), st.integers(0, 10))
def test_cuts_asked_for_between_messages_change_nothing(
    extras: list[dict[str, Any] | None], wanted: int
) -> None:
    asked, silent = Exchanges(), Exchanges()
    for place, extra in enumerate(extras):
        asked.take(place, extra)
        asked.cut_at_most(wanted)
        silent.take(place, extra)
    assert asked.cut_at_most(wanted) == silent.cut_at_most(wanted)
