"""Compaction after half was deleted, and the migration of a folder of files."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import apsw

from backscroll_worker.stores import open_store
from bench.arena import Arena, BenchmarkFailedError
from bench.raw import read_ms


@dataclass(frozen=True, slots=True)
class Compacted:
    """The size after a compaction, and that of a new copy, in bytes."""

    before: int
    after: int
    fresh: int
    seconds: float
    longest_slice_ms: float
    read_ms: float
    """The time to read the file once, just before."""


def compact(arena: Arena) -> Compacted:
    """Compact the arena's store, timing every slice."""
    slices: list[float] = []
    through = read_ms(arena.store_path)
    with open_store(arena.store) as store:
        before, began = store.size_bytes(), time.perf_counter()
        work = store.compact(arena.settings.op_ids_hours)
        while True:
            slice_began = time.perf_counter()
            try:
                next(work)
            except StopIteration:
                break
            finally:
                slices.append(time.perf_counter() - slice_began)
        seconds, after = time.perf_counter() - began, store.size_bytes()
    fresh = _fresh_copy(arena.store_path)
    return Compacted(before, after, fresh, seconds, 1e3 * max(slices), through)


def _fresh_copy(path: Path) -> int:
    copy = path.with_name("fresh.db")
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    size = copy.stat().st_size
    copy.unlink()
    return size


@dataclass(frozen=True, slots=True)
class Migrated:
    """A run of `backscroll migrate`: its time from start to end, and its peak memory."""

    seconds: float
    peak_mib: float


def migrate(arena: Arena, directory: Path, messages: int) -> Migrated:
    """Migrate the folder into a new store, which must contain all messages afterwards."""
    store = directory.with_suffix(".db")
    python = sys.executable
    began = time.monotonic()
    process = subprocess.run(
        [
            python,
            "-m",
            "bench.peak",
            python,
            "-m",
            "backscroll_worker.cli",
            "migrate",
            str(directory),
        ],
        env={**arena.environment(), "BACKSCROLL_STORE": f"sqlite://{store}"},
        stdout=subprocess.PIPE,
        check=False,
    )
    seconds = time.monotonic() - began
    with closing(apsw.Connection(str(store))) as connection:
        stored = connection.execute("SELECT count(*) FROM messages").get
    store.unlink()
    if process.returncode or stored != messages:
        raise BenchmarkFailedError(
            f"migrate ended with exit code {process.returncode} and {stored:,} of {messages:,}"
        )
    return Migrated(seconds, int(process.stdout) / 1024)
