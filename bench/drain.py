"""Drain: how many queued appends per second one worker process commits.

The queue is filled first, then the worker starts. Another process watches the store and counts
commits. The rate is measured from the first commit it sees to the last, so that starting an
interpreter, connecting and opening the store do not count for any contestant.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bench.arena import Arena, BenchmarkFailedError, wait_until, wait_while_it_grows
from bench.fill import fill_queue
from bench.progress import progress


@dataclass(frozen=True, slots=True)
class Contestant:
    """A worker to measure, and its number of jobs: enough for a second or more of work."""

    name: str
    jobs: int
    work: tuple[str, ...]
    fill: Callable[[Arena, int], None]


def peer(name: str, jobs: int) -> Contestant:
    """One of the other task queues."""
    module = f"bench.peers.{name}_peer"
    return Contestant(
        name, jobs, (module, "work"), lambda arena, count: arena.run(module, "fill", str(count))
    )


def worker(name: str, jobs: int) -> Contestant:
    """A worker for our own jobs: Backscroll, SimpleWorker or Worker."""
    return Contestant(name, jobs, worker_program(name), fill_queue)


def worker_program(name: str) -> tuple[str, ...]:
    """The arguments of `python -m` for that worker."""
    return ("bench.workers", name)


def drain(arena: Arena, contestant: Contestant) -> float:
    """Jobs per second, from the first commit seen to the last."""
    jobs = contestant.jobs
    contestant.fill(arena, jobs)
    with (
        arena.running(*contestant.work) as process,
        progress(arena, jobs) as seen,
    ):
        wait_until(
            lambda: process.poll() is not None or seen.committed() > 0,
            f"{contestant.name}'s first commit",
        )
        first, began = seen.committed(), time.monotonic()
        ended = wait_while_it_grows(seen.committed, jobs, process, f"{contestant.name}'s commits")
        committed = seen.committed()
    if not first < committed == jobs:
        raise BenchmarkFailedError(
            f"{contestant.name} committed {committed:,} of {jobs:,} jobs, {first:,} at first sight"
        )
    return (jobs - first) / (ended - began)
