"""Tool calls and results: no cut tears one from the other, whatever adapters write."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backscroll_worker.contract.tool_calls import Exchanges

IDS = st.sampled_from("abcd")
EXTRAS = st.one_of(
    st.none(),
    st.builds(lambda ids: {"tool_calls": [{"id": id_} for id_ in ids]}, st.lists(IDS, max_size=3)),
    st.builds(lambda id_: {"tool_call_id": id_}, IDS),
    st.builds(lambda a, b: {"tool_call_id": a, "tool_calls": [{"id": b}]}, IDS, IDS),
    st.sampled_from([{"tool_calls": 7}, {"tool_calls": [7, {"id": []}]}, {"tool_call_id": {}}]),
)


def pairs(extras: list[dict[str, Any] | None]) -> set[tuple[int, int]]:
    """Each result with its call, found the slow way: the last call of that id before it."""
    found = set()
    for result, extra in enumerate(extras):
        wanted = (extra or {}).get("tool_call_id")
        for call in range(result - 1, -1, -1):
            calls = (extras[call] or {}).get("tool_calls")
            ids = [c.get("id") for c in calls if isinstance(c, dict)] if type(calls) is list else []
            if isinstance(wanted, str) and wanted in ids:
                found.add((call, result))
                break
    return found


def tears(torn: set[tuple[int, int]], cut: int) -> bool:
    return any(call < cut <= result for call, result in torn)


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
