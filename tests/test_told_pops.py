"""What a caller was told by a tail stays true: jobs that fail, lost replies, clocks, renames."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from subprocess import Popen
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    NotConfirmedError,
    Producer,
    ServerRefusedError,
    connect,
    record_writes,
)
from backscroll.contract.ids import derived_op_id
from backscroll.contract.operations import Operation
from backscroll.transport.rq_protocol import job_key, own_key, queue_key, registry_key
from backscroll.transport.sender import JobConnection
from backscroll_worker.settings import Settings
from tests.processes import spawn, wait_for
from tests.proxy import Proxy
from tests.tails import Hits, stopped, texts, warm

PENDING, QUEUE = own_key("backscroll", "pending"), queue_key("backscroll")
FAILED = registry_key("failed", "backscroll")
HI = ChatMessage.user("hi")
NAMES = ["a", "b", "c", "d"]
HOUR = 3600 * 10**9


@pytest.fixture
def said(working_on_each: Popen[bytes], producer: Producer, hits: Hits) -> Popen[bytes]:
    """The worker, after four messages of a session that has a tail."""
    producer.append("s", *map(ChatMessage.user, NAMES), ack="stored")
    warm(producer, hits, "s")
    return working_on_each


@contextmanager
def clock_by(nanoseconds: int) -> Iterator[None]:
    """This process's clock is wrong."""
    now = time.time_ns
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "time_ns", lambda: now() + nanoseconds)
        yield


def told(producer: Producer, hits: Hits, key: str = "s") -> tuple[list[str], Operation]:
    """What a tail says of a pop, and the operation."""
    before = hits.count
    with record_writes() as writes:
        popped = texts(producer.pop(key))
    assert hits.count == before + 1
    return popped, writes[0].operation


def fail_last_job(client: redis.Redis) -> None:
    """As if workers had died over the job alone, several times."""
    last: Any = client.rpop(QUEUE)
    client.hset(job_key(last.decode()), "status", "failed")
    client.zadd(FAILED, {last: time.time()})
    client.delete(PENDING)


_EMPTYING: list[Callable[[Producer], object]] = [
    lambda producer: producer.erase(key="s"),
    lambda producer: producer.delete("s"),
    lambda producer: producer.delete(prefix="s"),
    lambda producer: producer.clear("s"),
]


@pytest.mark.parametrize("empty", _EMPTYING, ids=["erase", "delete", "prefix", "clear"])
def test_a_slow_clock_pops_what_was_said_after_the_session_was_emptied(
    said: Popen[bytes],
    producer: Producer,
    hits: Hits,
    client: redis.Redis,
    settings: Settings,
    log: Path,
    empty: Callable[[Producer], object],
) -> None:
    empty(producer)
    producer.append("s", HI, HI, ChatMessage.user("new"), ack="stored")
    warm(producer, hits, "s")
    with clock_by(-HOUR):
        popped, operation = told(producer, hits)
        assert popped == ["new"]
    assert texts(producer.load("s", 50)) == ["hi", "hi"]
    assert texts(producer.send(operation, "stored").messages) == ["new"]
    warm(producer, hits, "s")
    with clock_by(-HOUR), stopped(said, producer):
        assert told(producer, hits)[0] == ["hi"]
        fail_last_job(client)
    requeue(settings, client, log)  # which marks it as late
    assert texts(producer.load("s", 50)) == ["hi"]


def requeue(settings: Settings, client: redis.Redis, log: Path) -> None:
    assert spawn(settings, "failed", "requeue", "--all", log=log).wait(60) == 0, log.read_text()
    wait_for(lambda: not (client.zcard(FAILED) or client.llen(QUEUE)), "the job to be done")


_RENAMES: list[Callable[[Producer], object]] = [
    lambda producer: producer.rename("s", "t"),
    lambda producer: producer.merge("s", "t"),
    lambda producer: producer.reset("s"),
]


@pytest.mark.parametrize("rename", _RENAMES, ids=["rename", "merge", "reset"])
def test_a_failed_one_that_is_requeued_removes_it_whatever_the_key_is(
    said: Popen[bytes],
    producer: Producer,
    hits: Hits,
    client: redis.Redis,
    settings: Settings,
    log: Path,
    rename: Callable[[Producer], object],
) -> None:
    with stopped(said, producer):
        assert told(producer, hits)[0] == ["d"]
        fail_last_job(client)
    rename(producer)
    producer.append("s", HI, ack="stored")
    new = producer.session("s")
    assert new is not None
    past = new.continued_from or "t"
    warm(producer, hits, past)
    requeue(settings, client, log)
    assert texts(producer.load(past, 50)) == ["a", "b", "c"]
    assert texts(producer.load("s", 50)) == ["hi"]


def test_a_failed_one_that_is_sent_again_removes_the_same(
    said: Popen[bytes], producer: Producer, hits: Hits, client: redis.Redis
) -> None:
    with stopped(said, producer):
        popped, operation = told(producer, hits)
        assert popped == ["d"]
        fail_last_job(client)
        producer.append("s", ChatMessage.user("e"))
    assert texts(producer.send(operation, "stored").messages) == ["d"]
    assert texts(producer.load("s", 50)) == ["a", "b", "c", "e"]


class ForgetfulProxy(Proxy):
    """Hangs up before the first call for the disk, and calls `forget`."""

    forget: Callable[[], None]
    has_forgotten = False

    def serve(self, client: socket, server: socket) -> None:
        while request := client.recv(1 << 20):
            if b"WAITAOF" in request and not self.has_forgotten:
                self.has_forgotten = True
                self.forget()
                return
            server.sendall(request)
            client.sendall(server.recv(1 << 20))


@pytest.mark.parametrize("is_async", [False, True])
def test_one_that_the_disk_has_not_got_returns_what_goes_in_the_end(
    said: Popen[bytes], server_url: str, producer: Producer, client: redis.Redis, is_async: bool
) -> None:
    def forget() -> None:
        """The last job, as a server that was killed; others go on."""
        last: Any = client.rpop(QUEUE)
        client.delete(job_key(last.decode()), PENDING)
        producer.append("s", ChatMessage.user("e"))
        said.send_signal(signal.SIGCONT)

    async def pop(url: str) -> list[ChatMessage]:
        async with AsyncProducer(url) as own:
            return await own.pop("s", ack="fsynced")

    with ForgetfulProxy(server_url.removeprefix("unix://")) as proxy, stopped(said, producer):
        proxy.forget = forget
        if is_async:
            popped = asyncio.run(pop(proxy.url))
        else:
            with Producer(proxy.url) as own:
                popped = own.pop("s", ack="fsynced")
        assert proxy.has_forgotten
    assert sorted([*texts(popped), *texts(producer.load("s", 50))]) == [*NAMES, "e"]


def test_a_local_read_waits_for_what_was_written_before_a_resend(
    said: Popen[bytes], settings: Settings, producer: Producer, hits: Hits, tmp_path: Path
) -> None:
    """The result of what is sent again may have been there before what was written since."""
    store = Path(tmp_path / "store")
    url = f"{'jsonl' if store.is_dir() else 'sqlite'}://{store}"
    with connect(producer.url, local_reads=url, timeout_seconds=0.3) as local:
        with record_writes() as writes:
            local.pop("s", ack="stored")
        assert texts(local.load("s")) == ["a", "b", "c"]
        warm(producer, hits, "s")
        with stopped(said, producer):
            assert texts(local.pop("s")) == ["c"]
            assert texts(local.send(writes[0].operation, "stored").messages) == ["d"]
            with pytest.raises(NotConfirmedError):
                local.load("s")
        wait_for(lambda: texts(producer.load("s")) == ["a", "b"], "the pop")
        assert texts(local.load("s")) == ["a", "b"]


def test_one_of_a_batch_that_was_refused_half_way_returns_what_went(
    said: Popen[bytes],
    producer: Producer,
    hits: Hits,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server has carried out what comes before the job that it refuses."""
    client.set(job_key(derived_op_id("other", "odd")), "not a job")
    is_serving, calls = JobConnection.is_serving, list[int]()

    def once_done(connection: JobConnection) -> bool:
        if not calls:
            warm(producer, hits, "s")
        calls.append(1)
        return is_serving(connection)

    monkeypatch.setattr(JobConnection, "is_serving", once_done)

    async def pop_in_a_batch() -> list[ChatMessage]:
        async with AsyncProducer(producer.url) as own:
            await own.append("other", HI)
            gate = asyncio.gather(*(own.append("other", HI) for _ in range(200)))
            odd = own.append("other", HI, dedup_key="odd")
            popped, refused, _ = await asyncio.gather(
                own.pop("s"), odd, gate, return_exceptions=True
            )
            assert isinstance(refused, ServerRefusedError)
            assert isinstance(popped, list)
            return popped

    assert texts(asyncio.run(pop_in_a_batch())) == ["d"]
    assert calls
    assert texts(producer.load("s", 50)) == ["a", "b", "c"]
