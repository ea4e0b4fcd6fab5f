"""Memory: of the worker's process over many jobs, and of the server per queued append."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import redis
from rq import Queue
from rq.serializers import JSONSerializer

from backscroll import AsyncProducer
from backscroll.contract.ids import DEFAULT_QUEUE
from bench.arena import Arena, wait_until
from bench.data import calls, messages
from bench.drain import worker_program
from bench.fill import enqueue_concurrently, fill_queue
from bench.progress import SqliteProgress

_CALLERS: Final = 500
_MOST_AHEAD: Final = 50_000
_CHUNK: Final = 10_000


@dataclass(frozen=True, slots=True)
class Growth:
    """The worker's resident set, in MiB, after its first jobs and after many more."""

    early: float
    late: float


def worker_growth(arena: Arena, early_jobs: int, late_jobs: int) -> Growth:
    """Resident memory of one worker after `early_jobs` and after `late_jobs`, queue empty."""
    with arena.running(*worker_program("Backscroll")) as process, SqliteProgress(arena) as seen:

        def wait_for(jobs: int) -> None:
            wait_until(
                lambda: process.poll() is not None or seen.committed() >= jobs, f"{jobs:,} commits"
            )

        fill_queue(arena, early_jobs)
        wait_for(early_jobs)
        early = resident_mib(process.pid)
        asyncio.run(_keep_busy(arena.url, late_jobs - early_jobs, early_jobs, wait_for))
        wait_for(late_jobs)
        return Growth(early, resident_mib(process.pid))


async def _keep_busy(url: str, jobs: int, done: int, wait_for: Callable[[int], None]) -> None:
    """Enqueue `jobs` more, with a limited lead over the worker."""
    async with AsyncProducer(url) as producer:
        for sent in range(0, jobs, _CHUNK):
            chunk = messages(min(_CHUNK, jobs - sent))
            await enqueue_concurrently(producer, chunk, _CALLERS)
            wait_for(done + sent - _MOST_AHEAD)


def resident_mib(pid: int) -> float:
    """A process's resident memory, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def bytes_queued(arena: Arena, count: int) -> float:
    """Server memory per append queued by `Producer`."""
    return _bytes_each(arena.url, count, lambda: fill_queue(arena, count))


def bytes_queued_by_rq(arena: Arena, count: int) -> float:
    """Server memory per append queued by `rq.Queue.enqueue`."""

    def fill() -> None:
        with redis.Redis.from_url(arena.url) as connection:
            queue = Queue(DEFAULT_QUEUE, connection=connection, serializer=JSONSerializer)
            for _, arguments in calls(count):
                queue.enqueue("backscroll_worker.jobs.append", result_ttl=0, **arguments)

    return _bytes_each(arena.url, count, fill)


def _bytes_each(url: str, count: int, fill: Callable[[], None]) -> float:
    with redis.Redis.from_url(url) as client:
        before = _data_bytes(client)
        fill()
        return (_data_bytes(client) - before) / count


def _data_bytes(client: redis.Redis) -> int:
    """Memory in use, without the buffers of the append-only file and of clients."""
    memory: dict[str, Any] = client.info("memory")
    buffers = ("mem_aof_buffer", "mem_clients_normal")
    return int(memory["used_memory"]) - sum(int(memory[name]) for name in buffers)
