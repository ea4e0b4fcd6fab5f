"""Forks through the queue, by both producers; and a worker that is killed while it copies."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, ConflictError, OperationRefusedError, Producer
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.processes import contents, in_flight, running_worker, spawn, wait_for

LARGE = 2_500


def fill(settings: Settings, count: int) -> list[str]:
    """A session of so many messages; their ids."""
    with open_tested(settings.store) as store:
        return store.append("s", *(ChatMessage.user(f"w{number}") for number in range(count)))


def test_both_producers_fork_and_say_what_came_of_it(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    ids = fill(settings, LARGE)

    async def fork() -> Any:
        async with AsyncProducer(settings.redis_url) as other:
            forking = asyncio.create_task(other.fork("s", "g", ids[1_499]))
            await asyncio.sleep(0)
            await other.append("g", ChatMessage.user("after"))  # it does not wait for the fork
            return await forking

    with running_worker(settings, client, log):
        small = producer.fork("s", "f", ids[1])
        large = asyncio.run(fork())
        with pytest.raises(ConflictError, match="'g'"):
            producer.fork("s", "g")
        with pytest.raises(OperationRefusedError, match="no session 'nobody'"):
            producer.fork("nobody", "h")
        assert producer.load("f")[-1].message_id == small.message_ids[0]
        assert (small.affected, large.affected) == (2, 1_500)
        assert producer.load("g", limit=2)[0].message_id == large.message_ids[0]
        assert contents(settings, "g")[-1] == "after"
        assert len(contents(settings, "g")) == 1_501


def test_a_worker_killed_while_it_copies_finishes_the_fork(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    fill(settings, LARGE)
    producer.fork("s", "f", ack="queued")
    path = settings.store.partition("://")[2]

    def copied() -> int:
        with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(10_000)
            sql = "SELECT count(*) FROM messages WHERE session_id IN (SELECT target FROM forks)"
            count: Any = connection.execute(sql).get
            return int(count)

    worker = spawn(settings, "worker", log=log)
    wait_for(copied, "some copies")
    worker.kill()
    worker.wait()
    assert 0 < copied() < LARGE
    assert len(in_flight(client)) == 1
    producer.append("s", ChatMessage.user("later"))
    with running_worker(settings, client, log):
        wait_for(lambda: producer.session("f"), "the fork")
        assert contents(settings, "f") == [f"w{number}" for number in range(LARGE)]
        wait_for(lambda: not in_flight(client), "its acknowledgement")
    with open_tested(settings.store) as store:
        assert store.verify() == []
