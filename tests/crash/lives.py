"""Short lives for workers: processes forked from one that has imported everything already.

To import takes longer than to be killed. `forkserver` of the standard library is that process.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, Final

from backscroll_worker.contract import forks
from backscroll_worker.loop import reservation
from backscroll_worker.loop.running import run_worker
from backscroll_worker.loop.tails import Tails
from backscroll_worker.settings import Settings
from backscroll_worker.stores.jsonl import JsonlBackend, deleting
from backscroll_worker.stores.sqlite import SqliteBackend
from backscroll_worker.stores.sqlite.maintenance import purge
from backscroll_worker.transfer import store as intake
from backscroll_worker.transfer.migrate import migrate
from tests.crash.disk import watch
from tests.crash.mutants import MUTANTS
from tests.crash.points import POINTS, Fuse, around, swap
from tests.crash.trouble import Trouble

KILLED: Final = -signal.SIGKILL

context: Final[ForkServerContext] = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["tests.crash.lives", "tests.crash.writer", "pytest", "tests.crash.frozen"]
)


@dataclass(frozen=True, slots=True)
class Life:
    """What a worker is to do, and at which passing of which point it is killed.

    `migrates` is a directory to take over instead of working. While the file `trouble` is there,
    the disk fails in the way it says. `trace` gets a line for each group that is applied. This
    life's clock is ahead by `clock_seconds`.
    """

    settings: Settings
    log: Path
    point: str = ""
    passing: int = 0
    seed: int = 0
    mutant: str = ""
    burst: bool = True
    migrates: Path | None = None
    trouble: Path | None = None
    trace: Path | None = None
    clock_seconds: int = 0

    def start(self) -> ForkServerProcess:
        """Begin this life in a process of its own."""
        process = context.Process(target=_live, args=(self,), daemon=True)
        process.start()
        return process


def _live(life: Life) -> None:
    output = os.open(life.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, force=True)
    if life.clock_seconds:
        _set_clock(life.clock_seconds)
    if life.trouble is not None:
        watch(Trouble(life.trouble))
    if life.trace is not None:
        _trace(life.trace)
    if life.point:
        POINTS[life.point].install(Fuse(life.passing, life.seed))
    if life.mutant:  # last: what it leaves out must not be seen as done
        MUTANTS[life.mutant]()
    if life.migrates is not None:
        swap(intake, "MESSAGES_PER_GROUP", 60)  # two files
        migrate(life.migrates, life.settings.store)
        return
    assert life.settings.redis_url is not None
    # Whoever dies here was killed, which says nothing of the job that was in flight alone; that
    # one which does kill its workers fails is shown by tests/test_deadly_jobs.py.
    swap(reservation, "DEATHS_ALONE", 1_000)
    if life.seed % 2:
        _do_little_at_once()
    run_worker(life.settings, life.settings.redis_url, burst=life.burst)


def _do_little_at_once() -> None:
    """What a group leaves to slices where sessions are large, it leaves to them here, too.

    And what is taken in steps where many jobs wait.
    """
    swap(forks, "MOST_AT_ONCE", 4)
    swap(purge, "MOST_AT_ONCE", 4)
    swap(deleting, "MOST_AT_ONCE", 1)
    swap(Tails, "are_kept", True)  # so that a group is taken in steps, though nobody reads
    swap(reservation, "_SMALL_STEP", 3)


def _set_clock(seconds_ahead: int) -> None:
    """The wall clock only: what measures the time since boot cannot be set."""
    wall, wall_ns = time.time, time.time_ns
    swap(time, "time", lambda: wall() + seconds_ahead)
    swap(time, "time_ns", lambda: wall_ns() + seconds_ahead * 10**9)


def _trace(path: Path) -> None:
    """A line with our process id before and after each group."""
    output = path.open("ab", buffering=0)  # not through `os`, where the disk may fail

    def mark(word: str) -> None:
        output.write(f"{os.getpid()} {word}\n".encode())

    def begin(*_: Any) -> None:
        mark("begins")

    def end(_self: Any, _answer: Any) -> None:
        mark("ends")

    for backend in (SqliteBackend, JsonlBackend):
        around(backend, "apply", before=begin, after=end)
