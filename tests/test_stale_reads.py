"""Reads whose askers gave up: the server lets them go, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from backscroll import AsyncProducer, ChatMessage, Producer
from backscroll.contract.codec import decode
from backscroll.contract.operations import Operation, Read
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from tests.prepared import Prepared, run_prepared
from tests.processes import contents, depth, wait_for, work_here

HI = ChatMessage.user("hi")

READS: list[Callable[[Any], Any]] = [
    lambda p: p.load("k"),
    lambda p: p.session("k"),
    lambda p: p.sessions(),
    lambda p: p.search("hi"),
]
OTHERS: list[Callable[[Any], Any]] = [
    lambda p: p.append("k", HI),
    lambda p: p.append("k", HI, dedup_key="1", ack="stored"),
    lambda p: p.rollback("k", ack="stored"),
    lambda p: p.replace("k", HI),
    lambda p: p.clear("k"),
    lambda p: p.delete("k"),
    lambda p: p.describe("k", name="n"),
    lambda p: p.rename_agent("a", "b"),
    lambda p: p.erase(key="k"),
    lambda p: p.cleanup(1, dry_run=True),
    lambda p: p.compact(),
    lambda p: p.restore("k"),
]
ASKER = """
import sys
from backscroll import Producer
Producer(sys.argv[1], timeout_seconds=float(sys.argv[2])).load("k")
"""


def waiting(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


def watched(client: redis.Redis) -> list[tuple[Operation, int]]:
    """The operations in the queue, and the seconds each has left; -1 for ever."""
    rows = []
    for job_id in waiting(client):
        payload: Any = client.hget(f"rq:job:{job_id}", "data")
        left: Any = client.ttl(f"rq:job:{job_id}")
        if payload is not None:
            rows.append((decode(job_id, payload), int(left)))
    return rows


def killed_asker(settings: Settings, client: redis.Redis, timeout_seconds: float) -> str:
    """The id of a read whose process was killed while it waited."""
    before = len(waiting(client))
    arguments = (settings.redis_url or "", str(timeout_seconds))
    process = Prepared(["-c", ASKER, *arguments])
    try:
        wait_for(lambda: len(waiting(client)) > before, "the read")
    finally:
        process.kill()
        process.wait()
    return waiting(client)[-1]


def test_only_a_read_expires_and_it_does_so_by_the_servers_clock(
    server_url: str, client: redis.Redis
) -> None:
    seen: dict[str, int] = {}

    async def use() -> None:
        async with AsyncProducer(server_url, timeout_seconds=30) as asker:
            tasks = [asyncio.ensure_future(call(asker)) for call in (*READS, *OTHERS)]
            await asyncio.sleep(0)
            while len(waiting(client)) < len(tasks):
                await asyncio.sleep(0.01)
            for operation, left in watched(client):
                assert (0 < left <= 32) if isinstance(operation, Read) else left == -1, operation
                seen[operation.kind] = left
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(use())
    assert len(seen) == 15


def test_a_read_that_is_sent_again_begins_its_life_anew(
    settings: Settings, client: redis.Redis
) -> None:
    read = killed_asker(settings, client, 100)
    with redis.Redis.from_url(settings.redis_url or "") as own:
        own.expire(f"rq:job:{read}", 5)
        payload: Any = own.hget(f"rq:job:{read}", "data")
    with Producer(settings.redis_url, timeout_seconds=100) as producer:
        producer.send(decode(read, payload))
        assert watched(client)[0][1] > 100
        client.delete(f"rq:job:{read}")  # its time was up
        producer.send(decode(read, payload))
        assert [left > 100 for _, left in watched(client)] == [True, True]
    work_here(settings)
    assert depth(client) == 0


def test_an_answer_that_nobody_waits_for_any_more_expires_as_well(
    settings: Settings, client: redis.Redis
) -> None:
    read = killed_asker(settings, client, 100)
    work_here(settings)
    answer: Any = client.ttl(f"rq:results:{read}")
    assert 0 < answer <= 102
    assert not client.exists(f"rq:job:{read}")


def test_a_stock_worker_passes_over_a_read_that_has_expired(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    read = killed_asker(settings, client, 100)
    producer.append("k", HI)
    client.delete(f"rq:job:{read}")
    ended = run_prepared(
        "-m", "rq.cli", "worker", "--burst", "-w", "rq.SimpleWorker",
        "--serializer", "backscroll.transport.rq_protocol.OrjsonSerializer", "--url",
        settings.redis_url or "", "backscroll",
        env=environment(settings, settings.redis_url or ""),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert contents(settings, "k") == ["hi"]
    assert client.zcard("rq:failed:backscroll") == 0


def test_the_read_of_a_killed_caller_expires_and_what_follows_is_applied(
    settings: Settings, producer: Producer, client: redis.Redis
) -> None:
    read = killed_asker(settings, client, 0.1)
    producer.append("k", HI)
    wait_for(lambda: not client.exists(f"rq:job:{read}"), "the read to go")
    work_here(settings)
    assert contents(settings, "k") == ["hi"]
    assert depth(client) == 0
    assert client.zcard("rq:failed:backscroll") == 0
    assert not client.exists(f"rq:results:{read}")
