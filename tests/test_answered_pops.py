"""Pops that the server answers out of a tail: what they return is what the worker removes."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    ConflictError,
    InvalidInputError,
    NotConfirmedError,
    OperationRefusedError,
    Producer,
    QueueFullError,
    record_writes,
)
from backscroll.contract.answers import SEPARATOR
from backscroll.contract.message_checks import Limits
from backscroll.contract.requests import Requests
from backscroll.transport.rq_protocol import job_key, own_key, queue_key
from backscroll.transport.tails import names_of
from tests.changes import random_change
from tests.processes import wait_for
from tests.proxy import LossyProxy
from tests.tails import Hits, stopped, texts, warm

TAILS, PENDING = own_key("backscroll", "tails"), own_key("backscroll", "pending")
QUEUE = queue_key("backscroll")
HI = ChatMessage.user("hi")
requests = Requests(Limits(), "backscroll")
NAMES = ["a", "b", "c", "d"]


@pytest.fixture
def said(working_on_each: Any, producer: Producer, hits: Hits) -> Any:
    """The worker, after four messages of a session that has a tail."""
    producer.append("s", *(ChatMessage.user(name, mood=name) for name in NAMES), ack="stored")
    warm(producer, hits, "s")
    return working_on_each


def test_a_pop_of_a_session_that_is_read_needs_no_worker(
    said: Any, producer: Producer, hits: Hits, client: redis.Redis
) -> None:
    before = hits.count
    with Producer(producer.url, timeout_seconds=0.3) as hasty:
        with stopped(said, producer):
            popped = hasty.pop("s", 2)
            assert [(each.content, each.extra) for each in popped] == [
                ("c", {"mood": "c"}),
                ("d", {"mood": "d"}),
            ]
            assert hits.count == before + 1
            with pytest.raises(NotConfirmedError):  # it is not known what is left
                hasty.load("s", 5)
            with pytest.raises(NotConfirmedError) as caught:
                hasty.pop("s")
        assert texts(producer.load("s", 50)) == ["a"]
        assert texts(producer.send(caught.value.operation, "stored").messages) == ["b"]
    wait_for(lambda: not client.exists(PENDING), "all to be done")
    assert client.zcard("rq:failed:backscroll") == 0


def test_with_stored_it_waits_for_the_worker(said: Any, producer: Producer) -> None:
    with (
        stopped(said, producer),
        Producer(producer.url, timeout_seconds=0.2) as hasty,
        Producer(producer.url, timeout_seconds=0.2, ack="stored") as careful,
    ):
        with pytest.raises(NotConfirmedError):
            hasty.pop("s", ack="stored")
        with pytest.raises(NotConfirmedError):
            careful.pop("s")
        with pytest.raises(InvalidInputError, match="ack"):
            hasty.pop("s", ack="soon")  # type: ignore[arg-type]
    assert texts(producer.load("s", 50)) == ["a", "b"]


def test_what_a_tail_does_not_say_comes_from_the_worker(said: Any, producer: Producer) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        for key, count in (("s", 5), ("s", 100), ("unread", 1)):
            with pytest.raises(NotConfirmedError):
                hasty.pop(key, count)
    assert producer.pop("s", 3) == []


@pytest.mark.parametrize("count", [1, 2, 11])
@pytest.mark.parametrize("op_id", [None, "x" * 99], ids=["many", "unnamed"])
def test_a_pop_after_a_tail_has_grown_returns_what_was_said_last(
    said: Any, producer: Producer, client: redis.Redis, count: int, op_id: str | None
) -> None:
    """Also if more was said at once than a tail has names of, or under ids that it cannot name."""
    many = requests.append("s", tuple(ChatMessage.user(str(number)) for number in range(15)))
    with stopped(said, producer):
        producer.send(many.changed(op_id=op_id or many.op_id))
        producer.append("s", ChatMessage.user("last"))
    wait_for(lambda: not client.exists(PENDING), "all to be done")
    expected = [*NAMES, *map(str, range(15)), "last"]
    assert texts(producer.pop("s", count)) == expected[-count:]
    assert texts(producer.load("s", 50, include_edits=True)) == expected[:-count]


@pytest.mark.usefixtures("said")
def test_a_pop_after_an_own_write_returns_it(producer: Producer) -> None:
    for number in range(20):
        producer.append("s", ChatMessage.user(str(number)))
        assert texts(producer.pop("s")) == [str(number)]
        if number % 2:
            producer.load("s", 5)
    assert texts(producer.load("s", 50)) == NAMES


def test_sent_again_it_returns_the_same_though_there_is_a_tail(
    said: Any, producer: Producer, hits: Hits
) -> None:
    with record_writes() as writes:
        assert texts(producer.pop("s")) == ["d"]
    warm(producer, hits, "s")
    for ack in ("stored", "queued", "stored"):
        receipt = producer.send(writes[0].operation, ack)
        if ack == "stored":
            assert (texts(receipt.messages), receipt.duplicate) == (["d"], True)
    assert texts(producer.load("s", 50)) == ["a", "b", "c"]


def test_a_pop_whose_reply_is_lost_removes_once(
    said: Any, server_url: str, producer: Producer, hits: Hits
) -> None:
    with LossyProxy(server_url.removeprefix("unix://")) as proxy, Producer(proxy.url) as lossy:
        lossy.load("s", 1)
        for name in ("d", "c", "b"):
            warm(producer, hits, "s")
            proxy.lose_replies(b'"count":1')
            assert texts(lossy.pop("s")) == [name]
            proxy.lose_replies(b"", 0)
        assert proxy.lost == 3
    assert texts(producer.load("s", 50)) == ["a"]


def test_it_removes_what_it_returned_whatever_comes_between(
    said: Any, producer: Producer, client: redis.Redis
) -> None:
    """A job that somebody puts into the queue by hand is not known to be about the session."""
    with stopped(said, producer):
        first = producer.append("s", ChatMessage.user("between"))
        client.hdel(PENDING, "s")
        assert client.lrange(QUEUE, -1, -1) == [first.op_id.encode()]
        assert texts(producer.pop("s")) == ["d"]
        assert b"message_ids" in (client.hget(job_key(pending_id(client)), "data") or b"")
    assert texts(producer.load("s", 50)) == ["a", "b", "c", "between"]


def pending_id(client: redis.Redis) -> str:
    """The id of the last job of the queue."""
    last: Any = client.lindex(QUEUE, -1)
    return str(last.decode())


def test_a_slow_clock_pops_the_session_that_has_the_key_now(
    said: Any, producer: Producer, hits: Hits, monkeypatch: pytest.MonkeyPatch
) -> None:
    producer.rename("s", "past")
    producer.append("s", ChatMessage.user("new"), ack="stored")
    warm(producer, hits, "s")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
    with stopped(said, producer):
        assert texts(producer.pop("s")) == ["new"]
    assert producer.load("s", 50) == []
    assert texts(producer.load("past", 50)) == NAMES


def test_a_full_queue_refuses_it_and_nothing_is_removed(
    said: Any, producer: Producer, client: redis.Redis
) -> None:
    with stopped(said, producer), Producer(producer.url, max_queue_depth=1) as full:
        producer.append("other", HI)
        with pytest.raises(QueueFullError):
            full.pop("s")
        assert not client.hexists(PENDING, "s")
    assert texts(producer.load("s", 50)) == NAMES


@pytest.mark.parametrize("tail", ["50\nnull\n[]", "50 a:\nnull\n[]", "50\n", "", "[]"])
def test_a_tail_of_another_version_answers_no_pop(
    said: Any, producer: Producer, client: redis.Redis, tail: str
) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        client.hset(TAILS, "hs", tail)
        with pytest.raises(NotConfirmedError):
            hasty.pop("s")
    assert texts(producer.load("s", 50)) == ["a", "b", "c"]


def test_where_nothing_can_be_marked_the_worker_answers(
    said: Any, producer: Producer, client: redis.Redis
) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        client.delete(PENDING)
        client.set(PENDING, "mine")
        with pytest.raises(NotConfirmedError):
            hasty.pop("s")
    assert texts(producer.load("s", 50)) == ["a", "b", "c"]


def test_an_id_that_is_not_plain_stands_in_no_line() -> None:
    odd = [{"message_id": 'x"],"key":"other'}, {"message_id": "a:1"}, {"message_id": "a\nb"}]
    for message in [*odd, {"message_id": ""}, {"message_id": "a b"}]:
        known = {"message_id": "known", "content": "\\\n"}
        messages = b"[%b]" % SEPARATOR.join(map(orjson.dumps, [message, known]))
        names = names_of(messages)
        assert names == b" known:%d" % len(orjson.dumps(known))


@pytest.mark.usefixtures("working_on_each")
def test_after_any_change_a_pop_returns_the_newest(producer: Producer, hits: Hits) -> None:
    rng, keys, until = random.Random(time.time_ns()), ["a", "b"], time.monotonic() + 60
    with Producer(producer.url, ack="stored") as other:
        while hits.count < 10 and time.monotonic() < until:
            with suppress(ConflictError, OperationRefusedError):
                random_change(rng, keys)(rng.choice([producer, other]))
            key, count = rng.choice(keys), rng.choice([1, 1, 2])
            if rng.random() < 0.5:
                other.reopen_session(key)
                other.append(key, HI, HI)
            producer.load(key, 50)
            newest = producer.load(key, count, include_edits=True)
            popped = rng.choice([producer, producer, other]).pop(key, count)
            assert popped == [replace(each, edits=()) for each in newest]
            gone = {each.message_id for each in popped}
            assert not gone & {each.message_id for each in producer.load(key, 50)}
    assert hits.count >= 10


@pytest.mark.usefixtures("working_on_each")
def test_each_message_is_popped_once_by_all_who_pop(producer: Producer, hits: Hits) -> None:
    keys = ["a", "b", "c"]
    popped: list[str] = []
    said: list[str] = []

    def talk(name: int) -> None:
        rng = random.Random(name)
        with Producer(producer.url) as own:
            for number in range(60):
                key = rng.choice(keys)
                if rng.random() < 0.5:
                    said.append(f"{name} {number}")
                    own.append(key, ChatMessage.user(said[-1]))
                own.load(key, 10)
                popped.extend(texts(own.pop(key, rng.choice([1, 1, 2]))))

    async def talk_at_once(name: int) -> None:
        rng = random.Random(name)
        async with AsyncProducer(producer.url) as own:
            for number in range(60):
                key = rng.choice(keys)
                said.append(f"{name} {number}")
                await own.append(key, ChatMessage.user(said[-1]))
                await own.load(key, 10)
                popped.extend(texts(await own.pop(key)))

    calls: list[Callable[[], None]] = [partial(talk, name) for name in range(3)]
    calls.append(lambda: asyncio.run(talk_at_once(9)))
    with ThreadPoolExecutor(4) as pool:
        for running in [pool.submit(call) for call in calls]:
            running.result()
    left = [text for key in keys for text in texts(producer.load(key))]
    assert Counter([*popped, *left]) == Counter(said)
    assert hits.count
