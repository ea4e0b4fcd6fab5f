"""A large fork while messages arrive: how long these wait for their commit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from backscroll import ChatMessage, Producer
from bench.arena import Arena, BenchmarkFailedError, wait_until
from bench.data import messages
from bench.drain import worker_program
from bench.latency import RATE, call_at_random
from bench.million_history import KEY, long_session
from bench.million_reads import p99
from bench.workers import count_commits, read_commits

_WARM_UP: Final = 250
_FEWEST: Final = 200
_TIMEOUT_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Forked:
    """Milliseconds from call to commit, at 100 messages a second: the p99 meanwhile, and before."""

    p99: float
    p99_alone: float


def fork_under_load(arena: Arena, size: int, count: int) -> Forked:
    """Let the worker fork a session of `size` messages while others arrive; `count` before it."""
    long_session(arena.store, size)
    commits = arena.directory / "commits"
    noted = partial(count_commits, commits)
    before = _WARM_UP + count
    sayings = messages(10**9)
    with (
        Producer(arena.url) as producer,
        Producer(arena.url, timeout_seconds=_TIMEOUT_SECONDS) as other,
        ThreadPoolExecutor(1) as pool,
        arena.running(*worker_program("Backscroll"), str(commits)),
    ):
        called = call_at_random(producer, itertools.islice(sayings, _WARM_UP), RATE)
        wait_until(lambda: noted() == _WARM_UP, "the worker's first commits")
        called += call_at_random(producer, itertools.islice(sayings, count), RATE)
        wait_until(lambda: noted() == before, "the commit of what was said before")
        forking = pool.submit(other.fork, KEY, "fork")
        called += call_at_random(producer, _while_running(forking, sayings), RATE)
        if forking.result().affected != size + 1:
            raise BenchmarkFailedError("the fork does not have all messages")
        wait_until(lambda: noted() == len(called), "the commit of what was said meanwhile")
    ended = read_commits(commits)
    waited = [1e3 * (end - start) for start, end in zip(called, ended, strict=True)]
    return Forked(p99(waited[before:]), p99(waited[_WARM_UP:before]))


def _while_running(
    future: Future[Any], sayings: Iterator[tuple[str, ChatMessage]]
) -> Iterator[tuple[str, ChatMessage]]:
    """`sayings` until that is done; a minimum in any case, so that there is a p99."""
    for count, saying in enumerate(sayings):
        if future.done() and count >= _FEWEST:
            return
        yield saying
