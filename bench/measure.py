"""Runs, their median and spread, and whether a comparison reaches its bound."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from backscroll.contract.errors import BackscrollError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one contestant, one per run."""

    name: str
    unit: str
    runs: tuple[float, ...]
    problem: str = ""
    """Why the measurement failed; then there are no runs."""

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "unit": self.unit,
            "median": None if self.problem else self.median,
            "min": min(self.runs, default=None),
            "max": max(self.runs, default=None),
            "runs": list(self.runs),
            "problem": self.problem,
        }


def best(several: Sequence[Series]) -> Series:
    """The one with the highest median; of those that could be measured, if there are any."""
    measured = [series for series in several if not series.problem]
    return max(measured, key=lambda series: series.median, default=several[0])


@dataclass(frozen=True, slots=True)
class Bound:
    """A target for a ratio: a minimum or a maximum."""

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
    def problem(self) -> str:
        """Why there is no ratio, if there is none."""
        said = (f"{one.name}: {one.problem}" for one in (self.ours, self.theirs) if one.problem)
        return "; ".join(said)

    @property
    def ratio(self) -> float:
        return self.ours.median / self.theirs.median

    @property
    def is_met(self) -> bool:
        return not self.problem and self.bound.holds(self.ratio)

    def to_dict(self) -> dict[str, Any]:
        return {
            "measured": self.measured,
            "ours": self.ours.to_dict(),
            "theirs": self.theirs.to_dict(),
            "ratio": None if self.problem else self.ratio,
            "must_reach": str(self.bound),
            "is_met": self.is_met,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the table: ours against a target in its own unit."""

    measured: str
    ours: Series
    bound: Bound

    @property
    def problem(self) -> str:
        """Why there is no figure, if there is none."""
        return self.ours.problem

    @property
    def is_met(self) -> bool:
        return not self.problem and self.bound.holds(self.ours.median)

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


@dataclass(slots=True)
class Runs(Generic[T]):
    """The results of a contestant's runs; or, after a failure, only its reason."""

    results: list[T] = field(default_factory=list)
    problem: str = ""

    def series(
        self,
        name: str,
        unit: str,
        value: Callable[[T], float] = float,  # type: ignore[assignment]
    ) -> Series:
        """The figures that `value` computes from the results."""
        return Series(name, unit, tuple(map(value, self.results)), self.problem)


def interleaved(
    contestants: Mapping[str, Callable[[], T]], runs: int, tell: Callable[[str], None]
) -> dict[str, Runs[T]]:
    """Measure each contestant `runs` times, in turns, so that noise affects all of them.

    One that fails is skipped from then on.
    """
    figures: dict[str, Runs[T]] = {name: Runs() for name in contestants}
    for run in range(1, runs + 1):
        for name, measure in contestants.items():
            if figures[name].problem:
                continue
            tell(f"{name}, run {run} of {runs}")
            try:
                figures[name].results.append(measure())
            except Exception as error:
                figures[name] = Runs(problem=reason(error))
    return figures


def attempted(name: str, measure: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """The rows of one measurement; if it fails, a row with the reason. Raises nothing."""
    try:
        yield from measure()
    except Exception as error:
        yield Figure(name, Series("Backscroll", "", (), reason(error)), at_least(0))


def reason(error: Exception) -> str:
    """The error, as one line."""
    said = " ".join(str(error).split())[-500:]
    return said if isinstance(error, BackscrollError) else f"{type(error).__name__}: {said}"
