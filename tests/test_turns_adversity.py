"""Turns where something goes wrong, or not as the one who wrote the adapter has thought."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import (
    ChatMessage,
    ConflictError,
    InvalidInputError,
    NotConfirmedError,
    Producer,
)
from backscroll.contract.messages import SessionInfo
from backscroll_worker.settings import Settings
from tests.processes import running_worker

HI = ChatMessage.user("hi")


@pytest.fixture
def worker(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with running_worker(settings, client, tmp_path / "worker.log") as process:
        yield process


@pytest.fixture
def producer(settings: Settings, worker: subprocess.Popen[bytes]) -> Iterator[Producer]:
    assert worker.poll() is None
    with Producer(settings.redis_url) as made:
        yield made


def said(producer: Producer) -> list[str]:
    return [message.content for message in producer.load("s")]


def test_a_reply_whose_first_write_failed_is_written_at_the_end(
    settings: Settings, worker: subprocess.Popen[bytes], producer: Producer
) -> None:
    with (
        Producer(settings.redis_url, timeout_seconds=0.5) as hurried,
        hurried.turn("s", HI, every_seconds=0) as turn,
    ):
        os.kill(worker.pid, signal.SIGSTOP)
        for text in ("he", "hell"):
            with pytest.raises(NotConfirmedError):
                turn.stream(text)
        producer.append("s", ChatMessage.user("meanwhile"))
        os.kill(worker.pid, signal.SIGCONT)
        turn.stream("hello")
    assert said(producer) == ["hi", "hello", "meanwhile"]


def test_a_turn_has_the_history_that_a_model_takes(producer: Producer) -> None:
    call = ChatMessage.assistant("", tool_calls=[{"id": "c"}])
    producer.append("s", call, ChatMessage.tool("42", tool_call_id="c"))
    with producer.turn("s", HI, limit=2) as turn:
        assert [message.content for message in turn.history] == ["hi"]
    (last,) = producer.append("s", HI).message_ids
    producer.append("s", ChatMessage.summary("in short", upto=last))
    with producer.turn("s", ChatMessage.user("and?")) as turn:
        assert [message.content for message in turn.history] == ["in short", "and?"]


def test_a_turn_may_answer_what_was_said_before(producer: Producer) -> None:
    asked = producer.append("s", HI, ChatMessage.assistant("no"), ack="stored").message_ids[0]
    producer.rewind("s", to=asked)
    with producer.turn("s") as turn:
        assert [message.content for message in turn.history] == ["hi"]
        assert not turn.is_repeated
        turn.reply("yes")
    with pytest.raises(RuntimeError), producer.turn("s"):
        raise RuntimeError
    assert said(producer) == ["hi", "yes"]


@pytest.mark.usefixtures("worker")
def test_a_message_that_two_replicas_get_is_answered_once(settings: Settings) -> None:
    question = ChatMessage.user("hi", platform_id="17")
    with Producer(settings.redis_url) as producer, Producer(settings.redis_url) as replica:
        with producer.turn("s", question) as turn:
            assert not turn.is_repeated
            turn.reply("hello")
        with replica.turn("s", question) as turn:
            assert turn.is_repeated
        assert said(producer) == ["hi", "hello"]


@pytest.mark.parametrize(
    "given",
    [
        {"limit": 0},
        {"every_seconds": "soon"},
        {"every_seconds": -1},
        {"lease_seconds": 0},
        {"running": "later"},
    ],
)
def test_a_turn_with_wrong_arguments_writes_nothing(given: Any, producer: Producer) -> None:
    with pytest.raises(InvalidInputError, match=next(iter(given))):
        producer.turn("s", HI, **given)
    assert producer.session("s") is None


def test_a_turn_is_for_one_block(producer: Producer) -> None:
    turn = producer.turn("s", HI)
    with turn:
        turn.reply("hello")
    with pytest.raises(InvalidInputError, match="another"), turn:
        raise AssertionError("it began again")
    assert said(producer) == ["hi", "hello"]


def test_a_conflict_says_which_condition_did_not_hold(producer: Producer) -> None:
    turn = producer.begin_turn("s", HI)
    refusals: tuple[tuple[str, Callable[[], object]], ...] = (
        ("another turn", lambda: producer.begin_turn("s", HI)),
        ("superseded", lambda: producer.end_turn("s", "other", ack="stored")),
        ("expect_tail", lambda: producer.append("s", HI, expect_tail="")),
        ("version 3", lambda: producer.set_state("s", 1, expect=3)),
    )
    for match, refused in refusals:
        with pytest.raises(ConflictError, match=match) as caught:
            refused()
        assert caught.value.operation.key == "s"
        with pytest.raises(ConflictError, match=match):  # for good
            producer.send(caught.value.operation, ack="stored")
    producer.end_turn("s", turn.op_id, ack="stored")


def test_an_adapter_whose_clock_is_behind_sees_that_a_lease_expired(
    producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backscroll.client_turns._LONGEST_WAIT", 0.3)
    monkeypatch.setattr(SessionInfo, "is_running", property(lambda _: True))
    producer.begin_turn("s", HI, lease_seconds=0.1)
    with producer.turn("s", HI) as turn:
        turn.reply("hello")
    assert said(producer) == ["hi", "hi", "hello"]
