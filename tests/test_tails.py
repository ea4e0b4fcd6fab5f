"""Tails that a worker keeps on the server: what they answer, and that this is never stale."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    ConflictError,
    NotConfirmedError,
    OperationRefusedError,
    Producer,
    SessionFilter,
)
from backscroll.contract.message_checks import Limits
from backscroll.contract.requests import Requests
from backscroll.transport import sender
from backscroll.transport.rq_protocol import own_key
from backscroll_worker.settings import Settings
from tests.changes import random_change
from tests.processes import running_worker, stop, wait_for, work_here
from tests.tails import Hits, texts, warm

TAILS, PENDING = own_key("backscroll", "tails"), own_key("backscroll", "pending")
HI = ChatMessage.user("hi")
UNSURE = ChatMessage.user("hi", platform_id="7")
"""The session may have it already."""


@pytest.fixture
def working(settings: Settings, client: redis.Redis, log: Path) -> Iterator[Any]:
    with running_worker(settings, client, log) as worker:
        yield worker


def test_a_session_that_is_read_needs_no_worker(
    working: Any, producer: Producer, hits: Hits, client: redis.Redis
) -> None:
    producer.append("s", *(ChatMessage.user(str(number)) for number in range(80)))
    producer.append("short", HI)
    warm(producer, hits, "s", "short")
    working.send_signal(signal.SIGSTOP)
    try:
        with Producer(producer.url, timeout_seconds=0.2) as hasty:
            for limit in (1, 7, 50):
                assert texts(hasty.load("s", limit)) == list(map(str, range(80 - limit, 80)))
            assert getattr(hasty.session("s"), "message_count", 0) == 80
            assert texts(hasty.load("short")) == ["hi"]  # all of it, as it is all there

            async def use() -> list[str]:
                async with AsyncProducer(producer.url, timeout_seconds=0.2) as other:
                    return texts(await other.load("s", 3))

            assert asyncio.run(use()) == ["77", "78", "79"]
            others: list[Callable[[], Any]] = [
                lambda: hasty.load("s", 51),
                lambda: hasty.load("s"),
                lambda: hasty.load("s", 5, legal=True),
                lambda: hasty.load("s", 5, oldest=True),
                lambda: hasty.load("s", 5, include_edits=True),
                lambda: hasty.load("other", 5),
            ]
            for other in others:
                with pytest.raises(NotConfirmedError):
                    other()
            hasty.append("s", UNSURE)
            with pytest.raises(NotConfirmedError):  # it may lack an own write
                hasty.load("s", 5)
            assert texts(hasty.load("short", 5)) == ["hi"]
    finally:
        working.send_signal(signal.SIGCONT)
    assert texts(producer.load("s", 2)) == ["79", "hi"]
    wait_for(lambda: not client.exists(PENDING), "all to be done")


def check_fresh(producer: Producer, key: str, limit: int | None) -> None:
    """A read that a tail may answer says what one says that no tail can."""
    kept, info = producer.load(key, limit), producer.session(key)
    assert kept == producer.load(key, limit, include_edits=True)
    listed = {each.key: each for each in producer.sessions(SessionFilter(prefix=key)).sessions}
    assert info == listed.get(key)


@pytest.mark.usefixtures("working_on_each")
def test_after_any_change_a_tail_is_as_fresh_as_the_store(producer: Producer, hits: Hits) -> None:
    rng, keys = random.Random(time.time_ns()), ["a", "b", "c"]
    with Producer(producer.url, ack="stored") as other:
        for key in keys:
            producer.append(key, HI, session={"agent": "a"})
        for _ in range(150):
            change = random_change(rng, keys)
            writer = rng.choice([producer, other])
            with suppress(ConflictError, OperationRefusedError):
                change(writer)
            for _ in range(rng.choice([1, 1, 2])):
                check_fresh(rng.choice([producer, other]), rng.choice(keys), rng.choice([1, 3, 50]))
    assert hits.count > 20


@pytest.mark.usefixtures("working")
def test_adapters_at_once_read_their_own_writes(producer: Producer, hits: Hits) -> None:
    async def talk(history: AsyncProducer, key: str) -> None:
        said = []
        for number in range(30):
            said.append(f"{key} {number}")
            await history.append(key, ChatMessage.user(said[-1]))
            if number % 3:
                assert texts(await history.load(key, 5)) == said[-5:]
            pending = asyncio.create_task(history.append(key, ChatMessage.user(f"{number} late")))
            said.append(f"{number} late")
            await asyncio.sleep(0)  # it is made, and nobody has waited for it
            assert texts(await history.load(key, 2)) == said[-2:]
            await pending

    async def use() -> None:
        async with AsyncProducer(producer.url) as history:
            await asyncio.gather(*(talk(history, f"s{number}") for number in range(10)))
            until = time.monotonic() + 30
            while hits.count < 10 and time.monotonic() < until:
                for number in range(10):
                    assert len(await history.load(f"s{number}", 50)) == 50

    asyncio.run(use())
    assert hits.count >= 10


@pytest.mark.usefixtures("working_on_each")
def test_what_arrives_under_an_earlier_key_shows_under_the_new_one(
    producer: Producer, hits: Hits
) -> None:
    producer.append("old", HI)
    late = Requests(Limits(), "backscroll").append("old", (ChatMessage.user("late"),))
    producer.rename("old", "new", ack="stored")
    warm(producer, hits, "new")
    producer.send(late, "stored")
    assert texts(producer.load("new", 50)) == ["hi", "late"]
    assert producer.load("old", 50) == []


@pytest.mark.usefixtures("working_on_each")
def test_a_large_fork_is_read_when_it_is_complete(producer: Producer, hits: Hits) -> None:
    producer.append("s", *(ChatMessage.user(str(number)) for number in range(1_500)))
    for number in range(2):
        warm(producer, hits, "s")
        producer.fork("s", f"f{number}")
        assert texts(producer.load(f"f{number}", 3)) == ["1497", "1498", "1499"]
        assert getattr(producer.session(f"f{number}"), "message_count", 0) == 1_500


def test_jobs_that_waited_before_there_were_tails_come_first(
    settings: Settings, client: redis.Redis, producer: Producer, hits: Hits, log: Path
) -> None:
    producer.append("s", HI)
    work_here(settings)
    assert client.exists(TAILS) == 0  # whoever stops leaves none
    with running_worker(settings, client, log) as worker:
        warm(producer, hits, "s")
        client.delete(TAILS, PENDING)  # as when they had expired
        worker.send_signal(signal.SIGSTOP)
        producer.append("other", HI)
        producer.append("s", ChatMessage.user("more"))
        worker.send_signal(signal.SIGCONT)
        for _ in range(5):
            assert texts(producer.load("s", 50)) == ["hi", "more"]
        warm(producer, hits, "s")


def test_a_killed_worker_leaves_tails_for_a_short_while_and_the_next_one_begins_anew(
    settings: Settings, client: redis.Redis, producer: Producer, hits: Hits, log: Path
) -> None:
    with running_worker(settings, client, log) as worker:
        producer.append("s", HI, ack="stored")
        warm(producer, hits, "s")
        worker.kill()
        worker.wait()
    assert 0 < client.pttl(TAILS) <= 12_000
    token = client.hget(TAILS, "")
    assert texts(producer.load("s", 50)) == ["hi"]
    producer.append("s", ChatMessage.user("more"))
    with running_worker(settings, client, log) as worker:
        assert texts(producer.load("s", 50)) == ["hi", "more"]

        def are_new() -> bool:
            assert texts(producer.load("s", 50)) == ["hi", "more"]
            return client.hget(TAILS, "") not in (None, token)

        wait_for(are_new, "tails of the next one")
        warm(producer, hits, "s")
        assert stop(worker) == 0
    assert client.exists(TAILS) == 0


def test_a_job_that_is_queued_twice_leaves_its_session_to_the_worker(
    working: Any, producer: Producer, client: redis.Redis, hits: Hits
) -> None:
    producer.append("s", HI, ack="stored")
    warm(producer, hits, "s")
    working.send_signal(signal.SIGSTOP)
    producer.append("other", HI)  # which the server gives to the worker that waits
    first = producer.append("s", ChatMessage.user("1"), dedup_key="1")
    client.lrem("rq:queue:backscroll", 0, first.op_id)  # as if it were far ahead
    producer.append("s", ChatMessage.user("2"))
    producer.append("s", ChatMessage.user("1"), dedup_key="1")
    assert client.hget(PENDING, "s") == f"{first.op_id} again".encode()
    client.lpush("rq:queue:backscroll", first.op_id)  # it comes first all the same
    working.send_signal(signal.SIGCONT)
    assert texts(producer.load("s", 50)) == ["hi", "1", "2"]
    wait_for(lambda: not client.exists(PENDING), "the mark to go when nothing waits")
    warm(producer, hits, "s")


@pytest.mark.usefixtures("working")
def test_without_the_servers_id_a_lost_connection_costs_the_trust_in_tails(
    producer: Producer, client: redis.Redis, hits: Hits, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.append("s", HI, ack="stored")
    warm(producer, hits, "s")
    for is_known in (True, False):
        if not is_known:  # as where the server's ACL keeps this user from INFO
            monkeypatch.setattr(sender, "server_id", lambda _info: "")
        client.client_kill_filter(_type="normal", skipme=True)
        producer.load("s", 50)
        warm(producer, hits, "s") if is_known else None
        before = hits.count
        for _ in range(3):
            assert texts(producer.load("s", 50)) == ["hi"]
        assert hits.count == before + 3 * is_known


@pytest.mark.usefixtures("working")
def test_an_erasure_leaves_no_text_in_the_tails(
    producer: Producer, client: redis.Redis, hits: Hits
) -> None:
    producer.append("s", ChatMessage.user("secret"), ack="stored")
    warm(producer, hits, "s")
    assert "secret" in str(client.hgetall(TAILS))
    producer.erase(key="s")
    assert "secret" not in str(client.hgetall(TAILS))
    assert producer.load("s", 50) == []


def test_tails_take_no_more_than_they_may(
    settings: Settings, client: redis.Redis, producer: Producer, hits: Hits, log: Path
) -> None:
    text = ChatMessage.user("x" * 20_000)
    with running_worker(settings, client, log, BACKSCROLL_TAILS_MIB="1"):
        producer.append("large", *[text] * 8)
        for number in range(60):
            producer.append(f"s{number}", text, text)
        for number in [*range(60), *range(50, 60)]:
            assert texts(producer.load(f"s{number}", 50)) == [text.content] * 2
        for _ in range(3):  # of which a tail has but a part
            assert len(producer.load("large")) == 8
        tails: dict[Any, Any] = client.hgetall(TAILS)
        assert 10 < sum(field.startswith(b"h") for field in tails) < 30
        assert sum(map(len, tails.values())) <= 1024 * 1024
        warm(producer, hits, "s59", "large", limit=2)
        assert len(producer.load("large")) == 8


@pytest.mark.usefixtures("working")
def test_a_session_whose_tails_nobody_reads_is_left_out_for_a_while(
    producer: Producer, client: redis.Redis, hits: Hits
) -> None:
    producer.append("s", HI, ack="stored")
    warm(producer, hits, "s")

    def is_left_out() -> bool:
        producer.append("s", replace(UNSURE, platform_id=str(time.time())))
        assert producer.load("s", 1)
        producer.append("s", HI, ack="stored")
        return not client.hexists(TAILS, "hs")

    wait_for(is_left_out, "a turn after which there is no tail")
    warm(producer, hits, "s")


def test_there_are_none_where_they_are_switched_off(
    settings: Settings, client: redis.Redis, producer: Producer, hits: Hits, log: Path
) -> None:
    with running_worker(settings, client, log, BACKSCROLL_TAILS_MIB="0"):
        producer.append("s", HI)
        for _ in range(5):
            assert texts(producer.load("s", 50)) == ["hi"]
    assert (hits.count, client.exists(TAILS, PENDING)) == (0, 0)


@pytest.mark.usefixtures("working_on_each")
def test_a_late_pop_shows_under_the_new_key(producer: Producer, hits: Hits) -> None:
    producer.append("old", HI, ChatMessage.user("last"))
    late = Requests(Limits(), "backscroll").pop("old")
    producer.rename("old", "new", ack="stored")
    warm(producer, hits, "new")
    producer.send(late, "stored")
    assert texts(producer.load("new", 50)) == ["hi"]


@pytest.mark.usefixtures("working_on_each")
def test_what_erases_late_under_an_earlier_key_leaves_no_text(
    producer: Producer, hits: Hits, client: redis.Redis
) -> None:
    producer.append("old", ChatMessage.user("secret"))
    late = Requests(Limits(), "backscroll").describe("old", {"sender": "x"})
    producer.rename("old", "new", ack="stored")
    producer.erase(sender="x")  # nobody knows yet that this is theirs
    warm(producer, hits, "new")
    assert "secret" in str(client.hgetall(TAILS))
    producer.send(late, "stored")
    assert "secret" not in str(client.hgetall(TAILS))
    assert producer.load("new", 50) == []


def test_a_worker_removes_the_tails_of_one_that_was_killed(
    settings: Settings, client: redis.Redis, producer: Producer, hits: Hits, log: Path
) -> None:
    with running_worker(settings, client, log) as worker:
        producer.append("s", HI, ack="stored")
        warm(producer, hits, "s")
        worker.kill()
    assert client.exists(TAILS)
    producer.append("s", HI)
    with running_worker(settings, client, log, BACKSCROLL_TAILS_MIB="0"):
        wait_for(lambda: not client.exists(TAILS, PENDING), "both to go")


@pytest.mark.usefixtures("working")
def test_keys_of_a_wrong_type_stop_no_worker(
    producer: Producer, client: redis.Redis, hits: Hits, log: Path
) -> None:
    producer.append("s", HI, ack="stored")
    for key in (PENDING, TAILS):
        warm(producer, hits, "s")
        client.delete(key)
        client.set(key, "mine")
        producer.append("s", HI, ack="stored")
    wait_for(lambda: "no tails are kept" in log.read_text(), "the worker to give up")
    producer.append("s", HI, ack="stored")
    assert len(producer.load("s", 50)) == 4


def test_a_read_whose_job_was_deleted_by_hand_is_sent_again(
    working: Any, producer: Producer, client: redis.Redis, hits: Hits
) -> None:
    producer.append("s", HI, ack="stored")
    warm(producer, hits, "s")
    working.send_signal(signal.SIGSTOP)
    producer.append("other", HI)  # which the server gives to the worker that waits
    client.hset(PENDING, "s", "until the job is deleted")
    with Producer(producer.url, timeout_seconds=9) as other, ThreadPoolExecutor(1) as pool:
        reading = pool.submit(other.load, "s", 50)
        job_id: Any = wait_for(lambda: client.lindex("rq:queue:backscroll", -1), "the read")
        client.hdel(PENDING, "s")
        client.delete("rq:queue:backscroll", b"rq:job:" + job_id)
        working.send_signal(signal.SIGCONT)
        assert texts(reading.result()) == ["hi"]
