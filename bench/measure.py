"""Runs, their median and spread, and whether a comparison reaches its bound."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one contestant, one for each run."""

    name: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.runs),
            "max": max(self.runs),
            "runs": list(self.runs),
        }


@dataclass(frozen=True, slots=True)
class Bound:
    """What a ratio must reach: at least or at most so much."""

    direction: Literal["≥", "≤"]
    value: float

    def holds(self, ratio: float) -> bool:
        return ratio >= self.value if self.direction == "≥" else ratio <= self.value

    def __str__(self) -> str:
        return f"{self.direction} {self.value:,g}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the table: ours against theirs, by the medians of the runs."""

    measured: str
    ours: Series
    theirs: Series
    bound: Bound

    @property
    def ratio(self) -> float:
        return self.ours.median / self.theirs.median

    @property
    def is_met(self) -> bool:
        return self.bound.holds(self.ratio)

    def to_dict(self) -> dict[str, Any]:
        return {
            "measured": self.measured,
            "ours": self.ours.to_dict(),
            "theirs": self.theirs.to_dict(),
            "ratio": self.ratio,
            "must_reach": str(self.bound),
            "is_met": self.is_met,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table: ours against a bound of its own, in its unit."""

    measured: str
    ours: Series
    bound: Bound

    @property
    def is_met(self) -> bool:
        return self.bound.holds(self.ours.median)

    def to_dict(self) -> dict[str, Any]:
        return {
            "measured": self.measured,
            "ours": self.ours.to_dict(),
            "must_reach": f"{self.bound} {self.ours.unit}",
            "is_met": self.is_met,
        }


Row = Comparison | Figure


def at_least(value: float) -> Bound:
    return Bound("≥", value)


def at_most(value: float) -> Bound:
    return Bound("≤", value)


def interleaved(
    contestants: Mapping[str, Callable[[], T]], runs: int, tell: Callable[[str], None]
) -> dict[str, list[T]]:
    """Measure each contestant `runs` times, in turns, so that noise meets all of them."""
    figures: dict[str, list[T]] = {name: [] for name in contestants}
    for run in range(1, runs + 1):
        for name, measure in contestants.items():
            tell(f"{name}, run {run} of {runs}")
            figures[name].append(measure())
    return figures
