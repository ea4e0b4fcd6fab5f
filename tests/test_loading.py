"""The history that a model gets, through the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    FoundMessage,
    InvalidInputError,
    LoadedMessages,
    Producer,
)
from backscroll_worker.settings import Settings
from tests.processes import running_worker

CALL = ChatMessage.assistant("", tool_calls=[{"id": "c1"}])
RESULT = ChatMessage.tool("3", tool_call_id="c1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, _server: str) -> Iterator[str]:
    """A worker for all tests here, each of which has sessions of its own."""
    path = tmp_path_factory.mktemp("loading")
    settings = Settings(redis_url=_server, data_dir=path, store=f"sqlite://{path}/x.db")
    with redis.Redis.from_url(_server) as client:
        client.flushall()
        with running_worker(settings, client, path / "worker.log"):
            yield _server


def said(messages: LoadedMessages) -> str:
    return "".join(message.content for message in messages)


def test_both_producers_load_what_is_legal_and_fits(served: str) -> None:
    async def load_on_asyncio() -> list[LoadedMessages]:
        async with AsyncProducer(served, timeout_seconds=60) as history:
            return [
                await history.load("both", 2, legal=True),
                await history.load("both", max_tokens=9, count_tokens=lambda _: 3),
            ]

    async def get_on_asyncio(id_: str) -> tuple[FoundMessage | None, str]:
        async with AsyncProducer(served, timeout_seconds=60) as history:
            return await history.get(id_), history.message_id("both", "d")

    with Producer(served, timeout_seconds=60) as history:
        ids = history.append("both", ChatMessage.user("a"), CALL, RESULT, CALL).message_ids
        assert said(history.load("both", 2, legal=True)) == ""
        legal = history.load("both", legal=True)
        assert (said(legal), legal.open_calls) == ("a3", ("c1",))
        counted = history.load("both", max_tokens=9, count_tokens=lambda _: 3)
        assert [message.message_id for message in counted] == list(ids[1:])
        assert said(history.load("both", 1, oldest=True)) == "a"
        found = history.get(ids[0])
        assert found == FoundMessage("both", history.load("both", 1, oldest=True)[0])
        assert asyncio.run(get_on_asyncio(ids[0])) == (found, history.message_id("both", "d"))
        assert history.get(history.message_id("both", "d")) is None
        with Producer(served, "elsewhere") as other:
            assert other.message_id("both", "d") != history.message_id("both", "d")
        assert asyncio.run(load_on_asyncio()) == [history.load("both", 2, legal=True), counted]


def test_many_messages_are_counted_by_the_adapter(served: str) -> None:
    with Producer(served, timeout_seconds=60) as history:
        ids = history.append("many", *[ChatMessage.user("x")] * 300).message_ids
        counted = history.load("many", max_tokens=500, count_tokens=lambda _: 2)
        assert [message.message_id for message in counted] == list(ids[50:])
        with pytest.raises(InvalidInputError, match="needs max_tokens"):
            history.load("many", count_tokens=lambda _: 2)
