"""Sessions of the OpenAI Agents SDK: what their own tests, see tests/peers, do not ask."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from agents import Session
from hypothesis import given, settings
from hypothesis import strategies as st

from backscroll import ChatMessage, InvalidInputError, connect_async
from backscroll.contract.message_checks import Limits, check_messages
from backscroll.integrations.openai_agents import BackscrollSession
from backscroll.integrations.openai_items import item_of, message_of
from tests.budget import tries

pytestmark = pytest.mark.slow

CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "fares",
    "arguments": '{"to":"Berlin"}',
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "39 EUR"}
SAID = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "It is 39 EUR.", "annotations": []}],
}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]}
PICTURE = {
    "role": "user",
    "content": [
        {"type": "input_text", "text": "How much"},
        {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
        {"type": "input_text", "text": "is this?"},
    ],
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "role": JSON | st.sampled_from(["user", "assistant"]),
        "content": JSON | st.lists(st.fixed_dictionaries({"type": TEXT, "text": TEXT}), max_size=2),
        "output": JSON,
        "type": JSON | st.sampled_from(["message", "function_call", "function_call_output"]),
        "call_id": JSON,
        "text_at": JSON,
        "openai_agents": JSON,
    },
)


@settings(max_examples=tries(60, 5_000))
@given(ITEMS)
def test_any_item_comes_back_equal(item: dict[str, Any]) -> None:
    message = message_of(item, author="42")
    check_messages([message], Limits())
    stored = ChatMessage.from_dict(json.loads(json.dumps(message.to_dict())))
    assert item_of(stored) == item


@pytest.mark.parametrize(
    ("item", "role", "content"),
    [
        ({"role": "user", "content": "Fares?"}, "user", "Fares?"),
        ({"role": "developer", "content": "Be kind."}, "developer", "Be kind."),
        (CALL, "assistant", ""),
        (RESULT, "tool", "39 EUR"),
        (SAID, "assistant", "It is 39 EUR."),
        (THOUGHT, "assistant", ""),
        (PICTURE, "user", "How much\nis this?"),
    ],
)
def test_an_item_says_what_it_says(item: dict[str, Any], role: str, content: str) -> None:
    message = message_of(item, author="42", author_name="Ada")
    assert (message.role, message.content) == (role, content)
    assert message.author == ("42" if role == "user" else None)
    if content and item is not PICTURE:
        assert content not in json.dumps(message.extra)  # it is kept once


def test_what_is_no_item_is_refused_before_it_is_sent() -> None:
    with pytest.raises(InvalidInputError, match="items"):
        message_of("hello")


def test_over_a_lenient_history_what_is_no_json_comes_back_equal(tmp_path: Path) -> None:
    url = f"data:image/png;base64,{base64.b64encode(bytes(1_500_000)).decode()}"
    look = {"type": "input_text", "text": "look \ud83d"}
    image = {"type": "input_image", "image_url": url}
    items: list[Any] = [
        {"role": "user", "content": [look, image]},
        {"role": "assistant", "content": "cut \ud83d"},
        {**CALL, "arguments": "\ude00", "number": 10**40, "mean": float("inf")},
    ]

    async def converse() -> None:
        async with connect_async(f"sqlite://{tmp_path}/chat.db", lenient=True) as history:
            session: Session = BackscrollSession("7", history)
            await session.add_items(items)
            assert await session.get_items() == items
            assert [await session.pop_item() for _ in items] == items[::-1]

    asyncio.run(converse())


def test_a_session_is_read_as_any_other(tmp_path: Path) -> None:
    """By the calls of a producer: legal, searchable, with attributes, and written to by others."""

    async def converse() -> None:
        async with connect_async(f"sqlite://{tmp_path}/chat.db") as history:
            session: Session = BackscrollSession(
                "7", history, prefix="web/", author="42", attributes={"channel": "web"}
            )
            items: list[Any] = [{"role": "user", "content": "Fares?"}, CALL, RESULT, SAID]
            await session.add_items(items)
            assert await session.get_items() == items
            assert await session.get_items(limit=2) == items[2:]
            legal = await history.load("web/7", 2, legal=True)
            assert [message.content for message in legal] == ["It is 39 EUR."]
            assert not (await history.load("web/7", 3, legal=True)).open_calls
            (info,) = await history.sessions(channel="web", author="42")
            assert info.key == "web/7"
            assert (await history.search("eur", role="tool"))[0].message.content == "39 EUR"

            await history.append("web/7", ChatMessage.user("Thanks", author="43"))
            assert await session.pop_item() == {"role": "user", "content": "Thanks"}
            await session.clear_session()
            assert await session.pop_item() is None
            assert (await history.session("web/7")).channel == "web"  # type: ignore[union-attr]

    asyncio.run(converse())


def test_who_pop_and_add_at_once_share_the_items(tmp_path: Path) -> None:
    """Each item is popped once, and none is that is older than one whose add has returned."""
    url = f"sqlite://{tmp_path}/chat.db"
    session = BackscrollSession("crowd", url)
    popped: list[int] = []

    async def add() -> None:
        for number in range(10):
            await session.add_items([{"role": "user", "content": str(number)}])
            item: Any = await session.pop_item()
            if item is not None:
                popped.append(int(item["content"]))

    async def crowd() -> list[Any]:
        await asyncio.gather(*(add() for _ in range(5)))
        return await session.get_items()

    left = asyncio.run(crowd())  # and another loop
    assert len(popped) + len(left) == 50
    assert asyncio.run(session.get_items()) == left

    async def alone() -> None:
        for number in range(3):
            await session.add_items([{"role": "user", "content": f"last {number}"}])
            item: Any = await session.pop_item()
            assert item["content"] == f"last {number}"

    asyncio.run(alone())


def test_a_cancelled_call_ends_when_its_outcome_is_known(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/chat.db"

    async def cancelled() -> None:
        session = BackscrollSession("hasty", url)
        for number in range(20):
            adding = asyncio.create_task(
                session.add_items([{"role": "user", "content": str(number)}])
            )
            await asyncio.sleep(0)
            adding.cancel()
            await asyncio.sleep(0)
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
            assert len(await session.get_items()) == number + 1

    asyncio.run(cancelled())


def test_items_are_replaced_only_if_nothing_came_meanwhile(tmp_path: Path) -> None:
    async def replace() -> None:
        async with connect_async(f"sqlite://{tmp_path}/chat.db") as history:
            session = BackscrollSession("long", history)
            items: list[Any] = [{"role": "user", "content": str(n)} for n in range(620)]
            old = items[:510]
            await session.add_items(items)
            snapshot = await session._get_compaction_snapshot(2, prune_prefix=old.__contains__)
            assert snapshot is not None
            assert snapshot.items == items[-2:]
            assert not snapshot.complete
            await session.add_items([{"role": "user", "content": "620"}])
            assert not await snapshot.replace_suffix(0, [])
            assert len(await session.get_items()) == 621

            assert await session.pop_item() is not None
            summary: Any = {"role": "user", "content": "620"}
            assert await snapshot.replace_suffix(1, [summary])
            assert await session.get_items() == [*items[len(old) : -1], summary]

    asyncio.run(replace())
