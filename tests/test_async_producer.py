"""The asyncio producer: same promises, and calls that travel together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, QueueFullError, ServerUnavailableError
from backscroll.contract.codec import decode
from backscroll.contract.operations import Append
from tests.proxy import LossyProxy

HI = ChatMessage.user("hi")


def waiting(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


def run(url: str, use: Callable[[AsyncProducer], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncProducer(url, **options) as producer:
            return await use(producer)

    return asyncio.run(main())


def test_concurrent_callers_keep_their_own_order(server_url: str, client: redis.Redis) -> None:
    async def use(producer: AsyncProducer) -> None:
        async def say(name: str) -> None:
            for number in range(50):
                await producer.append(name, ChatMessage.user(str(number)))

        await asyncio.gather(*(say(f"c{n}") for n in range(40)))

    run(server_url, use)
    said: dict[str, list[int]] = {}
    for job_id in waiting(client):
        operation = decode(job_id, client.hget(f"rq:job:{job_id}", "data"))  # type: ignore[arg-type]
        assert isinstance(operation, Append)
        said.setdefault(operation.key, []).append(int(operation.messages[0].content))
    assert said == {f"c{n}": list(range(50)) for n in range(40)}


def test_calls_made_at_once_are_queued_in_the_order_they_were_made(
    server_url: str, client: redis.Redis
) -> None:
    async def use(producer: AsyncProducer) -> list[str]:
        receipts = await asyncio.gather(*(producer.append("k", HI) for _ in range(1200)))
        return [receipt.op_id for receipt in receipts]

    assert run(server_url, use) == waiting(client)


def test_a_batch_whose_reply_is_lost_is_queued_once_and_in_order(
    server_url: str, client: redis.Redis
) -> None:
    with LossyProxy(server_url.removeprefix("unix://")) as proxy:

        async def use(producer: AsyncProducer) -> list[str]:
            await producer.append("k", HI)
            proxy.lose_replies(b"EVALSHA", count=2)
            receipts = await asyncio.gather(*(producer.append("k", HI) for _ in range(20)))
            return [receipt.op_id for receipt in receipts]

        sent = run(proxy.url, use)
    assert proxy.lost == 2
    assert waiting(client)[1:] == sent


def test_a_restarted_servers_empty_script_cache_goes_unnoticed(
    server_url: str, client: redis.Redis
) -> None:
    async def use(producer: AsyncProducer) -> None:
        await producer.append("k", HI)
        client.script_flush()
        await asyncio.gather(*(producer.append("k", HI) for _ in range(5)))

    run(server_url, use)
    assert len(waiting(client)) == 6


def test_only_the_calls_beyond_the_cap_are_refused(server_url: str, client: redis.Redis) -> None:
    async def use(producer: AsyncProducer) -> list[Any]:
        calls = (producer.append("k", HI) for _ in range(5))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run(server_url, use, max_queue_depth=3)
    assert [isinstance(outcome, QueueFullError) for outcome in outcomes] == [False] * 3 + [True] * 2
    assert len(waiting(client)) == 3


def test_a_caller_that_gives_up_takes_nobody_with_it(server_url: str, client: redis.Redis) -> None:
    async def use(producer: AsyncProducer) -> None:
        calls = [asyncio.create_task(producer.append("k", HI)) for _ in range(10)]
        await asyncio.sleep(0)
        calls[3].cancel()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(outcome).__name__ for outcome in outcomes].count("CancelledError") == 1

    run(server_url, use)
    assert len(waiting(client)) == 10


def test_no_server_is_told_to_every_caller() -> None:
    async def use(producer: AsyncProducer) -> list[Any]:
        calls = (producer.append("k", HI) for _ in range(3))
        return await asyncio.gather(*calls, return_exceptions=True)

    outcomes = run("redis://:secret@127.0.0.1:1", use, retries=0)
    assert all(isinstance(outcome, ServerUnavailableError) for outcome in outcomes)
    assert len({id(outcome.operation) for outcome in outcomes}) == 3
    assert all("secret" not in str(outcome) for outcome in outcomes)


def test_closing_sends_what_is_still_waiting(server_url: str, client: redis.Redis) -> None:
    async def use(producer: AsyncProducer) -> None:
        for _ in range(5):
            asyncio.get_running_loop().create_task(producer.append("k", HI))
        await asyncio.sleep(0)

    run(server_url, use)
    assert len(waiting(client)) == 5
