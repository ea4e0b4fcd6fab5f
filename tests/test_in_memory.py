"""What others test their programs with: `backscroll.testing` and its fixtures."""

from __future__ import annotations

import asyncio
import gc
import inspect
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    ConflictError,
    OperationRefusedError,
    Producer,
    Receipt,
    connect,
)
from backscroll.testing import AsyncInMemoryProducer, InMemoryProducer
from backscroll_worker.settings import Settings
from tests.changes import random_change
from tests.processes import running_worker
from tests.test_embedded import calls

pytest_plugins = ["backscroll.pytest_plugin"]

HI = ChatMessage.user("hi")


def place(producer: InMemoryProducer | AsyncInMemoryProducer) -> Path:
    return Path(producer.url.partition("://")[2]).parent


def test_a_fixture_is_a_producer_with_a_history_of_its_own(
    backscroll_producer: InMemoryProducer,
) -> None:
    assert calls(InMemoryProducer) == calls(Producer)
    with InMemoryProducer("redis://nowhere", "q", spool="x", retries=1, redact=str.upper) as other:
        with other.turn("s", HI) as turn:
            turn.reply("ho")
        assert [message.content for message in other.load("s")] == ["HI", "HO"]
        assert backscroll_producer.load("s") == []
        other.cleanup(ttl_hours=0)
        assert other.restore("s").messages == 2
    assert not place(other).exists()
    backscroll_producer.append("s", HI)
    with connect(backscroll_producer.url) as same, pytest.raises(ConflictError):
        same.append("s", HI, expect_tail="")


def test_the_fixture_for_asyncio_works_on_any_loop(
    async_backscroll_producer: AsyncInMemoryProducer,
) -> None:
    assert calls(AsyncInMemoryProducer) == calls(AsyncProducer)
    for count in (1, 2):
        asyncio.run(async_backscroll_producer.append("s", HI))
        assert len(asyncio.run(async_backscroll_producer.load("s"))) == count


def test_one_that_is_not_closed_leaves_nothing(caplog: pytest.LogCaptureFixture) -> None:
    producer = InMemoryProducer()
    producer.append("s", HI)
    left = place(producer)
    del producer
    gc.collect()
    assert not left.exists()
    assert caplog.records == []
    taken = inspect.signature(Producer).parameters.keys() - {"url"}
    assert taken - inspect.signature(InMemoryProducer).parameters.keys() == {
        "max_queue_depth", "retries", "spool", "spool_max_bytes",
    }  # fmt: skip


def outcome(change: Callable[[Any], Any], producer: Any) -> Any:
    """What a caller sees of a change, without ids and times."""
    try:
        answer = change(producer)
    except (ConflictError, OperationRefusedError) as error:
        return type(error)
    if isinstance(answer, Receipt):
        return answer.affected, answer.duplicate, len(answer.message_ids)
    return [said(each) for each in answer] if isinstance(answer, list) else type(answer)


def said(message: ChatMessage) -> Any:
    return message.role, message.content, message.author, message.platform_id


def shown(producer: Any, keys: list[str]) -> Any:
    """All that readers see of the sessions, without ids and times."""
    infos = sorted(producer.sessions(limit=1_000).sessions, key=lambda info: info.created_at)
    return [
        (info.key.partition("~")[0], info.message_count, info.name, info.agent, info.closed)
        for info in infos
    ], [[said(message) for message in producer.load(key, 50)] for key in keys]


def test_it_says_what_a_producer_says_over_a_queue(
    backscroll_producer: InMemoryProducer, settings: Settings, client: redis.Redis, log: Path
) -> None:
    rng, keys = random.Random(time.time_ns()), ["a", "b", "c"]
    with (
        running_worker(settings, client, log),
        Producer(settings.redis_url, ack="stored") as producer,
    ):
        done = []
        for _ in range(120):
            change = random_change(rng, keys)
            done.append(outcome(change, producer))
            assert outcome(change, backscroll_producer) == done[-1], len(done)
            assert shown(backscroll_producer, keys) == shown(producer, keys), len(done)
