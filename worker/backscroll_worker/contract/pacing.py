"""Maintenance in slices: their length, so that no append waits noticeably."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeVar, cast

from backscroll.contract.results import Outcome

T = TypeVar("T")

Slices = Generator[None, None, T]
"""Long work that yields after every slice of some milliseconds and returns a report."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The answer to a write that has its place in the order, and is carried out by `slices`.

    They return its outcome. If nobody runs them, the store does so at some time.
    """

    slices: Slices[Outcome]


Progress = Callable[[int, int], None]
"""Called now and then with how much of how much is done."""

SLICE_SECONDS: Final = 0.0025
_PATIENCE_SECONDS: Final = 0.002


class Pace:
    """The amount of work in a slice of about so many seconds, derived from the previous slice.

    A commit's duration is known only afterwards, so slices that end with one are limited this way.
    """

    def __init__(
        self, amount: int, most: int, least: int = 1, seconds: float = SLICE_SECONDS
    ) -> None:
        self._seconds = seconds
        self._amount = amount
        self._most = most
        self._least = least

    @contextmanager
    def slice(self) -> Iterator[int]:
        """The amount of work for this slice; its duration determines the next amount."""
        started = time.perf_counter()
        yield self._amount
        change = self._seconds / max(time.perf_counter() - started, 1e-6)
        amount = int(self._amount * min(max(change, 0.25), 2.0))
        self._amount = min(max(amount, self._least), self._most)


def aside(work: Callable[[], T]) -> Generator[None, None, T]:
    """Run `work`, which mostly waits for the disk, in a thread, and yield until it is done."""
    with ThreadPoolExecutor(1) as pool:
        doing = pool.submit(work)
        while not wait([doing], _PATIENCE_SECONDS).done:
            yield
    return doing.result()


class SliceClock:
    """Reports when a slice has lasted long enough; the first begins at creation."""

    def __init__(self, seconds: float = SLICE_SECONDS) -> None:
        self._seconds = seconds
        self.begin()

    def begin(self) -> None:
        """Begin a slice."""
        self._started = time.perf_counter()

    @property
    def is_over(self) -> bool:
        """Whether the slice should yield."""
        return time.perf_counter() - self._started >= self._seconds


def unobserved(_done: int, _total: int) -> None:
    """Ignore the progress."""


def finish(slices: Slices[T]) -> T:
    """Run all slices at once; returns the report."""
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            return cast(T, stop.value)


def now_micros() -> int:
    """The store's clock: microseconds since 1970 UTC."""
    return time.time_ns() // 1000
