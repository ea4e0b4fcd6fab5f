"""Writers that are processes, a worker that is never left alone, and a server that goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from backscroll.transport.acks import Ack
from tests.crash.adapter import SpoolingAdapter
from tests.crash.checker import Violation
from tests.crash.laboratory import Laboratory
from tests.crash.lives import KILLED, Life, context
from tests.crash.points import WORKER_POINTS
from tests.crash.server import CrashableServer
from tests.crash.writer import write_until

_LAST_WORDS_SECONDS: Final = 90.0


@dataclass(frozen=True, slots=True)
class Load:
    """How many writers, how fast each, for how long, and by which address of the server."""

    seconds: float
    writers: int = 4
    operations_per_second: float = 150.0
    url: str | None = None
    patience: int = 1_000
    acks: tuple[Ack, ...] = ("queued", "queued", "queued", "fsynced", "stored")
    round: int = 0


@contextmanager
def writing(laboratory: Laboratory, load: Load) -> Iterator[None]:
    """Writers at work meanwhile; at the end each has all that it asked for acknowledged."""
    stop = context.Event()
    options: dict[str, Any] = {} if load.url is None else {"url": load.url}
    plans = [
        laboratory.plan(
            f"load-{load.round}-{number}",
            acks=load.acks,
            operations_per_second=load.operations_per_second,
            patience=load.patience,
            reads="stored" in load.acks,
            **options,
        )
        for number in range(load.writers)
    ]
    writers = [
        context.Process(target=write_until, args=(plan, stop), daemon=True) for plan in plans
    ]
    for writer in writers:
        writer.start()
    try:
        yield
        stop.set()
        for writer, plan in zip(writers, plans, strict=True):
            writer.join(_LAST_WORDS_SECONDS)
            if writer.exitcode != 0:
                detail = f"exit code {writer.exitcode}"
                laboratory.tally.violations.append(Violation("ended", plan.name, detail))
    finally:
        for writer in writers:
            writer.kill()
            writer.join()


@contextmanager
def working(laboratory: Laboratory, **options: Any) -> Iterator[Life]:
    """One worker at work meanwhile, which is not killed before the queue is empty."""
    life = laboratory.life(burst=False, **options)
    process = laboratory.begin(life)
    try:
        yield life
        laboratory.wait_until_drained()
        if process.exitcode is not None:
            detail = f"exit code {process.exitcode}; see {life.log}"
            laboratory.tally.violations.append(Violation("ended", "worker", detail))
    finally:
        process.kill()
        process.join()


def run(laboratory: Laboratory, load: Load, server: CrashableServer) -> None:
    """Kill one worker after the other under load; now and then the server, or an adapter."""
    rng = laboratory.random
    settings = laboratory.settings
    if load.url is not None:
        settings = settings.with_options(redis_url=load.url)
    deadline = time.monotonic() + load.seconds
    options: dict[str, Any] = {} if load.url is None else {"url": load.url}
    name, pace = f"adapter-{load.round}", load.operations_per_second
    with (
        writing(laboratory, load),
        SpoolingAdapter(laboratory, name, operations_per_second=pace, **options) as adapter,
    ):
        disturb = _troubles(laboratory, server, adapter)
        while time.monotonic() < deadline:
            point = rng.choice(WORKER_POINTS) if rng.random() < 0.7 else None
            group_size = rng.choice((1, 10, 100, 2_000))
            life = laboratory.life(
                point, burst=False, settings=settings.with_options(group_size=group_size)
            )
            if rng.random() < 0.1:
                process = laboratory.begin(life)
                rng.choice(disturb)()
            else:
                process = life.start()
            process.join(rng.uniform(0.1, 1.0))
            name = life.point if process.exitcode == KILLED else "at a random time"
            if process.exitcode == 1 and load.url is not None:
                laboratory.tally.faults["worker could not begin"] += 1  # and says so
            elif process.exitcode not in (None, KILLED):
                detail = f"exit code {process.exitcode} with {life.point}; see {life.log}"
                laboratory.tally.violations.append(Violation("ended", "worker", detail))
            else:
                laboratory.tally.kills[name] += 1
            process.kill()
            process.join()
        # Nobody kills this one: whoever waits for its word has it, and all comes to its end.
        last = laboratory.life(burst=False, settings=laboratory.settings).start()
    laboratory.wait_until_drained()
    last.terminate()
    last.join(60)
    laboratory.drain()


def _troubles(
    laboratory: Laboratory, server: CrashableServer, adapter: SpoolingAdapter
) -> list[Callable[[], None]]:
    """What may happen to a server, and to an adapter meanwhile."""

    def kill() -> None:
        laboratory.tally.faults["server killed"] += 1
        server.restart()

    def stop() -> None:
        laboratory.tally.faults["server unreachable"] += 1
        server.kill()
        time.sleep(laboratory.random.uniform(0.2, 2.0))
        server.start()

    def freeze() -> None:
        laboratory.tally.faults["server frozen"] += 1
        server.freeze()
        time.sleep(laboratory.random.uniform(0.1, 1.0))
        server.thaw()

    def leave_a_spool() -> None:
        laboratory.tally.faults["server unreachable"] += 1
        server.kill()
        time.sleep(laboratory.random.uniform(0.2, 1.0))
        adapter.replace()
        server.start()

    return [kill, stop, freeze, leave_a_spool, adapter.replace]
