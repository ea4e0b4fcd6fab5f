"""The history of LangChain's older chains: what comes back is equal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages import ChatMessage as RoleMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.runnables.history import RunnableWithMessageHistory

from backscroll import ChatMessage, InvalidInputError
from backscroll.integrations.langchain import BackscrollChatMessageHistory
from backscroll_worker.embedded import Local

pytestmark = pytest.mark.slow

CALL = {"name": "weather", "args": {"place": "Naples", "days": [1, None]}, "id": "c1"}
MESSAGES: list[BaseMessage] = [
    SystemMessage("Be kind."),
    HumanMessage("Weather in Naples?", id="m1", name="Ada"),
    AIMessage("", tool_calls=[CALL], response_metadata={"model": "m"}),
    ToolMessage("sunny", tool_call_id="c1", artifact={"degrees": 20.5}, status="success"),
    AIMessage([{"type": "text", "text": "Sunny."}, {"type": "reasoning", "reasoning": "…"}]),
    HumanMessage([{"type": "text", "text": "And"}, {"type": "text", "text": "this?"},
                  {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]),
    RoleMessage(content="Hello", role="narrator"),
]  # fmt: skip


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    with Local(f"sqlite://{tmp_path}/history") as history:
        yield history


def test_messages_come_back_equal_and_are_searchable(local: Local) -> None:
    chat = BackscrollChatMessageHistory("s", local, prefix="lc_", author="42")
    chat.add_messages(MESSAGES)
    assert chat.messages == MESSAGES
    assert asyncio.run(chat.aget_messages()) == MESSAGES
    (hit,) = local.search("weather naples", author="42")
    assert (hit.key, hit.message.role) == ("lc_s", "user")
    assert [each.role for each in local.load("lc_s")] == [
        "system", "user", "assistant", "tool", "assistant", "user", "narrator",
    ]  # fmt: skip
    assert local.load("lc_s").open_calls == ()
    limited = BackscrollChatMessageHistory("s", local, prefix="lc_", limit=4)
    assert limited.messages == MESSAGES[4:]


def test_a_chain_goes_on_and_may_replace_what_was_said(local: Local) -> None:
    def counted(messages: list[BaseMessage]) -> AIMessage:
        return AIMessage(f"{len(messages)} messages")

    answer: Any = RunnableLambda(counted)
    chain = RunnableWithMessageHistory(
        answer, lambda session_id: BackscrollChatMessageHistory(session_id, local)
    )
    config: Any = {"configurable": {"session_id": "s"}}
    assert chain.invoke([HumanMessage("one")], config).content == "1 messages"
    assert chain.invoke([HumanMessage("two")], config).content == "3 messages"
    chat = BackscrollChatMessageHistory("s", local)
    last = chat.messages[-2:]
    chat.clear()
    chat.add_messages(last)
    assert chat.messages == last
    asyncio.run(chat.aclear())
    assert chat.messages == []


class Odd(BaseMessage):
    type: str = "odd"


def test_what_others_wrote_is_read_and_what_cannot_be_is_refused(local: Local) -> None:
    for role in ("user", "assistant", "system", "tool"):
        local.append("s", ChatMessage(role, f"by a {role}"))
    chat = BackscrollChatMessageHistory("s", local)
    assert [each.type for each in chat.messages] == ["human", "ai", "system", "chat"]
    with pytest.raises(InvalidInputError):
        chat.add_messages([HumanMessage("kept with it"), Odd(content="no")])
    chat.add_messages([])
    assert len(chat.messages) == 4
