"""The measurements of a store with a million messages, and their targets."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from backscroll_worker.stores import open_store
from bench import million_reads as reads
from bench import raw
from bench.arena import Arena
from bench.limit import straight_into_sqlite
from bench.measure import (
    Comparison,
    Figure,
    Row,
    Series,
    T,
    at_least,
    at_most,
    attempted,
    interleaved,
)
from bench.million_fill import ACTIVE, PERSON, Filled, fill, write_files
from bench.million_history import ACTIVE as SINCE_A_SUMMARY
from bench.million_history import FOR_A_MODEL, PLAIN, history_p99, long_session
from bench.million_maintenance import compact, migrate
from bench.million_reads import Queries
from bench.million_worker import cleanup_under_load, erasure_under_load

_OURS: Final = "Backscroll"
_SMALL: Final = 1_000
_SHORT: Final = 3
"""The factor for the runs of short measurements, which noise affects more."""

_SEARCH_BOUNDS: Final = {"rare word": at_most(10)}
"""FTS5 ranks every message with a common word; for a rare word there is nothing to save."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The amounts of data; the figures in the documents are those of the default."""

    messages: int = 1_000_000
    sessions: int = 20_000
    appends: int = 100_000  # with fewer an empty store would not merge its index
    asked: int = 2_000
    runs: int = 3
    history: int = 100_000

    @classmethod
    def quick(cls) -> Scale:
        """Enough to test that everything works."""
        return cls(messages=20_000, sessions=400, appends=2_000, asked=100, runs=1, history=4_000)


@dataclass(frozen=True, slots=True)
class Subject:
    """The store to be measured, and its contents."""

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
    for part in (
        _size,
        _opening,
        _loading,
        _histories,
        _searching,
        _appending,
        _erasing,
        _worker,
        _compaction,
    ):
        tell(part.__doc__ or "")
        yield from attempted(part.__doc__ or "", partial(part, subject))
    arena.store_path.unlink()
    tell("migration")
    yield from attempted("migration", partial(_migration, subject))


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
    arena = subject.arena
    ours, bare = _in_turns(
        subject,
        "ms",
        {
            _OURS: partial(reads.open_cold_ms, arena.store, arena.store_path),
            "APSW": partial(reads.open_cold_ms, arena.store, arena.store_path, raw=True),
        },
    )
    yield Comparison("open the store, cold", ours, bare, at_most(6))


def _loading(subject: Subject) -> Iterable[Row]:
    """loading"""
    url, _ = subject.beside("small.db")
    few, asked = reads.small_store(url, _SMALL), subject.scale.asked
    keys, path = subject.filled.keys, subject.arena.store_path
    raw.read_ms(path)  # fills the caches: from here on the disk is not measured
    with open_store(subject.arena.store) as large, open_store(url) as small:
        ours, theirs, statement = _in_turns(
            subject,
            "ms",
            {
                _OURS: partial(reads.load_p99, large, keys, asked),
                f"with {_SMALL:,} messages": partial(reads.load_p99, small, few, asked),
                "APSW, one SELECT": partial(raw.load_p99, path, keys, asked),
            },
            _SHORT,
        )
    yield Comparison("load the newest 50, p99", ours, theirs, at_most(1.5))
    yield Comparison("load the newest 50, p99", ours, statement, at_most(4))


def _histories(subject: Subject) -> Iterable[Row]:
    """loading a long session for a model"""
    loads = {"plain": PLAIN, "for a model": FOR_A_MODEL, "since a summary": SINCE_A_SUMMARY}
    for scheme, file_name in (("sqlite", "long.db"), ("jsonl", "long")):
        url = f"{scheme}://{subject.arena.directory / file_name}"
        long_session(url, subject.scale.history)
        with open_store(url) as store:
            asked = subject.scale.asked // 4
            plain, *others = _in_turns(
                subject,
                "ms",
                {name: partial(history_p99, store, load, asked) for name, load in loads.items()},
                _SHORT,
            )
        for series in others:
            measured = f"load {series.name}, {scheme}, p99"
            yield Comparison(
                measured,
                replace(series, name=_OURS),
                replace(plain, name=f"the newest {reads.PAGE}"),
                at_most(2),
            )


def _searching(subject: Subject) -> Iterable[Row]:
    """searching"""
    asked, path = subject.scale.asked // 5, subject.arena.store_path
    with open_store(subject.arena.store) as store:
        for kind, queries in subject.queries.kinds.items():
            subject.tell(f"searching for a {kind}")
            ours, fts5 = _in_turns(
                subject,
                "ms",
                {
                    _OURS: partial(reads.search_p99, store, queries, asked),
                    "FTS5's own ranking": partial(raw.search_p99, path, queries, asked // 10),
                },
            )
            bound = _SEARCH_BOUNDS.get(kind, at_most(1))
            yield Comparison(f"search, {kind}, best {reads.HITS}, p99", ours, fts5, bound)


def _appending(subject: Subject) -> Iterable[Row]:
    """appending"""
    count, recent = subject.scale.appends, subject.filled.keys[-ACTIVE:]

    def into_an_empty_store() -> float:
        url, path = subject.beside("empty.db")
        with open_store(url) as store:
            rate = reads.append_rate(store, recent, count)
        path.unlink()
        return rate

    with open_store(subject.arena.store) as store:
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
        figures["large"].series(_OURS, "messages/s"),
        figures["empty"].series("into an empty store", "messages/s"),
        at_least(0.7),
    )


def _erasing(subject: Subject) -> Iterable[Row]:
    """the erasure of a person while messages arrive"""
    runs = _repeated(subject, lambda: erasure_under_load(subject.arena, subject.filled, PERSON))
    yield Comparison(
        "call to commit during a person's erasure, p99",
        Series(_OURS, "ms", tuple(run.p99 for run in runs)),
        Series("without an erasure", "ms", tuple(run.p99_alone for run in runs)),
        at_most(2),
    )


def _worker(subject: Subject) -> Iterable[Row]:
    """a cleanup while messages arrive"""
    queries = [query for kind in subject.queries.kinds.values() for query in kind[:5]]
    sessions = subject.scale.sessions // 2
    runs = _repeated(
        subject, lambda: cleanup_under_load(subject.arena, subject.filled, sessions, queries)
    )
    waited = Series(_OURS, "ms", tuple(run.p99 for run in runs))
    alone = Series("without a cleanup", "ms", tuple(run.p99_alone for run in runs))
    yield Comparison("call to commit during a cleanup, p99", waited, alone, at_most(15))
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
    through = Series("reading the file", "ms", tuple(run.read_ms for run in runs))
    yield Comparison("compaction, longest slice", longest, through, at_most(1))


def _in_turns(
    subject: Subject, unit: str, contestants: dict[str, Callable[[], float]], times: int = 1
) -> list[Series]:
    """The series of each, `times` the usual number of runs, in turns."""
    figures = interleaved(contestants, times * subject.scale.runs, subject.tell)
    return [runs.series(name, unit) for name, runs in figures.items()]


def _repeated(subject: Subject, change: Callable[[], T]) -> list[T]:
    """`change` the present store several times, each time anew; keeps the last result."""
    path, spare = subject.arena.store_path, subject.arena.directory / "spare.db"
    shutil.copyfile(path, spare)
    results = []
    for run in range(1, subject.scale.runs + 1):
        subject.tell(f"run {run} of {subject.scale.runs}")
        shutil.copyfile(spare, path)
        os.sync()  # otherwise the disk would still be writing the copy
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
    subject.tell("the same rows inserted directly into SQLite")
    limit = Series("straight into SQLite", "rows/s", (straight_into_sqlite(arena, many // 10),))
    yield Comparison(f"migrate {many:,} JSONL lines", rate, limit, at_least(0.4))
    yield Comparison(
        "memory of migrate, peak",
        Series(_OURS, "MiB", (large.peak_mib,)),
        Series(f"with {few:,} lines", "MiB", (small.peak_mib,)),
        at_most(1.25),
    )
