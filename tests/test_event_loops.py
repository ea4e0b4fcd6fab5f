"""One `AsyncProducer` on several event loops, one after the other and at once."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, ServerUnavailableError
from backscroll.contract.codec import decode
from backscroll.contract.operations import Append
from backscroll_worker.settings import Settings
from tests.processes import running_worker
from tests.proxy import LossyProxy

HI = ChatMessage.user("hi")


def waiting(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


async def say(producer: AsyncProducer, *texts: str) -> list[str]:
    calls = (producer.append("k", ChatMessage.user(text)) for text in texts)
    return [receipt.op_id for receipt in await asyncio.gather(*calls)]


@pytest.mark.parametrize("with_spool", [False, True])
def test_each_run_of_a_loop_sends_once_and_in_order(
    server_url: str, client: redis.Redis, tmp_path: Path, with_spool: bool
) -> None:
    producer = AsyncProducer(server_url, spool=tmp_path / "spool" if with_spool else None)
    ids: list[str] = []
    for number in range(6):
        ids += asyncio.run(say(producer, str(number), "x"))
    asyncio.run(producer.close())
    assert waiting(client) == ids


def test_reads_and_confirmations_come_on_each_loop(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    producer = AsyncProducer(settings.redis_url, timeout_seconds=60)

    async def use(number: int) -> None:
        assert (await producer.append("k", HI, ack="stored")).affected == 1
        assert len(await producer.load("k")) == number + 1

    with running_worker(settings, client, log):
        for number in range(4):
            asyncio.run(use(number))
        asyncio.run(producer.close())


def test_loops_in_threads_share_a_producer_and_keep_their_own_order(
    server_url: str, client: redis.Redis
) -> None:
    producer = AsyncProducer(server_url)
    barrier = threading.Barrier(4)

    async def use(name: str) -> None:
        for number in range(50):
            await producer.append(name, ChatMessage.user(str(number)))

    def run(name: str) -> None:
        barrier.wait()
        asyncio.run(use(name))

    threads = [threading.Thread(target=run, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(producer.close())
    said: dict[str, list[int]] = {}
    for job_id in waiting(client):
        operation = decode(job_id, client.hget(f"rq:job:{job_id}", "data"))  # type: ignore[arg-type]
        assert isinstance(operation, Append)
        said.setdefault(operation.key, []).append(int(operation.messages[0].content))
    assert said == {f"t{number}": list(range(50)) for number in range(4)}


def test_a_loop_that_ended_in_the_middle_of_calls_harms_no_later_one(
    server_url: str, client: redis.Redis
) -> None:
    producer = AsyncProducer(server_url)
    first = asyncio.run(say(producer, "a"))

    async def leave() -> None:
        for _ in range(200):
            asyncio.get_running_loop().create_task(producer.append("k", HI))
        asyncio.get_running_loop().create_task(producer.load("k"))
        await asyncio.sleep(0)

    asyncio.run(leave())
    gc.collect()
    last = asyncio.run(say(producer, "b", "c"))
    asyncio.run(producer.close())
    queued = waiting(client)
    assert queued[:1] + queued[-2:] == first + last
    assert len(queued) == len(set(queued))


def test_an_operation_that_failed_on_one_loop_is_sent_once_on_another(
    server_url: str, client: redis.Redis
) -> None:
    with LossyProxy(server_url.removeprefix("unix://")) as proxy:
        producer = AsyncProducer(proxy.url, retries=0)
        ids = asyncio.run(say(producer, "a"))
        proxy.lose_replies(b"EVALSHA")
        with pytest.raises(ServerUnavailableError) as caught:
            asyncio.run(say(producer, "b"))
        assert caught.value.retryable
        assert caught.value.operation is not None
        receipt = asyncio.run(again(producer, caught.value.operation))
        asyncio.run(producer.close())
    assert waiting(client) == [*ids, receipt.op_id]


async def again(producer: AsyncProducer, operation: Any) -> Any:
    return await producer.send(operation)


def test_cancelled_callers_of_a_batch_harm_no_other_and_double_nothing(
    server_url: str, client: redis.Redis
) -> None:
    with LossyProxy(server_url.removeprefix("unix://")) as proxy:

        async def use() -> tuple[list[str], list[Any]]:
            async with AsyncProducer(proxy.url) as producer:
                first = await say(producer, "first")
                proxy.lose_replies(b"EVALSHA", 2)
                calls = [asyncio.create_task(producer.append("k", HI)) for _ in range(40)]
                await asyncio.sleep(0.02)
                for call in calls[::4]:
                    call.cancel()
                return first, await asyncio.gather(*calls, return_exceptions=True)

        first, outcomes = asyncio.run(use())
        assert proxy.lost == 2
    queued = waiting(client)
    kept = [outcome.op_id for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(kept) == 30
    assert [op_id for op_id in queued if op_id in {*first, *kept}] == [*first, *kept]
    assert len(queued) == len(set(queued)) <= 41


def test_a_producer_is_closed_from_another_loop_than_the_one_that_used_it(
    server_url: str, client: redis.Redis
) -> None:
    producer = AsyncProducer(server_url)
    used, closed = asyncio.new_event_loop(), asyncio.new_event_loop()
    ids = used.run_until_complete(say(producer, "a", "b"))
    closed.run_until_complete(producer.close())
    used.close()
    closed.close()
    assert waiting(client) == ids
