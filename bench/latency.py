"""Latency: from the call of `Producer.append` until the worker's commit of the message returns.

One producer makes 100 calls per second on average, at random times: the gaps are those of a Poisson
process, the same for every worker. The worker's program records when each of its commits returned,
on the clock that all processes share, so that no observer disturbs the measurement. RQ's worker
gets the same jobs and is measured in the same way.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from backscroll import ChatMessage, Producer
from bench.arena import Arena, BenchmarkFailedError, wait_while_it_grows
from bench.data import SEED, messages
from bench.drain import worker_program
from bench.progress import SqliteProgress
from bench.workers import count_commits, read_commits

RATE: Final = 100
_WARM_UP: Final = 250


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from call to commit."""

    p50: float
    p99: float


def latency(arena: Arena, worker: str, count: int) -> Latency:
    """The latency of `worker` for each of `count` messages, at 100 messages per second."""
    sayings = list(messages(_WARM_UP + count))
    commits = arena.directory / "commits"
    with (
        Producer(arena.url) as producer,
        SqliteProgress(arena) as seen,
        arena.running(*worker_program(worker), str(commits)) as process,
    ):
        call_at_random(producer, sayings[:_WARM_UP], RATE)
        wait_while_it_grows(seen.committed, _WARM_UP, process, f"{worker}'s commits")
        called = call_at_random(producer, sayings[_WARM_UP:], RATE)
        noted = partial(count_commits, commits)
        wait_while_it_grows(noted, len(sayings), process, f"{worker}'s commits")
    committed = read_commits(commits)[_WARM_UP:]
    if len(committed) != count:
        raise BenchmarkFailedError(f"{worker} committed {len(committed)} of {count} messages")
    waited = [1e3 * (end - start) for start, end in zip(called, committed, strict=True)]
    percentiles = statistics.quantiles(waited, n=100, method="inclusive")
    return Latency(p50=percentiles[49], p99=percentiles[98])


def call_at_random(
    producer: Producer, sayings: Iterable[tuple[str, ChatMessage]], rate: float
) -> list[float]:
    """Make `rate` calls per second on average; returns the time of each."""
    called = []
    gaps = random.Random(SEED)
    due = time.monotonic()
    for key, message in sayings:
        due += gaps.expovariate(rate)
        time.sleep(max(0.0, due - time.monotonic()))
        called.append(time.monotonic())
        producer.append(key, message)
    return called
