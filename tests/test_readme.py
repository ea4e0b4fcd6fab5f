"""The README's adapter, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis

from producer import Producer
from tests.processes import running_worker
from worker.settings import Settings

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture
def adapter(settings: Settings, tmp_path: Path) -> Any:
    """Runs the README's `main` with updates and an assistant of ours; what was sent, and stored."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    url = settings.redis_url or ""
    code = code.replace("redis://localhost:6379/0", url)

    def run(updates: list[tuple[int, str]], assistant: Any) -> SimpleNamespace:
        sent: list[str] = []

        class AssistantFailed(Exception):  # noqa: N818 - the README's name
            pass

        async def ask_assistant(history: list[Any]) -> str:
            return str(assistant(history, AssistantFailed))

        async def send(_chat_id: int, text: str) -> None:
            sent.append(text)

        async def run_bot(on_message: Any, history: Any) -> None:
            for update_id, text in updates:
                await on_message(history, 7, update_id, text)

        names = {
            "AssistantFailed": AssistantFailed,
            "ask_assistant": ask_assistant,
            "send": send,
            "run_bot": run_bot,
        }
        with (
            redis.Redis.from_url(url) as client,
            running_worker(settings, client, tmp_path / "worker.log"),
            Producer(url) as producer,
        ):
            exec(f"{code}\nasyncio.run(main())", names)  # noqa: S102 - it is our README
            stored = [message.content for message in producer.load("telegram_7")]
        return SimpleNamespace(sent=sent, stored=stored)

    return run


def test_it_remembers_a_conversation(adapter: Any) -> None:
    ran = adapter([(1, "hi"), (2, "bye")], lambda history, _: f"you said {history[-1].content}")
    assert ran.stored == ["hi", "you said hi", "bye", "you said bye"]
    assert ran.sent == ["you said hi", "you said bye"]


def test_an_update_that_is_delivered_again_changes_nothing(adapter: Any) -> None:
    ran = adapter([(1, "hi"), (1, "hi")], lambda *_: "hello")
    assert ran.stored == ["hi", "hello"]
    assert ran.sent == ["hello"]


def test_a_turn_that_failed_is_taken_back(adapter: Any) -> None:
    def assistant(history: list[Any], failure: type[Exception]) -> str:
        if history[-1].content == "boom":
            raise failure
        return "hello"

    ran = adapter([(1, "hi"), (2, "boom"), (3, "hi again")], assistant)
    assert ran.stored == ["hi", "hello", "hi again", "hello"]
