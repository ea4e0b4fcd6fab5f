"""Reads of the newest messages, pops, and turns of many sessions at once, beside openai-agents'.

One process makes all calls on one event loop. A worker runs, and nothing else but what is measured.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

from backscroll.contract.ids import DEFAULT_QUEUE
from backscroll.transport.connection import connect
from backscroll.transport.rq_protocol import in_flight_key, queue_key
from bench.arena import Arena, BenchmarkFailedError, wait_until
from bench.conversations import OVER_REDIS, Conversation, Histories, opened, sayings
from bench.data import SEED
from bench.drain import worker_program
from bench.million_reads import PAGE, p99

WAITING_JOBS: Final = 10_000
_READ_FIRST: Final = 3
_FEWEST: Final = 3
_NEARLY: Final = 0.8
_CALM_SECONDS: Final = 5.5
"""After it the worker keeps tails again of sessions whose reads always followed writes."""


@dataclass(slots=True)
class Reading:
    """Histories that have been read several times, and the measurements of each, by its name."""

    arena: Arena
    histories: Histories
    runner: asyncio.Runner

    def load_p50(self, name: str, count: int) -> float:
        """Milliseconds to load the newest 50 messages of a session drawn at random."""
        return statistics.median(self.runner.run(self._timed(name, _load, count)))

    def pop_p50(self, name: str, count: int) -> float:
        """Milliseconds to pop the newest message of a session drawn at random."""
        p50 = statistics.median(self.runner.run(self._timed(name, _pop, count)))
        self._finish_jobs()
        return p50

    def turns(self, name: str, count: int) -> float:
        """Turns per second of all sessions at once, each with `count` of them, one by one."""
        turns_per_second = self.runner.run(_turns(self.histories[name], count))
        self._finish_jobs()
        return turns_per_second

    def load_p99(self, count: int) -> float:
        """Milliseconds to load over Redis while nothing else is asked of the worker, the p99."""
        self._calm_down()
        return p99(self.runner.run(self._timed(OVER_REDIS, _load, count)))

    def load_p99_while_jobs_wait(
        self, count: int, seconds: float, jobs: int = WAITING_JOBS
    ) -> float:
        """The same while another process keeps `jobs` appends to other sessions waiting.

        After `seconds` it ends with fewer than `count`. Raises `BenchmarkFailedError` if there were
        not that many jobs.
        """
        self._calm_down()
        with self._waiting() as waiting, self.arena.running("bench.refill", str(jobs)):
            wait_until(lambda: waiting() >= jobs, f"{jobs:,} waiting jobs")
            depths: list[int] = []
            until = time.monotonic() + seconds

            def is_over() -> bool:
                depths.append(waiting())
                return time.monotonic() > until and len(depths) > _FEWEST

            waited = self.runner.run(self._timed(OVER_REDIS, _load, count, is_over))
        self._finish_jobs()
        if (usual := statistics.median(depths)) < _NEARLY * jobs:
            raise BenchmarkFailedError(f"{usual:,.0f} jobs waited, and not {jobs:,}")
        return p99(waited)

    def _finish_jobs(self) -> None:
        """Wait for the worker, so that nothing is left for who is next."""
        with self._waiting() as waiting:
            wait_until(lambda: waiting() == 0, "the end of the jobs that wait")

    @contextmanager
    def _waiting(self) -> Iterator[Callable[[], int]]:
        """How many jobs wait or are in the worker's hands."""
        lists = queue_key(DEFAULT_QUEUE), in_flight_key(DEFAULT_QUEUE)
        with connect(self.arena.url) as server:
            yield lambda: sum(int(server.llen(name)) for name in lists)

    def _calm_down(self) -> None:
        """Have the sessions be some that are read, and not in the middle of a turn."""
        time.sleep(_CALM_SECONDS)
        self.runner.run(_read_first({OVER_REDIS: self.histories[OVER_REDIS]}))

    async def _timed(
        self,
        name: str,
        call: Callable[[Conversation], Awaitable[None]],
        count: int,
        is_over: Callable[[], bool] = lambda: False,
    ) -> list[float]:
        """Milliseconds of each call, each of a session drawn at random, until `is_over`."""
        drawn = random.Random(SEED).choices(self.histories[name], k=count)
        waited: list[float] = []
        for conversation in itertools.takewhile(lambda _: not is_over(), drawn):
            began = time.perf_counter()
            await call(conversation)
            waited.append(1e3 * (time.perf_counter() - began))
        return waited


@contextmanager
def reading(arena: Arena, sessions: int, items: int) -> Iterator[Reading]:
    """All histories with that many sessions of that many messages, and a worker for ours."""
    with arena.running(*worker_program("Backscroll")), asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            histories = runner.run(stack.enter_async_context(opened(arena, sessions, items)))
            runner.run(_read_first(histories))
            yield Reading(arena, histories, runner)
        finally:
            runner.run(stack.aclose())


async def _read_first(histories: Histories) -> None:
    for conversations in histories.values():
        for _ in range(_READ_FIRST):
            await asyncio.gather(*map(_load, conversations))


async def _load(conversation: Conversation) -> None:
    if len(found := await conversation.load(PAGE)) != PAGE:
        raise BenchmarkFailedError(f"{len(found)} messages were loaded, and not {PAGE}")


async def _pop(conversation: Conversation) -> None:
    if not await conversation.pop():
        raise BenchmarkFailedError("no message was popped")


async def _turns(conversations: Sequence[Conversation], count: int) -> float:
    said = sayings()

    async def talk(conversation: Conversation) -> None:
        for _ in range(count):
            await conversation.append(next(said))
            await _load(conversation)
            await conversation.append(next(said))

    began = time.perf_counter()
    await asyncio.gather(*map(talk, conversations))
    seconds = time.perf_counter() - began
    return len(conversations) * count / seconds
