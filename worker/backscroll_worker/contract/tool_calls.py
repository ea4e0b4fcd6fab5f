"""Tool calls and their results, which must not be separated when old messages are deleted.

An assistant's `extra.tool_calls[].id` names a call, a later message's `extra.tool_call_id` the
call that it answers, as in OpenAI's API. An id may be reused: a result belongs to the last call
before it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any


class Exchanges:
    """Collects the calls of one session's messages, in order; places are increasing numbers."""

    def __init__(self) -> None:
        self._calls: dict[str, int] = {}
        self._last_results: dict[int, int] = {}
        self._spans: list[tuple[int, int]] | None = None

    def take(self, place: int, extra: Mapping[str, Any] | None) -> None:
        """Add the next message; malformed calls and results are ignored."""
        if extra is None:
            return
        answered = extra.get("tool_call_id")
        if isinstance(answered, str) and answered in self._calls:
            self._last_results[self._calls[answered]] = place
            self._spans = None
        calls = extra.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict) and isinstance(call.get("id"), str):
                self._calls[call["id"]] = place

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
