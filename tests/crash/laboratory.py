"""One store, one server, some writers, and workers that die: the bench on which all is put."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from backscroll import Producer
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Operation
from backscroll.contract.requests import Requests
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.crash.checker import IN_FLIGHT, QUEUE, Violation, check_server, check_store
from tests.crash.ledger import Ledger
from tests.crash.lives import KILLED, Life
from tests.crash.points import Point
from tests.crash.writer import Writer, WriterPlan

SCHEMES: Final = ("sqlite", "jsonl")
_FENCE: Final = "backscroll:backscroll:fence"  # each worker's first act is to change it
_LONG_AGO: Final = 1_600_000_000_000_000
_LIFE_SECONDS: Final = 60.0
_ALIKE: Final[Mapping[str, Any]] = {"acks": ("queued", "queued", "fsynced")}

_requests: Final = Requests(Limits())


@dataclass(slots=True)
class KindTally:
    """The part that rounds of one kind have in a `Tally`."""

    rounds: int = 0
    operations: int = 0
    kills: int = 0
    violations: int = 0


@dataclass(slots=True)
class Tally:
    """What was done to the system, and what came of it."""

    operations: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    survivors: int = 0
    rounds: int = 0
    violations: list[Violation] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    kinds: dict[str, KindTally] = field(default_factory=dict)

    @contextmanager
    def counting(self, kind: str) -> Iterator[None]:
        """Count what is done meanwhile as a round of this kind."""
        operations, kills, found = self.operations, self.kills.total(), len(self.violations)
        yield
        part = self.kinds.setdefault(kind, KindTally())
        part.rounds += 1
        part.operations += self.operations - operations
        part.kills += self.kills.total() - kills
        part.violations += len(self.violations) - found


class Laboratory:
    """Everything about one store in `directory` (or at `store`); `tally` is told what happens.

    Writers here write when they are told to, with no worker alive; `plan` is for those that are
    processes of their own. `writers` are so many that are all alike, or the options of each one's
    plan.
    """

    def __init__(
        self,
        url: str,
        directory: Path,
        scheme: str,
        seed: int,
        tally: Tally,
        *,
        writers: int | Sequence[Mapping[str, Any]] = 3,
        store: Path | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.random = random.Random(seed)
        self.tally = tally
        self.log = directory / "worker.log"
        self.mutant = ""
        """How all workers are broken, if they are."""
        self.settings = Settings(
            redis_url=url,
            data_dir=directory,
            store=f"{scheme}://{store or directory / 'store'}",
            archive=directory / "archive",
        )
        self.client = redis.Redis.from_url(url, socket_timeout=30.0)
        self._url = url
        self._idle: list[ImportSession] = []
        self._pinned: list[ImportSession] = []
        self._restored: list[ImportSession] = []
        given = [_ALIKE] * writers if isinstance(writers, int) else writers
        self.writers = [
            Writer(self.plan(f"w{number}", **options)) for number, options in enumerate(given)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self.writers:
            writer.close()
        self.client.close()

    def plan(self, name: str, **options: Any) -> WriterPlan:
        """A writer's plan, with its journal where `ledger` finds it."""
        options.setdefault("url", self._url)
        journal = self.directory / f"{name}.journal"
        if options.get("spool") is True:
            options["spool"] = self.directory / f"{name}.spool"
        return WriterPlan(name, self.random.randrange(1 << 30), journal=journal, **options)

    def write(self, count: int) -> None:
        """Queue `count` operations, the writers' mixed."""
        self.write_by(self.writers, count)

    def write_by(self, writers: Sequence[Writer], count: int) -> None:
        """Queue operations of some of the writers only."""
        for _ in range(count):
            self.random.choice(writers).write(1)

    def life(self, point: Point | None = None, **options: Any) -> Life:
        """A worker's life, with small groups, so that much happens in it."""
        settings = self.settings.with_options(group_size=self.random.choice((1, 3, 8, 30)))
        passing = 0 if point is None else point.passing(self.random)
        return Life(
            options.pop("settings", settings),
            self.log,
            "" if point is None else point.name,
            passing,
            seed=self.random.randrange(1 << 30),
            mutant=options.pop("mutant", self.mutant),
            **options,
        )

    def live(self, life: Life, kill_after_seconds: float | None = None) -> bool:
        """Live it to its end, or to a kill from outside; whether it was killed."""
        return self.end(life.start(), life, kill_after_seconds)

    def end(
        self, process: ForkServerProcess, life: Life, kill_after_seconds: float | None = None
    ) -> bool:
        """As `live`, of a life that has been started."""
        process.join(_LIFE_SECONDS if kill_after_seconds is None else kill_after_seconds)
        if process.exitcode is None:
            process.kill()
            process.join()
            if kill_after_seconds is None:
                self.tally.violations.append(
                    Violation("ended", self.settings.store, f"{life.point or 'worker'} hangs")
                )
        code = process.exitcode
        process.close()
        if code == KILLED:
            self.tally.kills[life.point or "at a random time"] += 1
        elif code == 0:
            self.tally.survivors += 1
        else:
            detail = f"exit code {code} with {life.point or 'no kill'}; see {self.log}"
            self.tally.violations.append(Violation("ended", self.settings.store, detail))
        return code == KILLED

    def drain(self) -> None:
        """A worker that is left alone brings everything to its end."""
        self.live(self.life(settings=self.settings))

    def wait_until_drained(self, seconds: float = 60.0) -> None:
        """Wait for the worker that is running to do it."""
        deadline = time.monotonic() + seconds
        while self.client.llen(QUEUE) or self.client.llen(IN_FLIGHT):
            if time.monotonic() > deadline:
                detail = f"the queue is not empty after {seconds:g} s"
                self.tally.violations.append(Violation("left behind", QUEUE, detail))
                return
            time.sleep(0.02)

    def wait_for_more_than(self, operations: int, seconds: float = 60.0) -> None:
        """Wait until that many were acknowledged to the writers, however slow the machine is."""
        deadline = time.monotonic() + seconds
        while self.ledger().operations <= operations:
            assert time.monotonic() < deadline, f"no {operations} operations in {seconds:g} s"
            time.sleep(0.1)

    def begin(self, life: Life) -> ForkServerProcess:
        """Start it and wait until it takes jobs: before that, a worker may end with an error."""
        before = self.client.get(_FENCE)
        process = life.start()
        deadline = time.monotonic() + _LIFE_SECONDS
        while self.client.get(_FENCE) == before and process.exitcode is None:
            assert time.monotonic() < deadline, "the worker does not begin"
            time.sleep(0.005)
        return process

    def age(self, count: int) -> None:
        """Put sessions into the store that a cleanup has to take away, and some that it may not."""
        first = len(self._idle) + len(self._pinned)
        operations = [
            _old_session(f"{'pinned' if number % 10 == 0 else 'idle'}/{number}", number % 10 == 0)
            for number in range(first, first + count)
        ]
        self._pinned += [each for each in operations if each.key.startswith("pinned/")]
        self._idle += [each for each in operations if each.key.startswith("idle/")]
        with open_tested(self.settings.store) as store:
            store.apply(operations)

    def queue_maintenance(self) -> None:
        """A cleanup of what `age` put there, and a compaction."""
        self._queue(_requests.cleanup(24, dry_run=False), _requests.compact())

    def queue_restorations(self, count: int) -> None:
        """Ask for sessions that a cleanup has archived, each under a new name."""
        chosen = self.random.sample(self._idle, count)
        operations = []
        for session in chosen:
            into = f"restored/{len(self._restored)}"
            operations.append(_requests.restore(session.key, into, None, pin=False))
            self._restored.append(replace(session, key=into))
        self._queue(*operations)

    def _queue(self, *operations: Operation) -> None:
        """As the scheduler does, without waiting for it."""
        with Producer(self._url) as producer:
            for operation in operations:
                producer.send(operation, "queued")

    def ledger(self) -> Ledger:
        """What has to be in the store."""
        ledger = Ledger.read(self.directory.glob("*.journal"))
        ledger.idle, ledger.pinned, ledger.restored = self._idle, self._pinned, self._restored
        return ledger

    def check(self) -> list[Violation]:
        """Compare it; new violations go to the tally, too."""
        before = len(self.tally.violations)
        ledger = self.ledger()
        self.tally.violations += check_server(self.client)
        self.tally.violations += check_store(self.settings.store, ledger)
        self.tally.operations += ledger.operations
        self.tally.rounds += 1
        return self.tally.violations[before:]


def _old_session(key: str, pinned: bool) -> ImportSession:
    texts = [ChatMessage.user(f"they said {number} " + "z" * 300) for number in range(15)]
    said: Append = _requests.append(key, tuple(texts), None)
    return ImportSession(
        said.op_id, said.at, key, said.stamped(), {"pinned": pinned}, _LONG_AGO, _LONG_AGO
    )
