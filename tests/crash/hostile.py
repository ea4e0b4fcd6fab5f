"""Rounds with deaths in surroundings that are against the worker: clocks, files, server, sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rq.job import Job

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.message_checks import MAX_MESSAGE_BYTES
from backscroll.transport.rq_protocol import parse_result
from tests.crash.bystanders import Bystanders
from tests.crash.checker import FAILED
from tests.crash.laboratory import Laboratory
from tests.crash.points import Point
from tests.crash.refusals import REFUSALS

_HOUR: Final = 3_600
_CLOCKS: Final = (0, 0, 600, 2 * _HOUR, 365 * 24 * _HOUR, -2 * _HOUR, -30 * 24 * _HOUR)
_REFUSED_CLEANUP: Final = "nothing was deleted"

REFUSED_ADAPTERS: Final[Sequence[Mapping[str, Any]]] = (
    {"acks": ("queued", "fsynced")},
    {"spool": True},
    {"spool": True, "is_async": True},
)

_NEARLY: Final = MAX_MESSAGE_BYTES - 200
_LARGE: Final = (
    "x" * _NEARLY,
    "\u0301" * (_NEARLY // 2),
    "\u0323\u0301" * (_NEARLY // 4),
    "\\\n" * (_NEARLY // 2),
    "日" * (_NEARLY // 3),
    "a-" * (_NEARLY // 2),
)
LIMIT_ADAPTERS: Final[Sequence[Mapping[str, Any]]] = (
    {"acks": ("queued", "fsynced")},
    {"is_mixed": True, "fillers": ("", "x" * 10) * 5 + _LARGE},
)
_BULK_BYTES: Final = 4 * MAX_MESSAGE_BYTES


def kill_while_clocks_jump(laboratory: Laboratory, points: Sequence[Point]) -> None:
    """Each life has a clock of its own, and a cleanup and compaction that may take nothing."""
    for point in points:
        laboratory.write(15)
        laboratory.queue_maintenance()
        laboratory.live(laboratory.life(point, clock_seconds=laboratory.random.choice(_CLOCKS)))
    laboratory.queue_maintenance()
    laboratory.drain()
    _forget_refused_cleanups(laboratory)
    _forget_what_expires(laboratory)


def _forget_what_expires(laboratory: Laboratory) -> None:
    """RQ lists finished maintenance by the worker's clock, and the server keeps it by its own."""
    client = laboratory.client
    for name in client.scan_iter("rq:job:*", count=1_000):
        if client.hget(name, "status") == b"finished" and client.ttl(name) > 0:
            client.delete(name)


def _forget_refused_cleanups(laboratory: Laboratory) -> None:
    """A cleanup by a clock that is ahead of the server's fails, which is as it should be."""
    client = laboratory.client
    failed: Any = client.zrange(FAILED, 0, -1)
    for name in failed:
        results: Any = client.xrevrange(f"rq:results:{name.decode()}", count=1)
        try:
            parse_result(results[0][1])
        except OperationRefusedError as error:
            if _REFUSED_CLEANUP not in str(error):
                continue
            client.zrem(FAILED, name)
            client.delete(Job.key_for(name.decode()))
            laboratory.tally.faults["cleanup refused for a clock that is ahead"] += 1


def kill_while_files_are_touched(laboratory: Laboratory, points: Sequence[Point]) -> None:
    """Other programs touch, read, copy, move and unlock the store's files meanwhile."""
    bystanders = Bystanders(laboratory.settings.store, laboratory.random)
    for number, point in enumerate(points):
        if number % 5 == 0:
            laboratory.age(20)
            laboratory.queue_maintenance()
        laboratory.write(10)
        life = laboratory.life(point, burst=False)
        process = laboratory.begin(life)
        with bystanders.interfering() as what:
            laboratory.tally.faults[what] += 1
            laboratory.write(10)
        laboratory.end(process, life, laboratory.random.uniform(0.0, 0.1))
        laboratory.tally.faults[bystanders.interfere_with_nobody()] += 1
    laboratory.drain()
    kept = bystanders.remove_what_was_set_aside()
    laboratory.tally.faults["file kept aside, as somebody may have edited it"] += kept


def kill_while_the_server_refuses(laboratory: Laboratory, times: int) -> None:
    """The server is there and takes nothing; a worker dies of it, and one that waits for it.

    The writers are to be `REFUSED_ADAPTERS`: those with a spool go on meanwhile.
    """
    spooling = [writer for writer in laboratory.writers if writer.has_spool]
    for name in laboratory.random.sample(sorted(REFUSALS), times):
        laboratory.write(20)
        life = laboratory.life(burst=False)
        process = laboratory.begin(life)
        with REFUSALS[name](laboratory.client):
            laboratory.tally.faults[f"server refuses: {name}"] += 1
            laboratory.write_by(spooling, 10)
            laboratory.end(process, life, laboratory.random.uniform(0.0, 0.2))
            waiting = laboratory.life(burst=False)
            process = waiting.start()
            laboratory.write_by(spooling, 5)
            is_killed_waiting = laboratory.random.random() < 0.5
            if is_killed_waiting:
                laboratory.end(process, waiting, laboratory.random.uniform(0.05, 0.3))
        if not is_killed_waiting:
            laboratory.write(5)
            laboratory.end(process, waiting, laboratory.random.uniform(0.0, 0.5))
        for writer in spooling:
            writer.wait_until_sent()
        laboratory.drain()


def kill_at_the_limits(laboratory: Laboratory, points: Sequence[Point]) -> None:
    """Messages and answers as large as they may be, and larger than what the server takes.

    The writers are to be `LIMIT_ADAPTERS`.
    """
    before: Any = laboratory.client.config_get("proto-max-bulk-len")
    laboratory.client.config_set("proto-max-bulk-len", _BULK_BYTES)
    try:
        for point in points:
            laboratory.write(6)
            laboratory.live(laboratory.life(point))
        laboratory.drain()
    finally:
        laboratory.client.config_set("proto-max-bulk-len", before["proto-max-bulk-len"])
