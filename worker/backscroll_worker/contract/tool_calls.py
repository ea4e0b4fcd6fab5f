"""Tool calls and their results, which must not be separated when old messages are deleted.

`backscroll.contract.tool_calls` says what a call and a result are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any

from backscroll.contract.tool_calls import exchange_of


class Exchanges:
    """Collects the calls of one session's messages, in order; places are increasing numbers."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._last_results: dict[int, int] = {}
        self._spans: list[tuple[int, int]] | None = None

    def take(self, place: int, extra: Mapping[str, Any] | None) -> None:
        """Add the next message; malformed calls and results are ignored."""
        exchange = exchange_of(extra)
        if exchange is None:
            return
        for answered in exchange.results:
            if answered in self._calls:
                self._last_results[self._calls[answered]] = place
                self._spans = None
        self._calls.update(dict.fromkeys(exchange.calls, place))

    def cut_at_most(self, place: int) -> int:
        """The last place up to this one that separates no call from its result."""
        span = self._torn_at(place)
        return span[0] if span else place

    def cut_at_least(self, place: int) -> int:
        """As `cut_at_most`, but the first such place from this one on."""
        span = self._torn_at(place)
        return span[1] + 1 if span else place

    def _torn_at(self, place: int) -> tuple[int, int] | None:
        """From the first call to the last result that a cut before `place` would separate."""
        if self._spans is None:
            self._spans = _merged(sorted(self._last_results.items()))
        index = bisect_left(self._spans, (place,)) - 1
        if index < 0 or self._spans[index][1] < place:
            return None
        return self._spans[index]


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge spans that overlap or touch."""
    merged: list[tuple[int, int]] = []
    for first, last in spans:
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged
