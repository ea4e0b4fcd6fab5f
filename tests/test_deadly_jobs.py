"""Jobs over which the worker's process dies, whatever the reason: found, and failed alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll.contract.operations import Append
from backscroll.contract.reads import Load
from backscroll_worker.loop.running import run_worker
from backscroll_worker.settings import Settings
from backscroll_worker.stores.jsonl import JsonlBackend
from backscroll_worker.stores.sqlite import SqliteBackend
from tests.crash.lives import KILLED, context
from tests.crash.points import around
from tests.processes import contents, depth, in_flight
from tests.test_bad_jobs import push

MOST_LIVES = 12


@pytest.fixture(params=["sqlite", "jsonl"])
def store(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> Settings:
    """Settings for each kind of store."""
    if request.param == "sqlite":
        return settings
    return settings.with_options(store=f"jsonl://{tmp_path / 'sessions'}")


def is_deadly(operation: Any) -> bool:
    if isinstance(operation, Append):
        return operation.messages[0].content == "deadly"
    return isinstance(operation, Load) and operation.key == "deadly"


def live(settings: Settings, log: Path) -> None:
    """A worker in whose process a deadly operation does what a segfault does."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 2)

    def die(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def die_of(_self: Any, operations: Any, *_: Any) -> None:
        if any(map(is_deadly, operations)):
            die()

    for backend in (SqliteBackend, JsonlBackend):
        around(backend, "apply", before=die_of)
        around(backend, "compact", before=die)
    run_worker(settings, str(settings.redis_url), burst=True)


def lives(settings: Settings, log: Path, meanwhile: Callable[[], object] = lambda: None) -> int:
    """One worker after the other until one survives; how many died. Then comes `meanwhile`."""
    for died in range(MOST_LIVES):
        process = context.Process(target=live, args=(settings, log))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            return died
        assert process.exitcode == KILLED
        meanwhile()
    raise AssertionError("the same jobs kill each next worker")


def failed(client: redis.Redis) -> list[str]:
    found: Any = client.zrange("rq:failed:backscroll", 0, -1)
    return [job_id.decode() for job_id in found]


def test_a_job_that_kills_each_worker_fails_alone(
    store: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    deadly = ""
    for number in range(300):
        if number == 150:
            deadly = producer.append("k", ChatMessage.user("deadly")).op_id
        producer.append("k", ChatMessage.user(str(number)))
    assert 5 <= lives(store, log) < MOST_LIVES
    assert failed(client) == [deadly]
    assert contents(store, "k") == [str(number) for number in range(300)]
    assert depth(client) == 0
    assert lives(store, log) == 0


def test_a_compaction_that_kills_each_worker_fails_though_appends_come_in(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    said: list[str] = []

    def say() -> None:
        said.append(str(len(said)))
        producer.append("k", ChatMessage.user(said[-1]))

    say()
    deadly = push(client, ["backscroll_worker.jobs.compact", None, [], {"at": 1}])
    assert lives(settings, log, say) < MOST_LIVES
    assert failed(client) == [deadly]
    assert contents(settings, "k") == said


def test_who_asked_for_what_kills_the_worker_gets_the_error(
    settings: Settings, client: redis.Redis, log: Path, producer: Producer
) -> None:
    load = push(client, ["backscroll_worker.jobs.load", None, [], {"key": "deadly", "at": 1}])
    producer.append("k", ChatMessage.user("a"))
    assert lives(settings, log) < MOST_LIVES
    assert failed(client) == [load]
    assert client.xlen(f"rq:results:{load}") == 1
    assert contents(settings, "k") == ["a"]


def test_a_job_in_flight_while_workers_are_killed_by_others_is_applied(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    ids = [producer.append("k", ChatMessage.user(str(number))).op_id for number in range(40)]
    for _ in range(4):  # as four workers leave it that are killed with all of them in flight
        client.delete("rq:queue:backscroll", "rq:queue:backscroll:intermediate")
        client.rpush("rq:queue:backscroll:intermediate", *ids)
        from backscroll_worker.loop.reservation import Reservations  # noqa: PLC0415

        Reservations(client, "backscroll").put_back()
    assert lives(settings, log) == 0
    assert contents(settings, "k") == [str(number) for number in range(40)]
    assert failed(client) == [] == in_flight(client)


def test_a_worker_that_works_again_forgets_what_was_suspected(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    producer.append("k", ChatMessage.user("a"))
    client.lmove("rq:queue:backscroll", "rq:queue:backscroll:intermediate")
    assert lives(settings, log) == 0
    note: Any = client.get("backscroll:backscroll:fence")
    assert note.split()[1:] == [b"0", b"0", b"0", b"-"]
