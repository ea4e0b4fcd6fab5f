"""A program that changes to an integration imports its database, and goes on where it was."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

from agents import SQLiteSession
from agents.extensions.memory import AdvancedSQLiteSession
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.messages import messages_to_dict as as_dicts

from backscroll import ChatMessage
from backscroll.integrations.langchain import BackscrollChatMessageHistory
from backscroll.integrations.openai_agents import BackscrollSession
from backscroll_worker.embedded import AsyncLocal, Local
from backscroll_worker.transfer.import_files import import_files
from tests.transfer import chat_samples as samples
from tests.transfer.taking import OPTIONS

ITEMS: Any = [
    {"role": "user", "content": "How much?"},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "This one"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"},
        ],
    },
    {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm"}]},
    {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "t", "output": "39"},
    {"type": "web_search_call", "id": "w", "status": "completed"},
]


def test_items_of_the_agents_sdk_come_back_equal(tmp_path: Path) -> None:
    path, store = tmp_path / "chat.db", f"sqlite://{tmp_path / 'store.db'}"

    async def written() -> None:
        session = SQLiteSession("user-42", path)
        await session.add_items(ITEMS)
        session.close()

    async def read() -> list[Any]:
        async with AsyncLocal(store) as history:
            return list(await BackscrollSession("user-42", history).get_items())

    asyncio.run(written())
    report = import_files([path], store, OPTIONS, lambda _: None)
    assert not report.not_kept
    assert asyncio.run(read()) == ITEMS


def test_branches_of_the_agents_sdk_are_sessions_of_their_own(tmp_path: Path) -> None:
    path, store = tmp_path / "chat.db", f"sqlite://{tmp_path / 'store.db'}"
    turns = [
        [{"role": "user", "content": f"ask {n}"}, {"role": "assistant", "content": f"answer {n}"}]
        for n in range(4)
    ]

    async def written() -> None:
        session = AdvancedSQLiteSession(session_id="trip", db_path=path, create_tables=True)
        for turn in turns[:3]:
            await session.add_items(cast(Any, turn))
        await session.create_branch_from_turn(2, "dearer")
        await session.add_items(cast(Any, turns[3]))
        session.close()
        plain = SQLiteSession("plain", path)
        await plain.add_items(cast(Any, turns[0]))
        plain.close()

    async def read(key: str) -> list[Any]:
        async with AsyncLocal(store) as history:
            return list(await BackscrollSession(key, history).get_items())

    asyncio.run(written())
    for again in (False, True):
        report = import_files([path], store, OPTIONS, lambda _: None)
        assert (report.sessions, report.known) == ((0, 3) if again else (3, 0))
    assert asyncio.run(read("trip")) == [*turns[0], *turns[1], *turns[2]]
    assert asyncio.run(read("trip~dearer")) == [*turns[0], *turns[3]]
    assert asyncio.run(read("plain")) == turns[0]


def test_messages_of_langchain_come_back_equal(tmp_path: Path) -> None:
    said: list[BaseMessage] = [
        HumanMessage("How much?", name="Ada"),
        AIMessage("", tool_calls=[{"id": "t", "name": "f", "args": {"n": 1}}], id="run-1"),
        ToolMessage("39", tool_call_id="t"),
        HumanMessage([{"type": "text", "text": "And"}, {"type": "text", "text": "limes?"}]),
    ]
    path = samples.database("message_store", "message", as_dicts(said))(tmp_path)
    store = f"sqlite://{tmp_path / 'store.db'}"
    import_files([path], store, OPTIONS, lambda _: None)
    with Local(store) as history:
        assert BackscrollChatMessageHistory("s1", history).messages == said
        assert len(history.load("s1", 2, legal=True)) == 1


def test_a_message_that_langchain_cannot_load_is_read_as_its_text(tmp_path: Path) -> None:
    with Local(f"sqlite://{tmp_path / 'store.db'}") as history:
        raw = {"type": "of another program", "data": {"content": "Hello"}}
        history.append("s1", ChatMessage.user("Hello", extra={"langchain": raw}))
        assert BackscrollChatMessageHistory("s1", history).messages == [HumanMessage("Hello")]
