"""What is measured of a store with a million messages, and what must be reached."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from bench import million_reads as reads
from bench.arena import Arena
from bench.measure import Comparison, Figure, Row, Series, T, at_least, at_most, interleaved
from bench.million_fill import ACTIVE, Filled, fill, write_files
from bench.million_reads import Queries
from bench.million_upkeep import compact, migrate
from bench.million_worker import cleanup_under_load
from worker.backends import open_backend

_OURS: Final = "Backscroll"
_SMALL: Final = 1_000
_SHORT: Final = 3
"""Times as many runs of what takes half a second, or a moment's noise would be all of one."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to measure with; the figures in the documents are those of the default."""

    messages: int = 1_000_000
    sessions: int = 20_000
    appends: int = 100_000  # or an empty store would not come to merge its index
    asked: int = 2_000
    runs: int = 3

    @classmethod
    def quick(cls) -> Scale:
        """Enough to see whether all of it works."""
        return cls(messages=20_000, sessions=400, appends=2_000, asked=100, runs=1)


@dataclass(frozen=True, slots=True)
class Subject:
    """The store that is measured, and what is known of it."""

    arena: Arena
    scale: Scale
    filled: Filled
    queries: Queries
    tell: Callable[[str], None]

    def beside(self, name: str) -> tuple[str, Path]:
        """URL and path of another store."""
        path = self.arena.directory / name
        return f"sqlite://{path}", path


def measure(arena: Arena, scale: Scale, tell: Callable[[str], None]) -> Iterator[Row]:
    """All rows; the later ones change the store."""
    filled = fill(arena.store, scale.sessions, scale.messages, tell)
    subject = Subject(arena, scale, filled, Queries.of(filled), tell)
    for part in (_size, _opening, _loading, _searching, _appending, _worker, _compaction):
        tell(part.__doc__ or "")
        yield from part(subject)
    arena.store_path.unlink()
    tell("migration")
    yield from _migration(subject)


def _size(subject: Subject) -> Iterable[Row]:
    """the store's size"""
    yield Comparison(
        "store size",
        Series(_OURS, "MiB", (subject.arena.store_path.stat().st_size / 2**20,)),
        Series("the text in it", "MiB", (subject.filled.text_bytes / 2**20,)),
        at_most(2.5),
    )


def _opening(subject: Subject) -> Iterable[Row]:
    """opening the store"""
    arena, runs = subject.arena, subject.scale.runs
    opened = reads.open_cold(arena.store, arena.store_path, runs)
    yield Figure("open the store, cold", Series(_OURS, "ms", tuple(opened)), at_most(50))


def _loading(subject: Subject) -> Iterable[Row]:
    """loading"""
    url, _ = subject.beside("small.db")
    few, asked = reads.small_store(url, _SMALL), subject.scale.asked
    with open_backend(subject.arena.store) as large, open_backend(url) as small:
        figures = interleaved(
            {
                "large": partial(reads.load_p99, large, subject.filled.keys, asked),
                "small": partial(reads.load_p99, small, few, asked),
            },
            _SHORT * subject.scale.runs,
            subject.tell,
        )
    ours = Series(_OURS, "ms", tuple(figures["large"]))
    yield Figure("load the newest 50, p99", ours, at_most(1))
    theirs = Series(f"with {_SMALL:,} messages", "ms", tuple(figures["small"]))
    yield Comparison("load the newest 50, p99", ours, theirs, at_most(1.5))


def _searching(subject: Subject) -> Iterable[Row]:
    """searching"""
    asked = subject.scale.asked // 5
    with open_backend(subject.arena.store) as store:
        for kind, queries in subject.queries.kinds.items():
            subject.tell(f"searching for a {kind}")
            waited = reads.search_p99(store, queries, asked)
            ours = Series(_OURS, "ms", (waited,))
            yield Figure(f"search, {kind}, best {reads.HITS}, p99", ours, at_most(50))


def _appending(subject: Subject) -> Iterable[Row]:
    """appending"""
    count, recent = subject.scale.appends, subject.filled.keys[-ACTIVE:]

    def into_an_empty_store() -> float:
        url, path = subject.beside("empty.db")
        with open_backend(url) as store:
            rate = reads.append_rate(store, recent, count)
        path.unlink()
        return rate

    with open_backend(subject.arena.store) as store:
        figures = interleaved(
            {
                "large": lambda: reads.append_rate(store, recent, count),
                "empty": into_an_empty_store,
            },
            subject.scale.runs,
            subject.tell,
        )
    yield Comparison(
        "append in groups",
        Series(_OURS, "messages/s", tuple(figures["large"])),
        Series("into an empty store", "messages/s", tuple(figures["empty"])),
        at_least(0.7),
    )


def _worker(subject: Subject) -> Iterable[Row]:
    """a cleanup while messages arrive"""
    queries = [query for kind in subject.queries.kinds.values() for query in kind[:5]]
    sessions = subject.scale.sessions // 2
    runs = _repeated(
        subject, lambda: cleanup_under_load(subject.arena, subject.filled, sessions, queries)
    )
    waited = Series(_OURS, "ms", tuple(run.p99 for run in runs))
    yield Figure("call to commit during a cleanup, p99", waited, at_most(50))
    memory = Series(_OURS, "MiB", tuple(run.worker_mib for run in runs))
    yield Figure("worker memory", memory, at_most(120))


def _compaction(subject: Subject) -> Iterable[Row]:
    """compaction"""
    runs = _repeated(subject, lambda: compact(subject.arena))
    yield Comparison(
        "file, half of the sessions gone, compacted",
        Series(_OURS, "MiB", tuple(run.after / 2**20 for run in runs)),
        Series("a fresh copy", "MiB", tuple(run.fresh / 2**20 for run in runs)),
        at_most(1.3),
    )
    longest = Series(_OURS, "ms", tuple(run.longest_slice_ms for run in runs))
    yield Figure("compaction, longest slice", longest, at_most(100))


def _repeated(subject: Subject, change: Callable[[], T]) -> list[T]:
    """`change` the store as it is now, several times; what the last one makes of it stays."""
    path, spare = subject.arena.store_path, subject.arena.directory / "spare.db"
    shutil.copyfile(path, spare)
    results = []
    for run in range(1, subject.scale.runs + 1):
        subject.tell(f"run {run} of {subject.scale.runs}")
        shutil.copyfile(spare, path)
        os.sync()  # or the disk would be at work on the copy
        results.append(change())
    spare.unlink()
    return results


def _migration(subject: Subject) -> Iterable[Row]:
    """migration"""
    scale, arena = subject.scale, subject.arena
    runs = {}
    for share in (10, 1):
        directory, messages = arena.directory / f"files{share}", scale.messages // share
        subject.tell(f"writing {messages:,} lines")
        write_files(directory, scale.sessions // share, messages)
        subject.tell(f"migrating {messages:,} lines")
        runs[messages] = migrate(arena, directory, messages)
    (few, small), (many, large) = runs.items()
    rate = Series(_OURS, "lines/s", (many / large.seconds,))
    yield Figure(f"migrate {many:,} JSONL lines", rate, at_least(40_000))
    yield Comparison(
        "memory of migrate, peak",
        Series(_OURS, "MiB", (large.peak_mib,)),
        Series(f"with {few:,} lines", "MiB", (small.peak_mib,)),
        at_most(1.25),
    )
