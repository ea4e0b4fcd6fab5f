"""Turns as adapters have them: by both producers, beside a real worker, and embedded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    AsyncProducer,
    ChatMessage,
    ConflictError,
    InvalidInputError,
    NotConfirmedError,
    Producer,
)
from backscroll.client_chat_history import ChatHistory
from backscroll_worker.embedded import Local
from backscroll_worker.settings import Settings
from tests.processes import contents, running_worker

HI = ChatMessage.user("hi")


BESIDE_A_WORKER = pytest.mark.parametrize("producer", ["queue"], indirect=True)


@pytest.fixture(params=["queue", "local"])
def producer(
    request: pytest.FixtureRequest, settings: Settings, client: redis.Redis, tmp_path: Path
) -> Iterator[ChatHistory]:
    if request.param == "local":
        with Local(settings.store) as local:
            yield local
        return
    log = tmp_path / "worker.log"
    with running_worker(settings, client, log), Producer(settings.redis_url) as made:
        yield made


def state(producer: Producer, key: str = "s") -> str:
    info = producer.session(key)
    assert info is not None
    return info.state


def test_a_turn_is_a_question_a_growing_reply_and_an_end(producer: Producer) -> None:
    producer.append("s", ChatMessage.system("be kind"))
    with producer.turn("s", HI, every_seconds=0.0) as turn:
        assert [message.content for message in turn.history] == ["be kind", "hi"]
        assert state(producer) == "running"
        for text in ("he", "hell", "hello"):
            turn.stream(text)
            assert producer.load("s")[-1].content == text
    assert state(producer) == "idle"
    assert [message.content for message in producer.load("s")] == ["be kind", "hi", "hello"]


def test_what_was_held_back_is_written_at_the_end(producer: Producer) -> None:
    with producer.turn("s", HI, every_seconds=1_000) as turn:
        for text in ("h", "he", "hello"):
            turn.stream(text, tokens=len(text))
        assert producer.load("s")[-1].content == "h"
        turn.append(ChatMessage.tool("42"))
        turn.reply("and more")
        turn.stream("last")
    said = producer.load("s")
    assert [message.content for message in said] == ["hi", "hello", "42", "and more", "last"]
    assert said[1].tokens == 5


def test_a_failed_turn_takes_back_its_own_and_raises_what_was_raised(producer: Producer) -> None:
    def fail() -> None:
        with producer.turn("s", HI) as turn:
            turn.stream("part of")
            producer.append("s", ChatMessage.user("meanwhile"))
            turn.append(ChatMessage.tool("x"))
            raise RuntimeError("the model failed")

    producer.append("s", ChatMessage.user("before"))
    with pytest.raises(RuntimeError, match="the model failed"):
        fail()
    assert [message.content for message in producer.load("s")] == ["before", "meanwhile"]
    assert state(producer) == "error"
    with producer.turn("s", HI):
        assert state(producer) == "running"


def test_a_second_turn_is_refused_or_supersedes(producer: Producer) -> None:
    first = producer.turn("s", HI)
    first.__enter__()
    with pytest.raises(ConflictError), producer.turn("s", HI, running="refuse"):
        raise AssertionError("it began")
    with producer.turn("s", ChatMessage.user("rather"), running="supersede") as second:
        with pytest.raises(ConflictError):
            first.stream("too late")
        second.reply("this")
    with pytest.raises(ConflictError):
        first.__exit__(None, None, None)
    assert [message.content for message in producer.load("s")] == ["hi", "rather", "this"]
    assert state(producer) == "idle"


@BESIDE_A_WORKER
@pytest.mark.usefixtures("producer")
def test_turns_of_many_tasks_come_one_after_the_other(settings: Settings) -> None:
    async def talk(number: int) -> None:
        async with shared.turn("s", ChatMessage.user(f"q{number}")) as turn:
            await turn.reply(f"a{number}")

    async def all_of_them() -> None:
        await asyncio.gather(*map(talk, range(6)))
        await shared.close()

    shared = AsyncProducer(settings.redis_url)
    asyncio.run(all_of_them())
    said = contents(settings, "s")
    assert [text[1:] for text in said[::2]] == [text[1:] for text in said[1::2]]
    assert sorted(said) == sorted([f"{who}{number}" for who in "aq" for number in range(6)])


@BESIDE_A_WORKER
def test_a_cancelled_turn_frees_its_session(settings: Settings, producer: Producer) -> None:
    async def cancelled() -> None:
        async with (
            AsyncProducer(settings.redis_url) as shared,
            asyncio.timeout(None) as limit,
            shared.turn("s", HI) as turn,
        ):
            await turn.stream("never en")
            limit.reschedule(asyncio.get_running_loop().time())
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(cancelled())
    assert producer.load("s") == []
    assert state(producer) == "error"


@BESIDE_A_WORKER
def test_waiting_for_a_turn_has_an_end(settings: Settings, producer: Producer) -> None:
    producer.describe("s", state="running", ack="stored")
    with Producer(settings.redis_url, timeout_seconds=0.3) as hurried:
        began = time.monotonic()
        with pytest.raises(ConflictError), hurried.turn("s", HI):
            raise AssertionError("it began")
        assert time.monotonic() - began >= 0.3
    assert producer.load("s") == []


def test_a_dead_adapters_turn_is_over_with_its_lease(producer: Producer) -> None:
    dead = producer.turn("s", HI, lease_seconds=0.2)
    dead.__enter__()
    with producer.turn("s", ChatMessage.user("again")) as turn:
        turn.reply("yes")
    with pytest.raises(ConflictError):
        dead.stream("late")
    assert [message.content for message in producer.load("s")] == ["hi", "again", "yes"]


def test_without_a_worker_no_turn_begins(settings: Settings) -> None:
    with (
        Producer(settings.redis_url, timeout_seconds=0.1) as alone,
        pytest.raises(NotConfirmedError),
        alone.turn("s", HI),
    ):
        raise AssertionError("it began")


def test_what_a_turn_does_beside_another_is_one_of_three(settings: Settings) -> None:
    with Producer(settings.redis_url) as producer, pytest.raises(InvalidInputError, match="runn"):
        producer.turn("s", HI, running="later")  # type: ignore[arg-type]


ASKED = ChatMessage.user("hi", platform_id="m1")


def answered(producer: Producer, *asked: ChatMessage, lease_seconds: float = 60.0) -> bool:
    """Whether an adapter that gets these messages answers them."""
    with producer.turn("s", *asked, lease_seconds=lease_seconds) as turn:
        if not turn.is_repeated:
            turn.reply("hello")
        return not turn.is_repeated


def test_a_message_delivered_again_is_answered_once(producer: Producer) -> None:
    more = ChatMessage.user("there?", platform_id="m2")
    assert answered(producer, ASKED)
    assert not answered(producer, ASKED)
    assert answered(producer, ASKED, more)
    for again in ((ASKED,), (more,), (ASKED, more), (more, ASKED)):
        assert not answered(producer, *again)
    assert [message.content for message in producer.load("s")] == ["hi", "hello", "there?", "hello"]
    assert answered(producer, HI)
    assert answered(producer, HI)


def test_a_message_whose_turns_died_is_answered_once(producer: Producer) -> None:
    producer.append("s", ASKED)  # as somebody does who catches up
    for _ in range(2):
        dead = producer.turn("s", ASKED, lease_seconds=0.1)
        dead.__enter__()
        assert not dead.is_repeated
    assert answered(producer, ASKED)
    assert not answered(producer, ASKED)
    with pytest.raises(ConflictError):
        dead.__exit__(None, None, None)
    assert not answered(producer, ASKED)
    assert [message.content for message in producer.load("s")] == ["hi", "hello"]
    assert state(producer) == "idle"


def test_a_turn_that_comes_back_to_life_leaves_its_message_to_another(producer: Producer) -> None:
    frozen = producer.turn("s", ASKED, lease_seconds=0.1)
    frozen.__enter__()
    with producer.turn("s", ASKED) as turn:
        with pytest.raises(ConflictError):
            frozen.__exit__(None, None, None)
        assert not turn.is_repeated
        turn.reply("hello")
    assert not answered(producer, ASKED)


def test_a_message_whose_turn_failed_is_answered_when_it_comes_again(producer: Producer) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError), producer.turn("s", ASKED):
            raise RuntimeError
    assert answered(producer, ASKED)
    assert not answered(producer, ASKED)


def test_a_message_that_was_deleted_is_not_answered(producer: Producer) -> None:
    for name in ("before", "after"):
        if name == "after":
            producer.append("s", ChatMessage.user("x", platform_id=name))
        producer.rollback("s", platform_id=name)
        for _ in range(2):
            assert not answered(producer, ChatMessage.user("x", platform_id=name))
    assert producer.load("s") == []


@BESIDE_A_WORKER
def test_of_two_adapters_with_the_same_message_one_answers(
    settings: Settings, producer: Producer
) -> None:
    async def deliver(adapter: AsyncProducer) -> bool:
        async with adapter.turn("s", ASKED, session={"channel": "x"}) as turn:
            if not turn.is_repeated:
                await turn.reply("hello")
            return not turn.is_repeated

    async def both() -> list[bool]:
        async with AsyncProducer(settings.redis_url) as a, AsyncProducer(settings.redis_url) as b:
            return await asyncio.gather(*map(deliver, (a, b, a, b)))

    assert sorted(asyncio.run(both())) == [False, False, False, True]
    assert [message.content for message in producer.load("s")] == ["hi", "hello"]
    assert [info.key for info in producer.sessions(channel="x")] == ["s"]


def test_a_reply_that_the_platform_delivered_before_is_completed(producer: Producer) -> None:
    reply: dict[str, Any] = {"platform_id": "m2", "author": "bot"}
    with producer.turn("s", ASKED, every_seconds=0.0) as turn:
        producer.append("s", ChatMessage.assistant("he", **reply))
        turn.stream("he", **reply)
        turn.stream("hello")
    assert [message.content for message in producer.load("s")] == ["hi", "hello"]


def test_an_edit_that_is_delivered_again_undoes_no_later_one(producer: Producer) -> None:
    """Also where the first comes before its message, and has the dedup key of that one."""
    edits = [ChatMessage.user(text) for text in ("first", "second")]
    for number in (0, 0, 1, 0, 1, 0):
        producer.replace("s", edits[number], platform_id="m1", dedup_key=f"update {number}")
        producer.append("s", ASKED, dedup_key="update 0")
    assert [message.content for message in producer.load("s")] == ["second"]
