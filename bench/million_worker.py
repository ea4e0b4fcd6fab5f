"""A worker on a large store: latency while it removes much, and memory.

Server, worker and producers are processes of their own, and messages arrive at random times, as in
`bench.latency`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from backscroll import ChatMessage, Producer
from backscroll_worker.contract.pacing import now_micros
from bench.arena import Arena, BenchmarkFailedError
from bench.data import messages
from bench.drain import worker_program
from bench.latency import call_at_random
from bench.memory import resident_mib
from bench.million_fill import ACTIVE, Filled
from bench.million_reads import PAGE, p99
from bench.workers import read_commits

RATE: Final = 500
_WARM_UP: Final = 250
_BEFORE: Final = 1_250
_FEWEST: Final = 200
_SERVED: Final = 200
_TIMEOUT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class UnderLoad:
    """A removal while messages arrive."""

    seconds: float
    arrived: int
    p99: float
    """Milliseconds from call to commit of messages that arrived meanwhile."""
    p99_alone: float
    """The same just before, without a removal."""
    worker_mib: float


def cleanup_under_load(
    arena: Arena, filled: Filled, sessions: int, queries: Sequence[str]
) -> UnderLoad:
    """Let the worker delete the `sessions` longest idle while 500 messages per second arrive."""
    keys = filled.keys
    idle_until = filled.last_activity[keys[sessions]]
    ttl_hours = (now_micros() - idle_until) / 3.6e9
    return _under_load(arena, keys[sessions:], lambda remover: remover.cleanup(ttl_hours), queries)


def erasure_under_load(arena: Arena, filled: Filled, author: str) -> UnderLoad:
    """Let the worker erase the author's messages while 500 messages per second arrive."""
    return _under_load(arena, filled.keys, lambda remover: remover.erase(author=author))


def _under_load(
    arena: Arena,
    keys: Sequence[str],
    remove: Callable[[Producer], Any],
    queries: Sequence[str] = (),
) -> UnderLoad:
    sayings = _sayings(keys[-ACTIVE:])
    commits = arena.directory / "commits"
    commits.unlink(missing_ok=True)  # a worker appends to an earlier one's records
    with (
        Producer(arena.url) as producer,
        Producer(arena.url, timeout_seconds=_TIMEOUT_SECONDS) as remover,
        ThreadPoolExecutor(1) as pool,
        arena.running(*worker_program("Backscroll"), str(commits)) as process,
    ):
        producer.append(*next(sayings), ack="stored")  # from here on the worker has started
        before = call_at_random(producer, itertools.islice(sayings, _BEFORE), RATE)
        producer.append(*next(sayings), ack="stored")
        began = time.monotonic()
        removing = pool.submit(remove, remover)
        called = call_at_random(producer, _while_running(removing, sayings), RATE)
        removing.result()
        seconds = time.monotonic() - began
        producer.append(*next(sayings), ack="stored")
        for key in keys[-_SERVED:]:
            producer.load(key, limit=PAGE)
        for query in queries:
            producer.search(query)
        worker_mib = resident_mib(process.pid)
    ends = read_commits(commits)
    committed = ends[_BEFORE + 2 :][: len(called)]
    if len(committed) != len(called):
        raise BenchmarkFailedError(f"{len(committed)} of {len(called)} messages were committed")
    alone = _waited(before[_WARM_UP:], ends[_WARM_UP + 1 : _BEFORE + 1])
    return UnderLoad(seconds, len(called), p99(_waited(called, committed)), p99(alone), worker_mib)


def _waited(called: Sequence[float], committed: Sequence[float]) -> list[float]:
    return [1e3 * (end - start) for start, end in zip(called, committed, strict=True)]


def _sayings(keys: Sequence[str]) -> Iterator[tuple[str, ChatMessage]]:
    """An endless stream of messages, distributed over the sessions."""
    for key, (_, message) in zip(itertools.cycle(keys), messages(10**9), strict=False):
        yield key, message


def _while_running(
    future: Future[Any], sayings: Iterator[tuple[str, ChatMessage]]
) -> Iterator[tuple[str, ChatMessage]]:
    """`sayings` until that is done; a minimum in any case, so that there is a p99."""
    for count, saying in enumerate(sayings):
        if future.done() and count >= _FEWEST:
            return
        yield saying
