"""One `AsyncProducer` on several event loops, one after the other and at once."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, ServerUnavailableError, record_writes
from backscroll.contract.codec import decode
from backscroll.contract.operations import Append
from backscroll_worker.embedded import AsyncLocal
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


def test_a_producer_goes_to_and_fro_between_loops_that_stay_open(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    producer = AsyncProducer(settings.redis_url, timeout_seconds=60)
    with (
        running_worker(settings, client, log),
        asyncio.Runner() as first,
        asyncio.Runner() as second,
    ):
        for number in range(5):
            first.run(producer.append("k", HI, ack="stored"))
            assert len(second.run(producer.load("k"))) == 2 * number + 1
            second.run(producer.append("k", HI))
            assert len(first.run(producer.load("k"))) == 2 * number + 2
        first.run(producer.close())


@pytest.mark.parametrize("way", ["queue", "embedded"])
def test_a_notebooks_loop_and_others_beside_it_share_a_history(
    way: str, settings: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    """Cells run on a loop that never ends, and a library of theirs on loops in threads."""

    async def cell(history: Any) -> None:
        await history.append("k", HI, ack="stored")
        await asyncio.to_thread(asyncio.run, history.append("k", HI, ack="stored"))
        with pytest.raises(RuntimeError, match="cannot be called from a running event loop"):
            asyncio.run(call := history.append("k", HI))
        call.close()
        assert len(await history.load("k")) % 2 == 0
        async with history.turn("k", HI) as turn:
            turn_ended = asyncio.to_thread(asyncio.run, turn.reply("ho"))
            await turn_ended

    notebook = asyncio.new_event_loop()
    thread = threading.Thread(target=notebook.run_forever)
    thread.start()
    try:
        with running_worker(settings, client, log):
            history: Any = (
                AsyncProducer(settings.redis_url, timeout_seconds=60)
                if way == "queue"
                else AsyncLocal(f"sqlite://{tmp_path / 'own.db'}")
            )
            for count in (4, 8):
                asyncio.run_coroutine_threadsafe(cell(history), notebook).result(60)
                assert len(asyncio.run(history.load("k"))) == count
            asyncio.run(history.close())
    finally:
        notebook.call_soon_threadsafe(notebook.stop)
        thread.join(60)
        notebook.close()


@pytest.mark.parametrize("way", ["queue", "spool", "embedded"])
def test_without_a_loop_of_asyncio_a_call_says_so_and_sends_nothing(
    way: str, server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    if way == "embedded":
        history: Any = AsyncLocal(f"jsonl://{tmp_path / 'own'}")
    else:
        history = AsyncProducer(server_url, spool=tmp_path / "spool" if way == "spool" else None)
    with record_writes() as writes:
        for call in (history.append("k", HI), history.load("k"), history.pop("k")):
            with pytest.raises(RuntimeError, match="no event loop of asyncio runs here"):
                call.send(None)
    assert [write.is_settled for write in writes] == [False, False]
    ids = asyncio.run(say(history, "a"))
    if way == "embedded":
        assert len(asyncio.run(history.load("k"))) == 1
    asyncio.run(history.close())
    assert waiting(client) == ([] if way == "embedded" else ids)


def test_many_loops_in_threads_read_and_write_one_store_in_this_process(tmp_path: Path) -> None:
    local = AsyncLocal(f"sqlite://{tmp_path / 'own.db'}")
    found: list[int] = []

    async def use(key: str) -> None:
        for number in range(20):
            await local.append(key, ChatMessage.user(str(number)))
        found.append(len(await local.load(key)))

    threads = [threading.Thread(target=lambda k=f"k{n}": asyncio.run(use(k))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    asyncio.run(local.close())
    assert found == [20] * 4
