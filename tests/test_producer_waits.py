"""Calls that wait for the worker: they share one connection and hold up nobody else's call."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, NotConfirmedError, Producer
from backscroll.transport import result_stream
from backscroll_worker.settings import Settings
from tests.prepared import run_prepared
from tests.processes import burst, running_worker, wait_for, work_here

HI = ChatMessage.user("hi")


def connections(client: redis.Redis) -> int:
    return len(client.client_list(_type="normal"))


def jobs(client: redis.Redis) -> int:
    return len(client.keys("rq:job:*"))


@pytest.mark.parametrize("kind", ["load", "stored"])
def test_waiting_calls_hold_up_no_write_and_share_a_connection(
    server_url: str, client: redis.Redis, kind: str
) -> None:
    before = connections(client)

    async def use() -> None:
        async with AsyncProducer(server_url, timeout_seconds=60) as producer:
            waits = [
                asyncio.create_task(
                    producer.load(f"k{number}")
                    if kind == "load"
                    else producer.append(f"k{number}", HI, ack="stored")
                )
                for number in range(300)
            ]
            while jobs(client) < 300:
                await asyncio.sleep(0.01)
            for _ in range(6):
                await asyncio.wait_for(producer.append("k", HI, ack="queued"), 30)
            assert connections(client) - before <= 2
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(use())


def test_threads_that_wait_share_a_connection(settings: Settings, client: redis.Redis) -> None:
    before = connections(client)
    with Producer(settings.redis_url, timeout_seconds=60) as producer:
        threads = [threading.Thread(target=producer.load, args=("k",)) for _ in range(100)]
        for thread in threads:
            thread.start()
        wait_for(lambda: jobs(client) == 100, "the reads to be queued")
        wait_for(lambda: connections(client) - before <= 17, "idle connections to be closed")
        producer.append("k", HI)
        work_here(settings)
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("way", ["tracking", "RESP2", "no tracking allowed"])
def test_each_of_many_waiting_callers_gets_its_own_answer(
    settings: Settings, client: redis.Redis, log: Path, way: str
) -> None:
    url = settings.redis_url or ""
    if way == "RESP2":
        url += "?protocol=2"
    if way == "no tracking allowed":
        client.acl_setuser(
            "mute", enabled=True, nopass=True, keys="*", categories=["+@all"],
            commands=["-client|tracking", "-hello"],
        )  # fmt: skip
        url = url.replace("unix://", "unix://mute:x@") + "?protocol=2"

    async def use() -> None:
        async with AsyncProducer(url, timeout_seconds=30) as producer:
            calls = (
                producer.append(f"k{number}", ChatMessage.user(str(number)), ack="stored")
                for number in range(150)
            )
            receipts = await asyncio.gather(*calls)
            assert [receipt.affected for receipt in receipts] == [1] * 150
            found = await asyncio.gather(*(producer.load(f"k{number}") for number in range(150)))
            assert [messages[0].content for messages in found] == list(map(str, range(150)))

    try:
        with running_worker(settings, client, log):
            asyncio.run(use())
    finally:
        client.acl_deluser("mute")


def test_a_caller_that_got_its_result_does_not_wake_the_thread_again(
    settings: Settings, client: redis.Redis, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    put = result_stream._Inbox.put

    def note(inbox: result_stream._Inbox, what: str, about: object) -> None:
        said.append(what)
        put(inbox, what, about)

    monkeypatch.setattr(result_stream._Inbox, "put", note)
    with running_worker(settings, client, log), Producer(settings.redis_url) as producer:
        for _ in range(5):
            producer.append("k", HI, ack="stored")
        assert said == ["watch"] * 5


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
def test_a_read_that_nobody_waits_for_is_taken_back(
    settings: Settings, client: redis.Redis, log: Path, how: str
) -> None:
    async def use() -> None:
        seconds = 0.3 if how == "timeout" else 60
        async with AsyncProducer(settings.redis_url, timeout_seconds=seconds) as producer:
            reads = [asyncio.create_task(producer.search("word")) for _ in range(20)]
            while jobs(client) < 20 and not any(read.done() for read in reads):
                await asyncio.sleep(0.01)
            await producer.append("k", HI)
            if how == "cancelled":
                for read in reads:
                    read.cancel()
            await asyncio.gather(*reads, return_exceptions=True)
            await asyncio.to_thread(wait_for, lambda: jobs(client) == 1, "the reads to be gone")

    asyncio.run(use())
    assert burst(settings, log) == 0
    assert client.llen("rq:queue:backscroll") == 0
    assert client.zcard("rq:failed:backscroll") == 0


def test_a_write_that_nobody_waits_for_any_more_is_not_taken_back(
    server_url: str, client: redis.Redis
) -> None:
    with Producer(server_url, timeout_seconds=0.2) as producer:
        with pytest.raises(NotConfirmedError) as caught:
            producer.append("k", HI, ack="stored")
        with pytest.raises(NotConfirmedError):
            producer.load("k")
        wait_for(lambda: jobs(client) == 1, "the read to be gone")
    assert client.exists(f"rq:job:{caught.value.operation.op_id}")


def test_an_interrupted_read_is_taken_back(server_url: str, client: redis.Redis) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, stop)
    try:
        with Producer(server_url, timeout_seconds=60) as producer:

            def ask() -> None:
                signal.setitimer(signal.ITIMER_REAL, 0.3)
                producer.load("k")

            with pytest.raises(KeyboardInterrupt):
                ask()
            wait_for(lambda: jobs(client) == 0, "the read to be gone")
    finally:
        signal.signal(signal.SIGALRM, previous)


def test_answers_come_though_connections_are_cut_again_and_again(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    done = threading.Event()

    def cut() -> None:
        with redis.Redis.from_url(settings.redis_url or "") as other:
            while not done.wait(0.1):
                for entry in other.client_list(_type="normal"):
                    if entry["cmd"] in ("client|tracking", "xread", "hello", "exists"):
                        other.client_kill_filter(_id=entry["id"])

    cutter = threading.Thread(target=cut)
    with running_worker(settings, client, log):
        cutter.start()
        try:
            for number in range(20):
                assert producer.append("k", HI, ack="stored").affected == 1
                assert len(producer.load("k")) == number + 1
        finally:
            done.set()
            cutter.join()


def test_a_result_whose_job_the_server_lost_is_asked_for_again(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    def lose() -> None:
        wait_for(lambda: jobs(client) == 1, "the job")
        client.flushall()

    loser = threading.Thread(target=lose)
    loser.start()
    waiter = threading.Thread(target=lambda: producer.append("k", HI, ack="stored"))
    waiter.start()
    loser.join()
    wait_for(lambda: jobs(client) == 1, "the job to be sent again")
    with running_worker(settings, client, log):
        waiter.join(60)
        assert not waiter.is_alive()
        assert len(producer.load("k")) == 1


FORKED = """
    import asyncio, os, sys, threading
    from backscroll import AsyncProducer, ChatMessage, Producer
    from backscroll.contract.ids import new_op_id

    producer, later = Producer(sys.argv[1], timeout_seconds=0.2), AsyncProducer(sys.argv[1])
    def wait():
        try:
            producer.load("k")
        except Exception as error:
            assert "no response" in str(error), error
    async def say():
        await later.append("k", ChatMessage.user("x"))
    wait()
    asyncio.run(say())
    def make_ids():
        while True:
            new_op_id()
    for _ in range(2):
        threading.Thread(target=make_ids, daemon=True).start()
    for _ in range(6):
        if not (child := os.fork()):
            producer.append("k", ChatMessage.user("x"))
            wait()
            asyncio.run(say())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    print("done", flush=True)
    os._exit(0)
"""


def test_a_child_forked_beside_busy_threads_can_do_all_calls(
    server_url: str, client: redis.Redis
) -> None:
    ended = run_prepared("-c", textwrap.dedent(FORKED), server_url)
    assert ended.stdout == "done\n", ended.stderr
    assert client.llen("rq:queue:backscroll") == 6 * 3 + 2


RANDOM = """
    import os
    from backscroll.contract.ids import new_op_id

    def tail():
        return new_op_id()[-15:].encode()
    tail()
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, tail())
        os._exit(0)
    assert os.read(reading, 15) != tail()
    print("done")
"""


def test_the_ids_of_a_forked_child_have_other_random_bits() -> None:
    ended = run_prepared("-c", textwrap.dedent(RANDOM))
    assert ended.stdout == "done\n", ended.stderr


@pytest.mark.parametrize("kind", ["Producer", "AsyncProducer"])
def test_a_producer_that_nobody_closed_leaves_no_thread(server_url: str, kind: str) -> None:
    def of_ours() -> int:
        return sum(thread.name.startswith("backscroll-") for thread in threading.enumerate())

    def use() -> None:
        if kind == "Producer":
            with pytest.raises(NotConfirmedError):
                Producer(server_url, timeout_seconds=0.05).load("k")
        else:
            producer = AsyncProducer(server_url)

            async def say() -> None:
                await producer.append("k", HI)

            asyncio.run(say())

    before = of_ours()
    use()
    gc.collect()  # the error and its frames know one another
    wait_for(lambda: of_ours() <= before, "the threads to end")


def test_waiting_for_the_servers_disk_holds_up_no_other_write(
    server_url: str, client: redis.Redis
) -> None:
    async def use() -> list[str]:
        async with AsyncProducer(server_url) as producer:
            synced = [
                asyncio.create_task(producer.append("k", HI, ack="fsynced")) for _ in range(3)
            ]
            while client.llen("rq:queue:backscroll") < 3:
                await asyncio.sleep(0.01)
            receipts = [await producer.append("k", HI) for _ in range(20)]
            assert not any(call.done() for call in synced)
            client.config_set("appendfsync", "always")
            client.set("x", 1)
            first = await asyncio.gather(*synced)
            return [receipt.op_id for receipt in (*first, *receipts)]

    client.config_set("appendfsync", "no")
    try:
        sent = asyncio.run(use())
    finally:
        client.config_set("appendfsync", "everysec")
    queued: Any = client.lrange("rq:queue:backscroll", 0, -1)
    assert [raw.decode() for raw in queued] == sent


def test_an_adapter_with_over_a_thousand_open_files_gets_its_results(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        with (
            running_worker(settings, client, log),
            Producer(settings.redis_url, timeout_seconds=60) as producer,
        ):
            assert producer.append("k", ChatMessage.user("x"), ack="stored").affected == 1
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
