"""What others test their programs with: `backscroll.testing` and its fixtures."""

from __future__ import annotations

import asyncio
import gc
import inspect
from pathlib import Path

import pytest

from backscroll import AsyncProducer, ChatMessage, ConflictError, Producer, connect
from backscroll.testing import AsyncInMemoryProducer, InMemoryProducer
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
