"""The comparisons, their numbers of jobs, and their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeVar

from bench import enqueue, memory
from bench.arena import Arena, arena
from bench.conversations import EMBEDDED, LOCAL_READS, OPENAI, OVER_REDIS, STORED
from bench.drain import Contestant, drain, peer, worker
from bench.fill import fill_with_people
from bench.fork import fork_under_load
from bench.latency import latency
from bench.limit import straight_into_sqlite
from bench.measure import Comparison, Runs, Series, at_least, at_most, best, interleaved
from bench.reads import WAITING_JOBS, Reading, reading

T = TypeVar("T")

PEERS: Final = {"huey": 3_000, "dramatiq": 3_000, "celery": 1_000, "taskiq": 2_000}
_OURS: Final = "Backscroll"
_QUICK_SHARE: Final = 20
_SESSIONS: Final = 50
_SEVERAL_GROUPS: Final = 6_000  # the worker takes up to 2,000 jobs at once


@dataclass(frozen=True, slots=True)
class Plan:
    """Where to measure, and how thoroughly."""

    url: str
    directory: Path
    runs: int
    is_quick: bool
    tell: Callable[[str], None]

    def count(self, jobs: int, least: int = 100) -> int:
        """`jobs`, or few of them for a quick run."""
        return max(least, jobs // _QUICK_SHARE) if self.is_quick else jobs

    def once(self, measure: Callable[[Arena], T], store: str = "sqlite") -> Callable[[], T]:
        """`measure` in an arena of its own."""

        def run() -> T:
            with arena(self.url, self.directory, store) as fresh:
                return measure(fresh)

        return run

    def in_turns(self, **contestants: Callable[[], T]) -> dict[str, Runs[T]]:
        return interleaved(contestants, self.runs, self.tell)

    def in_rounds(
        self, names: Iterable[str], measure: Callable[[str], float], unit: str
    ) -> dict[str, Series]:
        """`measure` of each name, in many rounds, as load of the machine comes and goes."""
        contestants = {name: partial(measure, name) for name in names}
        rounds = self.runs if self.is_quick else 3 * self.runs
        return _series(interleaved(contestants, rounds, self.tell), unit)


def drain_sqlite(plan: Plan) -> Iterable[Comparison]:
    """Our worker, RQ's two, four other queues, and the limit; all into SQLite."""
    contestants = {
        _OURS: worker("Backscroll", plan.count(40_000, _SEVERAL_GROUPS)),
        "RQ SimpleWorker": worker("SimpleWorker", plan.count(500)),
        "RQ Worker": worker("Worker", plan.count(100)),
        **{name: peer(name, plan.count(jobs)) for name, jobs in PEERS.items()},
    }
    limit = "straight into SQLite"
    measures = _drains(plan, contestants, "sqlite")
    measures[limit] = plan.once(partial(straight_into_sqlite, count=plan.count(40_000)))
    figures = _series(plan.in_turns(**measures), "jobs/s")
    bounds = {"RQ SimpleWorker": at_least(100), "RQ Worker": at_least(400), limit: at_least(0.5)}
    for name, theirs in figures.items():
        if name != _OURS:
            bound = bounds.get(name, at_least(8))
            yield Comparison("drain into SQLite", figures[_OURS], theirs, bound)


def drain_jsonl(plan: Plan) -> Iterable[Comparison]:
    """Our worker and RQ's `SimpleWorker`, into JSONL files."""
    contestants = {
        _OURS: worker("Backscroll", plan.count(40_000, _SEVERAL_GROUPS)),
        "RQ SimpleWorker": worker("SimpleWorker", plan.count(500)),
    }
    ours, theirs = _series(plan.in_turns(**_drains(plan, contestants, "jsonl")), "jobs/s").values()
    yield Comparison("drain into JSONL", ours, theirs, at_least(100))


def drain_people(plan: Plan) -> Iterable[Comparison]:
    """Our worker, with an author and a platform's id on every message, and without them."""
    plain = worker(_OURS, plan.count(40_000, _SEVERAL_GROUPS))
    people = replace(plain, name="with author and platform id", fill=fill_with_people)
    drains = _drains(plan, {people.name: people, "without": plain}, "sqlite")
    # A few percent are to be seen, and one drain differs from the next by more.
    ours, theirs = plan.in_rounds(drains, lambda name: drains[name](), "jobs/s").values()
    yield Comparison("drain of messages with people", ours, theirs, at_least(0.9))


def enqueueing(plan: Plan) -> Iterable[Comparison]:
    """Both producers and `rq.Queue.enqueue`."""
    one, many, rq = _series(
        plan.in_turns(
            Producer=plan.once(partial(enqueue.one_at_a_time, count=plan.count(10_000))),
            AsyncProducer=plan.once(partial(enqueue.concurrently, count=plan.count(20_000))),
            **{"rq.Queue": plan.once(partial(enqueue.with_rq, count=plan.count(4_000)))},
        ),
        "calls/s",
    ).values()
    yield Comparison("enqueue, one call at a time", one, rq, at_least(2.5))
    yield Comparison("enqueue, 100 concurrent callers", many, rq, at_least(6))


def latencies(plan: Plan) -> Iterable[Comparison]:
    """From call to commit at 100 messages a second."""
    count = plan.count(500)
    measured = plan.in_turns(
        **{
            _OURS: plan.once(partial(latency, worker="Backscroll", count=count)),
            "RQ SimpleWorker": plan.once(partial(latency, worker="SimpleWorker", count=count)),
        }
    )
    for percentile in ("p50", "p99"):
        ours, theirs = (
            runs.series(name, "ms", attrgetter(percentile)) for name, runs in measured.items()
        )
        yield Comparison(f"call to commit, {percentile}", ours, theirs, at_most(0.5))


def forks(plan: Plan) -> Iterable[Comparison]:
    """From call to commit while a session of 100,000 messages is forked, in each store."""
    size, count = plan.count(100_000, 4_000), plan.count(1_000)
    for store in ("sqlite", "jsonl"):
        measured = plan.once(partial(fork_under_load, size=size, count=count), store)
        (runs,) = plan.in_turns(**{_OURS: measured}).values()
        ours = runs.series(_OURS, "ms", attrgetter("p99"))
        idle = runs.series("without a fork", "ms", attrgetter("p99_alone"))
        yield Comparison(f"call to commit during a fork, {store}, p99", ours, idle, at_most(3))


def reads(plan: Plan) -> Iterable[Comparison]:
    """Loads, pops and turns of 50 sessions, beside openai-agents' sessions."""
    items = plan.count(1_000)
    with arena(plan.url, plan.directory) as fresh, reading(fresh, _SESSIONS, items) as opened:
        yield from _loads(plan, opened)
        yield from _pops(plan, opened)
        yield from _turns(plan, opened)
        yield from _loads_while_jobs_wait(plan, opened)


def worker_memory(plan: Plan) -> Iterable[Comparison]:
    """The worker's resident memory, late compared with early; one run, as it is long."""
    early, late = plan.count(10_000), plan.count(1_000_000)
    plan.tell(f"the worker's memory after {late:,} jobs")
    grown = plan.once(partial(memory.worker_growth, early_jobs=early, late_jobs=late))()
    yield Comparison(
        f"worker memory after {late:,} jobs",
        Series(_OURS, "MiB", (grown.late,)),
        Series(f"after {early:,} jobs", "MiB", (grown.early,)),
        at_most(1.1),
    )


def queued_bytes(plan: Plan) -> Iterable[Comparison]:
    """The server's memory per waiting append."""
    count = plan.count(5_000)
    ours, theirs = _series(
        plan.in_turns(
            Producer=plan.once(partial(memory.bytes_queued, count=count)),
            **{"rq.Queue": plan.once(partial(memory.bytes_queued_by_rq, count=count))},
        ),
        "bytes",
    ).values()
    yield Comparison("server memory for a queued append", ours, theirs, at_most(0.7))


BENCHMARKS: Final[dict[str, Callable[[Plan], Iterable[Comparison]]]] = {
    "drain": drain_sqlite,
    "jsonl": drain_jsonl,
    "people": drain_people,
    "enqueue": enqueueing,
    "latency": latencies,
    "fork": forks,
    "reads": reads,
    "memory": worker_memory,
    "bytes": queued_bytes,
}


def _loads(plan: Plan, opened: Reading) -> Iterable[Comparison]:
    names = (OVER_REDIS, "RedisSession", EMBEDDED, LOCAL_READS, "SQLiteSession")
    measured = plan.in_rounds(names, partial(opened.load_p50, count=plan.count(500)), "ms")
    for way, theirs, bound in (
        (OVER_REDIS, "RedisSession", 2),
        (EMBEDDED, "SQLiteSession", 1.1),
        (LOCAL_READS, "SQLiteSession", 1.1),
    ):
        yield Comparison(f"load 50 {way}, p50", measured[way], measured[theirs], at_most(bound))


def _pops(plan: Plan, opened: Reading) -> Iterable[Comparison]:
    ways, other = (OVER_REDIS, STORED), "AsyncSQLiteSession"
    count = plan.count(100, 30)
    measured = plan.in_rounds((*ways, other), partial(opened.pop_p50, count=count), "ms")
    for way in ways:
        yield Comparison(f"pop {way}, p50", measured[way], measured[other], at_most(2))


def _turns(plan: Plan, opened: Reading) -> Iterable[Comparison]:
    ways = (OVER_REDIS, STORED, EMBEDDED)
    measured = plan.in_rounds(
        (*ways, *OPENAI), partial(opened.turns, count=plan.count(4, 1)), "turns/s"
    )
    others = [measured[name] for name in OPENAI]
    for way in ways:
        for theirs in others if way == OVER_REDIS else [best(others)]:
            yield Comparison(
                f"{_SESSIONS} sessions at once {way}", measured[way], theirs, at_least(1.5)
            )


def _loads_while_jobs_wait(plan: Plan, opened: Reading) -> Iterable[Comparison]:
    count, seconds = plan.count(2_000, 50), 4 if plan.is_quick else 8
    idle, busy = f"load 50 {OVER_REDIS}, at idle", f"load 50 while {WAITING_JOBS:,} jobs wait"
    waits = {
        idle: partial(opened.load_p99, count=count),
        busy: partial(opened.load_p99_while_jobs_wait, count=count, seconds=seconds),
    }
    measured = plan.in_rounds(waits, lambda name: waits[name](), "ms")
    yield Comparison(f"{busy}, p99", measured[busy], measured[idle], at_most(5))


def _drains(
    plan: Plan, contestants: dict[str, Contestant], store: str
) -> dict[str, Callable[[], float]]:
    return {
        name: plan.once(partial(drain, contestant=contestant), store)
        for name, contestant in contestants.items()
    }


def _series(figures: dict[str, Runs[float]], unit: str) -> dict[str, Series]:
    return {name: runs.series(name, unit) for name, runs in figures.items()}
