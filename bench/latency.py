"""Latency: from the call of `Producer.append` until another process can see the message committed.

One producer calls evenly, 100 times a second. Beside it a thread watches the store through a
connection of its own, and notes when each message number is there. RQ's worker gets the same jobs
and is watched in the same way.
"""

from __future__ import annotations

import statistics
import threading
import time
from array import array
from dataclasses import dataclass
from typing import Final

from bench.arena import Arena, BenchmarkFailedError, wait_until
from bench.data import messages
from bench.drain import worker_program
from bench.progress import SqliteProgress
from producer import ChatMessage, Producer

RATE: Final = 100
_WARM_UP: Final = 20
_POLL_SECONDS: Final = 0.0002
_DEADLINE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from call to commit."""

    p50: float
    p99: float


def latency(arena: Arena, worker: str, count: int) -> Latency:
    """What `worker` needs for each of `count` messages while 100 a second are said."""
    sayings = list(messages(_WARM_UP + count))
    with (
        arena.running(*worker_program(worker)) as process,
        Producer(arena.url) as producer,
        SqliteProgress(arena) as seen,
    ):
        for key, message in sayings[:_WARM_UP]:
            producer.append(key, message)
        wait_until(
            lambda: process.poll() is not None or seen.committed() >= _WARM_UP,
            f"{worker}'s first commits",
        )
        watch = _Watch(arena, len(sayings))
        called = _call_evenly(producer, sayings[_WARM_UP:])
        committed = watch.result()[_WARM_UP:]
    if len(committed) != count:
        raise BenchmarkFailedError(f"{worker} committed {len(committed)} of {count} messages")
    waited = [1e3 * (end - start) for start, end in zip(called, committed, strict=True)]
    percentiles = statistics.quantiles(waited, n=100, method="inclusive")
    return Latency(p50=percentiles[49], p99=percentiles[98])


class _Watch:
    """Notes when each message number is first seen in the store, from now on."""

    def __init__(self, arena: Arena, last: int) -> None:
        self._arena = arena
        self._last = last
        self._seen_at = array("d")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def result(self) -> array[float]:
        """The times on the monotonic clock, by message number from 1."""
        self._thread.join()
        return self._seen_at

    def _run(self) -> None:
        deadline = time.monotonic() + _DEADLINE_SECONDS + self._last / RATE
        with SqliteProgress(self._arena) as progress:
            while len(self._seen_at) < self._last and time.monotonic() < deadline:
                new = progress.committed() - len(self._seen_at)
                self._seen_at.extend([time.monotonic()] * new)
                time.sleep(_POLL_SECONDS)


def _call_evenly(producer: Producer, sayings: list[tuple[str, ChatMessage]]) -> list[float]:
    """Make the calls, each at its time; returns when each was made."""
    called = []
    begin = time.monotonic()
    for index, (key, message) in enumerate(sayings):
        time.sleep(max(0.0, begin + index / RATE - time.monotonic()))
        called.append(time.monotonic())
        producer.append(key, message)
    return called
