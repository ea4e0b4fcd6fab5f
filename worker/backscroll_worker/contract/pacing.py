"""Long work in slices: how long one lasts, so that no append waits for it noticeably."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Final, TypeVar, cast

T = TypeVar("T")

Slices = Generator[None, None, T]
"""Long work that hands over after every slice of some milliseconds and returns a report."""

Progress = Callable[[int, int], None]
"""Told now and then how much of how much is done."""

SLICE_SECONDS: Final = 0.005
_PATIENCE_SECONDS: Final = 0.002


class Pace:
    """How much to do in a slice: as much as takes about `SLICE_SECONDS`, by the last one's pace.

    What a commit takes shows only afterwards, so a slice that ends with one is bounded this way.
    """

    def __init__(self, amount: int, most: int, least: int = 1) -> None:
        self._amount = amount
        self._most = most
        self._least = least

    @contextmanager
    def slice(self) -> Iterator[int]:
        """Do as much as this says; the next slice gets what the time it takes allows."""
        started = time.perf_counter()
        yield self._amount
        change = SLICE_SECONDS / max(time.perf_counter() - started, 1e-6)
        amount = int(self._amount * min(max(change, 0.25), 2.0))
        self._amount = min(max(amount, self._least), self._most)


def aside(work: Callable[[], T]) -> Generator[None, None, T]:
    """Do `work`, which mostly waits for the disk, in a thread, and hand over until it is done."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(work)
        while not wait([doing], _PATIENCE_SECONDS).done:
            yield
    return doing.result()


class SliceClock:
    """Tells when a slice has lasted long enough; the first begins when it is made."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A slice begins now."""
        self._started = time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether the slice should hand over."""
        return time.perf_counter() - self._started >= SLICE_SECONDS


def unobserved(_done: int, _total: int) -> None:
    """The progress nobody wants to see."""


def finish(slices: Slices[T]) -> T:
    """Run all slices in one go and return the report."""
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            return cast(T, stop.value)


def now_micros() -> int:
    """The store's clock: microseconds since 1970 UTC."""
    return time.time_ns() // 1000
