"""The README's adapter and the code in docs/, run as they stand there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis

from backscroll import ChatMessage, Producer, SearchFilter
from backscroll_worker.settings import Settings
from tests.processes import running_worker

ROOT = Path(__file__).parent.parent


def python_blocks(document: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


(CODE,) = python_blocks("README.md")

_CHATS = count(1)

Said = Callable[[list[Any]], str]


class AssistantFailed(Exception):  # noqa: N818 - it stands for a model's error
    pass


class Cancelled(Exception):  # noqa: N818 - it stands for asyncio's
    """What a test's assistant or platform raises to have the adapter's task cancelled there."""


class Bot:
    """Runs the README's `main` with updates and an assistant of ours, in front of a worker."""

    def __init__(self, producer: Producer, chat_id: int) -> None:
        self.producer = producer
        self.chat_id = chat_id
        self.sent: list[str] = []

    def run(self, *updates: tuple[int, str], assistant: Said, send: Said = lambda _: "") -> None:
        names = {
            "ask_assistant": lambda history: _or_cancelled(assistant, history),
            "send": lambda _, text: _or_cancelled(self._send(send), text),
            "run_bot": lambda on_message, history: self._deliver(updates, on_message, history),
        }
        code = CODE.replace("redis://localhost:6379/0", self.producer.url)
        exec(code, names)  # noqa: S102 - it is our README

    def die_over(self, message_id: int, text: str) -> None:
        """What an adapter leaves behind that is killed while the model thinks."""
        asked = ChatMessage.user(text, author="ann", platform_id=str(message_id))
        self.producer.begin_turn(self.key, asked, lease_seconds=0.1)

    @property
    def key(self) -> str:
        return f"telegram_{self.chat_id}"

    def stored(self) -> list[str]:
        return [message.content for message in self.producer.load(self.key)]

    def _send(self, send: Said) -> Said:
        def sends(text: Any) -> str:
            send(text)
            self.sent.append(text)
            return ""

        return sends

    async def _deliver(self, updates: Any, on_message: Any, history: Any) -> None:
        for update_id, text in updates:
            with suppress(asyncio.CancelledError, AssistantFailed):
                await asyncio.create_task(on_message(history, self.chat_id, "ann", update_id, text))


async def _or_cancelled(call: Said, argument: Any) -> str:
    try:
        return call(argument)
    except Cancelled:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(60)
        raise


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, _server: str) -> Iterator[str]:
    """A worker for all tests here, each of which has a chat of its own."""
    path = tmp_path_factory.mktemp("readme")
    settings = Settings(redis_url=_server, data_dir=path, store=f"sqlite://{path}/x.db")
    with redis.Redis.from_url(_server) as client:
        client.flushall()
        with running_worker(settings, client, path / "worker.log", BACKSCROLL_KEEP_EDITS="1"):
            yield _server


@pytest.fixture
def bot(served: str) -> Iterator[Bot]:
    with Producer(served, timeout_seconds=60) as producer:
        yield Bot(producer, next(_CHATS))


def once(outcome: type[Exception]) -> Said:
    """Fails so the first time it is called; then it answers."""
    answers: Iterator[Any] = iter([outcome])

    def say(_argument: Any) -> str:
        for failure in answers:
            raise failure
        return "hello"

    return say


def test_it_remembers_a_conversation(bot: Bot) -> None:
    bot.run((1, "hi"), (2, "bye"), assistant=lambda history: f"you said {history[-1].content}")
    assert bot.stored() == ["hi", "you said hi", "bye", "you said bye"]
    assert bot.sent == ["you said hi", "you said bye"]


def test_an_update_that_is_delivered_again_changes_nothing(bot: Bot) -> None:
    bot.run((1, "hi"), (1, "hi"), (2, "bye"), (1, "hi"), assistant=lambda _: "hello")
    assert bot.stored() == ["hi", "hello", "bye", "hello"]
    assert bot.sent == ["hello", "hello"]


def test_a_turn_that_failed_is_taken_back(bot: Bot) -> None:
    def assistant(history: list[Any]) -> str:
        if history[-1].content == "boom":
            raise AssistantFailed
        return "hello"

    bot.run((1, "hi"), (2, "boom"), (2, "boom"), (3, "hi again"), assistant=assistant)
    assert bot.stored() == ["hi", "hello", "hi again", "hello"]
    assert bot.sent == ["hello", "hello"]


@pytest.mark.parametrize("outcome", [Cancelled, AssistantFailed])
def test_an_update_that_was_not_answered_is_when_it_comes_again(bot: Bot, outcome: Any) -> None:
    bot.run((1, "hi"), (1, "hi"), (1, "hi"), assistant=once(outcome))
    assert bot.stored() == ["hi", "hello"]
    assert bot.sent == ["hello"]


def test_an_update_whose_adapter_died_is_answered_after_others_were(bot: Bot) -> None:
    bot.die_over(1, "hi")
    others = [ChatMessage.user(f"other {number}") for number in range(60)]
    bot.producer.append(bot.key, *others)
    bot.run((2, "you there?"), (1, "hi"), (1, "hi"), (2, "you there?"), assistant=lambda _: "yes")
    assert [*bot.stored()[:1], *bot.stored()[61:]] == ["hi", "you there?", "yes", "yes"]
    assert bot.sent == ["yes", "yes"]


def test_an_update_is_answered_though_it_was_cancelled_while_it_was_sent(bot: Bot) -> None:
    bot.run((1, "hi"), (1, "hi"), assistant=lambda _: "hello", send=once(Cancelled))
    assert bot.stored() == ["hi", "hello"]
    assert bot.sent == ["hello"]


def test_its_sessions_are_found_by_channel_and_erased_by_sender_each_time(bot: Bot) -> None:
    bot.producer.erase(sender="ann")
    for number in range(2):
        bot.run((number, "hi"), assistant=lambda _: "hello")
        (session,) = bot.producer.sessions(channel="telegram")
        assert session.key == f"telegram_{bot.chat_id}"
        receipt = bot.producer.erase(sender="ann")
        assert (receipt.sessions, receipt.messages) == (1, 2)
        assert bot.stored() == []


def test_the_code_of_the_search_page_finds_a_message(served: str) -> None:
    with Producer(served, timeout_seconds=20) as producer:
        message = ChatMessage.user("The train to Berlin: two tickets")
        producer.append("trip", message, session={"channel": "telegram"}, ack="stored")
        names: dict[str, Any] = {"producer": producer, "SearchFilter": SearchFilter}
        for code in python_blocks("docs/search.md"):
            exec(code, names)  # noqa: S102 - it is our document
    assert names["hit"].key == "trip"


def test_the_code_of_the_formats_page_shows_an_earlier_version(
    served: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Producer(served, timeout_seconds=20) as producer:
        producer.append("telegram_user123", ChatMessage.user("hi"))
        producer.replace("telegram_user123", ChatMessage.user("hello"), ack="stored")
        (code,) = python_blocks("docs/formats.md")
        exec(code, {"history": producer})  # noqa: S102 - it is our document
    assert capsys.readouterr().out.endswith(" hi\n")
