"""The named points at which a worker is killed: each by wrapping what the worker calls there.

Nothing in the worker knows of this; a life's process patches itself before it begins to work.
"""

from __future__ import annotations

import functools
import math
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from backscroll.transport.pinned_connection import PinnedConnection
from backscroll_worker.loop.maintenance_runner import MaintenanceRunner
from backscroll_worker.loop.reservation import Reservations
from backscroll_worker.loop.worker import GroupCommitWorker
from backscroll_worker.stores.jsonl import JsonlBackend
from backscroll_worker.stores.sqlite import SqliteBackend
from backscroll_worker.transfer import migrate as migration
from tests.crash.disk import Disk, watch
from tests.crash.power import PowerCut


class Fuse:
    """Burns down with each passing; at the last one the process is killed."""

    def __init__(self, passing: int, seed: int) -> None:
        self.left = passing
        self.seed = seed
        self._pid = os.getpid()

    def burn(self) -> None:
        """Pass the point once."""
        self.left -= 1
        if self.left == 0:
            self.die()

    def die(self) -> None:
        """As `kill -9`: no handler runs, nothing is flushed."""
        os.kill(self._pid, signal.SIGKILL)


class _DiskFuse(Disk):
    """Dies at a call that changes files; a write may have got half-way."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse

    def before(self, call: str, half: Callable[[], object]) -> None:
        if self._fuse.left == 1 and self._fuse.seed % 2:
            half()
        self._fuse.burn()


def swap(owner: Any, name: str, new: Any) -> None:
    """Put `new` in the place of a method or function, which is there."""
    assert hasattr(owner, name), f"nothing is called {name} in {owner!r}"
    setattr(owner, name, new)


def around(
    owner: Any,
    name: str,
    *,
    before: Callable[..., None] | None = None,
    after: Callable[[Any, Any], None] | None = None,
) -> None:
    """Have `before(*args)` and `after(self, answer)` called around a method."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def call(*args: Any, **options: Any) -> Any:
        if before is not None:
            before(*args)
        answer = real(*args, **options)
        if after is not None:
            after(args[0], answer)
        return answer

    swap(owner, name, call)


def _before(owner: Any, name: str) -> Callable[[Fuse], None]:
    return lambda fuse: around(owner, name, before=lambda *_: fuse.burn())


def _after(owner: Any, name: str) -> Callable[[Fuse], None]:
    return lambda fuse: around(owner, name, after=lambda _self, _answer: fuse.burn())


def _after_reserve(fuse: Fuse) -> None:
    def taken(_self: Any, jobs: Any) -> None:
        if jobs:
            fuse.burn()

    around(Reservations, "_taken", after=taken)  # `take` has only begun when it returns


def _in_the_transaction(fuse: Fuse) -> None:
    """SQLite: before a statement. JSONL: between two operations of a group."""

    def trace(_cursor: Any, _sql: str, _bindings: Any) -> bool:
        fuse.burn()
        return True

    def opened(backend: Any, _answer: Any) -> None:
        backend._connection.exec_trace = trace

    around(SqliteBackend, "_open", after=opened)
    around(JsonlBackend, "_carry_out", after=lambda _self, _answer: fuse.burn())


def _before_commit(fuse: Fuse) -> None:
    around(SqliteBackend, "_commit", before=lambda *_: fuse.burn())
    around(JsonlBackend, "_carry_out", before=lambda *_: fuse.burn())


class _SyncFuse(_DiskFuse):
    def before(self, call: str, half: Callable[[], object]) -> None:
        if call in ("fsync", "fdatasync"):
            super().before(call, half)


def _after_commit(fuse: Fuse) -> None:
    for backend in (SqliteBackend, JsonlBackend):
        around(backend, "apply", after=lambda _self, _answer: fuse.burn())


def _acknowledgement_half_sent(fuse: Fuse) -> None:
    def send(channel: PinnedConnection, *commands: Any) -> None:
        fuse.left -= 1
        if fuse.left == 0:
            packed = b"".join(channel._connection.pack_commands(commands))
            channel._connection.connect()
            with suppress(OSError):  # the server may refuse what is too large for it
                channel._connection._sock.sendall(packed[: len(packed) * (1 + fuse.seed % 9) // 10])
            fuse.die()
        PinnedConnection.send(channel, *commands)

    def begun(worker: Any, *_: Any) -> None:
        channel = worker._acknowledgements
        channel.send = functools.partial(send, channel)

    around(GroupCommitWorker, "_put_back", before=begun)


def _put_back_sent(fuse: Fuse) -> None:
    """In the middle of recovery: the server does it, and nobody hears of it."""
    real = Reservations.put_back

    def put_back(reservations: Any, **options: Any) -> int:
        channel = reservations._channel

        def receive() -> Any:
            fuse.burn()
            return PinnedConnection.receive(channel)

        channel.receive = receive
        try:
            return real(reservations, **options)
        finally:
            del channel.receive

    swap(Reservations, "put_back", put_back)


def _in_a_slice(fuse: Fuse) -> None:
    """SQLite: before a statement of maintenance. JSONL: at one of its calls that changes files."""
    under_way = False

    def begin(*_: Any) -> None:
        nonlocal under_way
        under_way = True

    def end(_self: Any, _answer: Any) -> None:
        nonlocal under_way
        under_way = False

    class InUpkeep(Disk):
        def before(self, call: str, half: Callable[[], object]) -> None:
            if under_way:
                fuse.burn()

    def trace(_cursor: Any, _sql: str, _bindings: Any) -> bool:
        if under_way:
            fuse.burn()
        return True

    def opened(backend: Any, _answer: Any) -> None:
        backend._connection.exec_trace = trace

    around(MaintenanceRunner, "do_slice", before=begin, after=end)
    around(SqliteBackend, "_open", after=opened)
    watch(InUpkeep())


def _power_lost(fuse: Fuse) -> None:
    watch(PowerCut(fuse.left, fuse.seed))


@dataclass(frozen=True, slots=True)
class Point:
    """Where to kill, and how often it is usually passed in a life."""

    name: str
    install: Callable[[Fuse], None]
    passings: int

    def passing(self, rng: random.Random) -> int:
        """The passing at which to die; early ones are as likely as late ones."""
        return round(math.exp(rng.uniform(0, math.log(self.passings))))


WORKER_POINTS: Final = (
    Point("before reserve", _before(Reservations, "take"), 4),
    Point("after reserve", _after_reserve, 4),
    Point("next group asked for", _after(Reservations, "ask"), 4),
    Point("inside the transaction", _in_the_transaction, 100),
    Point("before commit", _before_commit, 3),
    Point("during commit, before its fsync", lambda fuse: watch(_SyncFuse(fuse)), 4),
    Point("at a write to the disk", lambda fuse: watch(_DiskFuse(fuse)), 300),
    Point("after commit, before acknowledgement", _after_commit, 4),
    Point("acknowledgement half sent", _acknowledgement_half_sent, 4),
    Point("acknowledgement sent, not read", _after(GroupCommitWorker, "_send"), 4),
    Point("acknowledgement read", _after(GroupCommitWorker, "_confirm"), 4),
    Point("recovery begins", _before(Reservations, "put_back"), 1),
    Point("during recovery", _put_back_sent, 2),
    Point("after recovery", _after(Reservations, "put_back"), 1),
    Point("power lost", _power_lost, 400),
)

UPKEEP_POINTS: Final = (
    Point("before a slice of maintenance", _before(MaintenanceRunner, "do_slice"), 10),
    Point("after a slice of maintenance", _after(MaintenanceRunner, "do_slice"), 10),
    Point("inside a slice of maintenance", _in_a_slice, 80),
)

MIGRATION_POINTS: Final = (
    Point("migration: before a group", _before(migration, "_migrate_files"), 3),
    Point("migration: stored, not set aside", _before(migration, "_set_aside"), 6),
    Point("migration: after a group", _after(migration, "_migrate_files"), 3),
    Point("migration: inside a group", _in_the_transaction, 6),
    Point("migration: at a write to the disk", lambda fuse: watch(_DiskFuse(fuse)), 300),
    Point("migration: power lost", _power_lost, 400),
)

POINTS: Final = {point.name: point for point in (*WORKER_POINTS, *UPKEEP_POINTS, *MIGRATION_POINTS)}
