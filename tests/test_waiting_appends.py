"""Appends that wait for the worker, and that reads of the newest messages have all the same."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from rq.registry import FailedJobRegistry

from backscroll import (
    AsyncProducer,
    Attachment,
    ChatMessage,
    NotConfirmedError,
    Producer,
)
from backscroll.contract.message_checks import Limits
from backscroll.contract.requests import Requests
from backscroll.transport.rq_protocol import (
    OrjsonSerializer,
    job_key,
    own_key,
    queue_key,
    registry_key,
)
from tests.processes import wait_for
from tests.tails import Hits, stopped, texts, warm

PENDING, QUEUE = own_key("backscroll", "pending"), queue_key("backscroll")
HI = ChatMessage.user("hi")
EARLY = datetime(2001, 2, 3, 4, 5, 6, 789, UTC)
RICH = [
    ChatMessage("tool", "\x00\n, \u2028 \U0001f600", {"a": [1.5, -0.0, 1e300, None, True, 2**63]}),
    ChatMessage.assistant("", author="42", author_name='"Ada"', reply_to="x", tokens=9),
    ChatMessage.user("said long ago", created_at=EARLY, content_type="text"),
    ChatMessage.user("],\n[", role_name="\\n"),
]


@pytest.fixture
def said(working_on_each: Any, producer: Producer, hits: Hits) -> Any:
    """The worker, after a message of a session that has a tail."""
    producer.append("s", ChatMessage.user("first"), ack="stored")
    warm(producer, hits, "s")
    return working_on_each


def test_a_read_after_a_write_needs_no_worker(said: Any, producer: Producer, hits: Hits) -> None:
    with Producer(producer.url, timeout_seconds=0.3) as hasty:
        with stopped(said, producer):
            for message in RICH:
                hasty.append("s", message)
            hasty.append("s", *RICH, session={"name": "n"})
            before = hits.count
            seen = [hasty.load("s", limit) for limit in (None, 50, 9, 8, 3)]
            assert hits.count == before + 5
            with pytest.raises(NotConfirmedError):
                hasty.session("s")
        stored = producer.load("s", include_edits=True)
    assert [each.content for each in stored] == ["first", *[each.content for each in RICH] * 2]
    assert seen == [stored, stored, stored, stored[-8:], stored[-3:]]
    assert getattr(producer.session("s"), "message_count", 0) == 9


def test_others_appends_are_in_it_in_the_order_of_the_queue(said: Any, producer: Producer) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.3) as other:
        for number in range(8):
            (producer if number % 2 else other).append("s", ChatMessage.user(str(number)))
        expected = ["first", *map(str, range(8))]
        assert texts(other.load("s", 50)) == texts(producer.load("s", 50)) == expected
    assert texts(producer.load("s")) == expected


PICTURE = Attachment("image", data=b"x")
requests = Requests(Limits(), "backscroll")

UNSURE: dict[str, Callable[[Producer], Any]] = {
    "a platform id": lambda p: p.append("s", ChatMessage.user("a", platform_id="1")),
    "a dedup key": lambda p: p.append("s", HI, dedup_key="1"),
    "a condition": lambda p: p.append("s", HI, expect_tail="none", ack="queued"),
    "a turn": lambda p: p.append("s", HI, turn_id="none", ack="queued"),
    "an attachment": lambda p: p.append("s", ChatMessage.user("a", attachments=[PICTURE])),
    "a summary": lambda p: p.append("s", ChatMessage.summary("a", upto="x")),
    "a large one": lambda p: p.append("s", ChatMessage.user("x" * 17_000)),
    "sent again": lambda p: p.send(requests.append("s", (HI,))),
    "another write": lambda p: p.rollback("s"),
    "another write before": lambda p: (p.clear("s"), p.append("s", HI)),
    "many": lambda p: [p.append("s", HI) for _ in range(17)],
    "one of any session": lambda p: p.send(requests.rename_agent("a", "b")),
}


@pytest.mark.parametrize("unsure", UNSURE)
def test_what_only_the_worker_can_know_is_left_to_it(
    said: Any, producer: Producer, unsure: str
) -> None:
    with Producer(producer.url, timeout_seconds=0.2) as hasty:
        with stopped(said, producer):
            UNSURE[unsure](hasty)
            hasty.append("s", HI)
            with pytest.raises(NotConfirmedError):
                hasty.load("s", 50)
        assert producer.load("s", 50) == [*producer.load("s", 50, oldest=True, include_edits=True)]


def test_a_session_that_is_closed_shows_nothing_that_waits(
    said: Any, producer: Producer, hits: Hits
) -> None:
    producer.close_session("s", ack="stored")
    warm(producer, hits, "s")
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        assert texts(hasty.load("s", 50)) == ["first"]
        hasty.append("s", HI)
        with pytest.raises(NotConfirmedError):
            hasty.load("s", 50)
    assert texts(producer.load("s", 50)) == ["first"]


LATE: dict[str, Callable[[Producer], Any]] = {
    "erased": lambda p: p.erase(key="s"),
    "its author erased": lambda p: p.erase(author="42"),
    "renamed": lambda p: (p.rename("s", "t"), p.append("s", HI, ack="stored")),
}


@pytest.mark.parametrize("late", LATE)
def test_what_a_slow_clock_says_is_left_to_the_worker(
    said: Any, producer: Producer, hits: Hits, late: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    LATE[late](producer)
    producer.describe("s", name="n", ack="stored")
    warm(producer, hits, "s")
    message = ChatMessage.user("late", author="42")
    now = time.time_ns
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        hasty.append("s", message)
        assert "late" in texts(hasty.load("s", 50))
        monkeypatch.setattr(time, "time_ns", lambda: now() - 3600 * 10**9)
        hasty.append("s", message)
        with pytest.raises(NotConfirmedError):
            hasty.load("s", 50)
    assert texts(producer.load("s", 50)).count("late") == 1


def test_a_job_that_failed_or_is_gone_is_not_in_it(
    said: Any, producer: Producer, client: redis.Redis
) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        receipts = [hasty.append("s", ChatMessage.user(text)) for text in "ab"]
        key = job_key(receipts[0].op_id)
        client.hset(key, "status", "failed")
        with pytest.raises(NotConfirmedError):
            hasty.load("s", 50)
        client.delete(key)
        with pytest.raises(NotConfirmedError):
            hasty.load("s", 50)
    assert texts(producer.load("s", 50)) == ["first", "b"]


def test_what_was_on_a_queue_emptied_by_hand_is_not_in_it(
    said: Any, producer: Producer, client: redis.Redis
) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        hasty.append("s", HI)
        client.delete(QUEUE)
        hasty.append("s", ChatMessage.user("later"))
        with pytest.raises(NotConfirmedError):
            hasty.load("s", 50)
    assert texts(producer.load("s", 50)) == ["first", "later"]


def test_a_job_that_was_requeued_is_not_in_its_former_place(
    said: Any, producer: Producer, client: redis.Redis
) -> None:
    with stopped(said, producer), Producer(producer.url, timeout_seconds=0.2) as hasty:
        op_id = hasty.append("s", ChatMessage.user("a")).op_id
        client.lrem(QUEUE, 1, op_id)  # it fails
        client.hset(job_key(op_id), "status", "failed")
        client.zadd(registry_key("failed", "backscroll"), {op_id: time.time() + 60})
        hasty.append("s", ChatMessage.user("b"))
        FailedJobRegistry("backscroll", client, serializer=OrjsonSerializer).requeue(op_id)
        with pytest.raises(NotConfirmedError):
            hasty.load("s", 50)
    assert texts(producer.load("s", 50)) == ["first", "b", "a"]


@pytest.mark.parametrize(("old", "new"), [("{", '{"newer":1,'), ("jobs.append", "jobs.clear")])
def test_what_waits_and_cannot_be_read_is_left_to_the_worker(
    said: Any, producer: Producer, client: redis.Redis, old: str, new: str
) -> None:
    """It may be of a newer producer, and the worker newer, too."""

    async def load() -> list[str]:
        async with AsyncProducer(producer.url) as history:
            return texts(await history.load("s", 50))

    with ThreadPoolExecutor() as pool:
        with stopped(said, producer):
            op_id = producer.append("s", HI).op_id
            data: Any = client.hget(job_key(op_id), "data")
            client.hset(job_key(op_id), "data", data.replace(old.encode(), new.encode(), 1))
            reading = pool.submit(producer.load, "s", 50), pool.submit(asyncio.run, load())
            wait_for(lambda: client.llen(QUEUE) == 3, "both reads to be queued")
            client.hset(job_key(op_id), "data", data)  # as a worker that can read it has it
        assert texts(reading[0].result()) == reading[1].result() == ["first", "hi"]


@pytest.mark.usefixtures("said")
def test_a_tail_grows_with_what_is_said(
    producer: Producer, client: redis.Redis, hits: Hits
) -> None:
    """A worker does not read it anew each time; pops and infos are right in between."""
    rng, expected = random.Random(time.time_ns()), ["first"]
    for number in range(60):
        expected.append(str(number))
        ack: Any = rng.choice(["stored", "queued"])
        producer.append("s", ChatMessage.user(expected[-1]), ack=ack)
        assert texts(producer.load("s", 20)) == expected[-20:]
        if number % 20 == 19:
            wait_for(lambda: not client.exists(PENDING), "all to be done")
            assert texts(producer.pop("s", 2)) == expected[-2:]
            del expected[-2:]
            warm(producer, hits, "s")
    assert hits.count > 60
    assert getattr(producer.session("s"), "message_count", 0) == len(expected)
    assert texts(producer.load("s", include_edits=True)) == expected


@pytest.mark.usefixtures("said")
def test_a_message_that_was_edited_before_it_came_is_read_as_edited(
    producer: Producer, hits: Hits
) -> None:
    producer.replace("s", ChatMessage.user("edited"), platform_id="7", ack="stored")
    warm(producer, hits, "s")
    producer.append("s", ChatMessage.user("a", platform_id="7"), ack="stored")
    warm(producer, hits, "s")
    assert texts(producer.load("s", 50)) == ["first", "edited"]


def test_nothing_is_left_marked(said: Any, producer: Producer, client: redis.Redis) -> None:
    for number in range(100):
        producer.append("s" if number % 3 else "t", HI)
        if not number % 10:
            producer.load("s", 50)
    wait_for(lambda: not client.exists(PENDING), "all to be done")
    assert len(producer.load("s", 100)) == 67
