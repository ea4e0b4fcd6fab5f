"""The chat store of LlamaIndex, held to its documentation and to its own SQLAlchemyChatStore.

Its source distribution has no tests. `make peers` runs these with its newest version.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from llama_index.core.base.llms.types import (
    ChatMessage,
    CitableBlock,
    ImageBlock,
    MessageRole,
    TextBlock,
    ThinkingBlock,
    ToolCallBlock,
)
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import MockLLM
from llama_index.core.memory import Memory
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus
from llama_index.core.storage.chat_store.sql import SQLAlchemyChatStore

from backscroll import ChatMessage as Message
from backscroll import InvalidInputError
from backscroll.integrations.llama_index import BackscrollChatStore
from backscroll.integrations.llama_index_messages import from_message, to_message
from tests.budget import tries

pytestmark = pytest.mark.slow

ACTIVE, ARCHIVED = MessageStatus.ACTIVE, MessageStatus.ARCHIVED

ASKED = ChatMessage("Fares?")
CALLED = ChatMessage(
    role="assistant",
    blocks=[
        ThinkingBlock(content="Hm."),
        TextBlock(text="Let me look."),
        ToolCallBlock(tool_call_id="c1", tool_name="fares", tool_kwargs={"to": "Berlin"}),
    ],
)
DONE = ChatMessage("39 EUR", role="tool", additional_kwargs={"tool_call_id": "c1"})
SAID = ChatMessage("It is 39 EUR.", role="assistant", additional_kwargs={"n": [1.5, None]})
MESSAGES = [ASKED, CALLED, DONE, SAID]
OTHERS = [
    ChatMessage(
        blocks=[
            TextBlock(text="How much"),
            ImageBlock(image=b"\x89PNG", image_mimetype="image/png"),
            TextBlock(text="is this?"),
        ]
    ),
    ChatMessage(
        role="assistant",
        additional_kwargs={"tool_calls": [{"id": "c2", "type": "function", "function": {}}]},
    ),
    ChatMessage(
        role="chatbot",
        blocks=[CitableBlock(title="t", source="s", content=[TextBlock(text="quoted")])],
    ),
    *(ChatMessage(f"by a {role.value}", role=role) for role in MessageRole),
]


def texts(messages: list[ChatMessage]) -> list[str | None]:
    return [message.content for message in messages]


def words(*said: str) -> list[ChatMessage]:
    return [ChatMessage(text) for text in said]


def test_messages_come_back_in_order_and_equal(history: str, prefix: str) -> None:
    store = BackscrollChatStore(history, prefix=prefix)

    async def converse() -> None:
        assert await store.get_messages("k") == []
        await store.add_message("k", ASKED)
        await store.add_messages("k", [*MESSAGES[1:], *OTHERS])
        await store.add_messages("k", [])
        assert await store.get_messages("k") == [*MESSAGES, *OTHERS]
        assert await store.count_messages("k") == len(MESSAGES) + len(OTHERS)
        assert await store.get_messages("other") == []
        assert await store.count_messages("other", None) == 0

    asyncio.run(converse())


def test_pages_begin_and_end_where_they_should(history: str, prefix: str) -> None:
    store = BackscrollChatStore(history, prefix=prefix)
    said = [str(number) for number in range(1_203)]

    async def page() -> None:
        await store.add_messages("k", words(*said))
        assert texts(await store.get_messages("k")) == said
        assert texts(await store.get_messages("k", limit=0)) == []
        assert texts(await store.get_messages("k", limit=2, offset=600)) == said[600:602]
        assert len(await store.archive_oldest_messages("k", 650)) == 650
        assert texts(await store.get_messages("k", limit=2, offset=1)) == said[651:653]
        assert texts(await store.get_messages("k", ARCHIVED, offset=600)) == said[600:650]
        assert texts(await store.get_messages("k", None)) == said
        with pytest.raises(InvalidInputError, match="limit"):
            await store.get_messages("k", limit=-1)
        with pytest.raises(InvalidInputError, match="offset"):
            await store.get_messages("k", offset=-1)

    asyncio.run(page())


KEYS = st.sampled_from(["a", "b"])
STATUS = st.sampled_from([ACTIVE, ARCHIVED])
NUMBER = st.integers(0, 4)
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("add_message"), KEYS, STATUS),
        st.tuples(st.just("add_messages"), KEYS, STATUS),
        st.tuples(st.just("set_messages"), KEYS, STATUS),
        st.tuples(st.just("delete_messages"), KEYS, STATUS | st.none()),
        st.tuples(st.just("delete_oldest_messages"), KEYS, NUMBER),
        st.tuples(st.just("archive_oldest_messages"), KEYS, NUMBER),
        st.tuples(st.just("get_messages"), KEYS, STATUS | st.none(), NUMBER, NUMBER),
    ),
    min_size=1,
    max_size=12,
)


@tried(max_examples=tries(25, 1_000), deadline=None)
@given(CALLS)
@example(
    [
        ("add_messages", "a", ARCHIVED),
        ("add_messages", "a", ACTIVE),
        ("get_messages", "a", ACTIVE, 1, 1),
        ("archive_oldest_messages", "a", 1),
        ("set_messages", "a", ARCHIVED),
        ("add_message", "a", ACTIVE),
    ]
)
def test_every_call_does_what_it_does_over_sqlalchemy(history: str, calls: list[Any]) -> None:
    ours = BackscrollChatStore(history, prefix=f"{uuid.uuid4().hex}/")

    async def compare() -> None:
        theirs = SQLAlchemyChatStore("messages")
        for number, (name, key, *rest) in enumerate(calls):
            if name == "add_message":
                arguments: list[Any] = [words(str(number))[0], *rest]
            elif name in ("add_messages", "set_messages"):
                arguments = [words(f"{number} first", f"{number} second"), *rest]
            else:
                arguments = rest
            expected = await getattr(theirs, name)(key, *arguments)
            assert await getattr(ours, name)(key, *arguments) == expected
        for key in ("a", "b"):
            for status in (ACTIVE, ARCHIVED, None):
                found = await ours.get_messages(key, status)
                assert found == await theirs.get_messages(key, status)
                assert await ours.count_messages(key, status) == len(found)
        assert sorted(await ours.get_keys()) == sorted(await theirs.get_keys())
        assert theirs._async_engine is not None
        await theirs._async_engine.dispose()

    asyncio.run(compare())


def test_one_message_is_deleted_by_its_number(history: str, prefix: str) -> None:
    store = BackscrollChatStore(history, prefix=prefix)

    async def delete() -> None:
        await store.add_messages("k", words("old", "one", "two", "three"))
        await store.archive_oldest_messages("k", 1)
        assert await store.delete_message("k", 1) == ChatMessage("two")
        assert await store.delete_message("k", 2) is None
        assert await store.delete_message("k", -1) is None
        assert await store.delete_message("none", 0) is None
        assert texts(await store.get_messages("k", None)) == ["old", "one", "three"]

    asyncio.run(delete())


def test_archived_messages_stay_so_when_the_newest_of_them_goes(history: str, prefix: str) -> None:
    store = BackscrollChatStore(history, prefix=prefix)

    async def archive() -> None:
        await store.add_messages("k", words("one", "two"))
        await store.add_messages("k", words("three", "four", "five"))
        assert texts(await store.archive_oldest_messages("k", 4)) == ["one", "two", "three", "four"]
        await store.history.append(store.key("k"), Message.user("by a bot"), dedup_key="1")
        loaded = await store.history.load(store.key("k"))
        await store.history.rollback(store.key("k"), loaded[3].message_id)
        assert texts(await store.get_messages("k")) == ["five", "by a bot"]
        assert texts(await store.get_messages("k", ARCHIVED)) == ["one", "two", "three"]
        assert texts(await store.get_messages("k", limit=1)) == ["five"]
        assert texts(await store.archive_oldest_messages("k", 1)) == ["five"]
        assert texts(await store.get_messages("k")) == ["by a bot"]
        await store.history.fork(store.key("k"), store.key("fork"))
        assert len(await store.get_messages("fork")) == 5
        assert len(await store.get_messages("k", ARCHIVED)) == 4

    asyncio.run(archive())


@pytest.mark.parametrize("name", ["archive_oldest_messages", "delete_oldest_messages"])
def test_who_take_the_oldest_at_once_take_each_once(history: str, prefix: str, name: str) -> None:
    stores = [BackscrollChatStore(history, prefix=prefix) for _ in range(3)]

    async def take() -> None:
        await stores[0].add_messages("k", words(*map(str, range(20))))
        crowd = [getattr(stores[n % 3], name)("k", 1 + n % 3) for n in range(9)]
        added = stores[0].add_messages("k", words("20", "21"))
        *taken, _ = await asyncio.gather(*crowd, added)
        said = [text for each in taken for text in texts(each)]
        left = texts(await stores[0].get_messages("k"))
        assert sorted(said + left, key=lambda each: int(each or -1)) == [str(n) for n in range(22)]
        assert len(said) == len(set(said)) >= 9

    asyncio.run(take())


def test_memory_archives_and_forgets_by_the_store(history: str, prefix: str) -> None:
    store = BackscrollChatStore(history, prefix=prefix)

    def memory() -> Memory:
        return Memory.from_defaults(
            "k", token_limit=100, token_flush_size=20, chat_history_token_ratio=0.5,
            tokenizer_fn=str.split, chat_store=store,
        )  # fmt: skip

    first = memory()
    for number in range(4):
        first.put(ChatMessage(f"question {number} " + "word " * 10))
        first.put(ChatMessage(f"answer {number} " + "word " * 10, role="assistant"))
    active = first.get()
    assert active[0].role == "user"
    assert 0 < len(active) < 8
    assert first.get_all()[-len(active) :] == active
    assert len(first.get_all(MessageStatus.ARCHIVED)) == 8 - len(active)
    again = memory()
    assert again.get() == active
    again.set(words("anew"))
    assert texts(first.get_all()) == ["anew"]
    again.reset()
    assert first.get_all() == []
    assert asyncio.run(store.get_keys()) == []


def test_a_chat_engine_goes_on_after_a_restart(history: str, prefix: str) -> None:
    async def chat(text: str) -> None:
        store = BackscrollChatStore(history, prefix=prefix, author="42")
        memory = Memory.from_defaults("k", chat_store=store)
        engine = SimpleChatEngine.from_defaults(llm=MockLLM(), memory=memory)
        await engine.achat(text)

    asyncio.run(chat("Where do the lemons grow?"))
    asyncio.run(chat("And the limes?"))
    store = BackscrollChatStore(history, prefix=prefix)
    kept = asyncio.run(store.get_messages("k"))
    assert [each.role.value for each in kept] == ["user", "assistant"] * 2
    hits = asyncio.run(store.history.search("lemons", key=store.key("k"), role="user"))
    assert [hit.message.author for hit in hits] == ["42"]


def test_a_session_is_read_as_any_other(history: str, prefix: str) -> None:
    """By the calls of a producer: legal, searchable, with attributes, and written to by others."""
    store = BackscrollChatStore(
        history, prefix=prefix, author="42", author_name="Ada", attributes={"channel": prefix}
    )
    key = store.key("k")

    async def read() -> None:
        await store.set_messages("k", MESSAGES)
        loaded = await store.history.load(key)
        assert [each.role for each in loaded] == ["user", "assistant", "tool", "assistant"]
        assert [each.author for each in loaded] == ["42", None, None, None]
        assert loaded.open_calls == ()
        assert [each.content for each in await store.history.load(key, 2, legal=True)] == [
            "It is 39 EUR."
        ]
        (info,) = await store.history.sessions(channel=prefix, author="42")
        assert info.key == key
        await store.history.append(key, Message("narrator", "by a bot"))
        await store.history.replace(key, Message.user("Trains?"), loaded[0].message_id)
        found = await store.get_messages("k")
        assert found == [
            ChatMessage("Trains?"),
            *MESSAGES[1:],
            ChatMessage("by a bot", role="user"),
        ]
        await store.delete_messages("k")
        assert await store.get_keys() == []
        (info,) = await store.history.sessions(channel=prefix)
        assert info.message_count == 0
        await store.delete_messages("none")
        assert await store.history.session(store.key("none")) is None

    asyncio.run(read())


@pytest.mark.parametrize("odd", [{"n": {1, 2}.__iter__}, {"n": 2**70}])
def test_what_is_no_json_is_refused_and_nothing_stored(
    history: str, prefix: str, odd: dict[str, Any]
) -> None:
    store = BackscrollChatStore(history, prefix=prefix)
    wrong = [ASKED, ChatMessage("odd", additional_kwargs=odd)]
    calls: list[Callable[..., Awaitable[None]]] = [store.add_messages, store.set_messages]
    asyncio.run(store.add_message("k", SAID))
    for call in calls:
        with pytest.raises(InvalidInputError):
            asyncio.run(call("k", wrong))  # type: ignore[arg-type]
    assert asyncio.run(store.get_messages("k")) == [SAID]


def test_a_call_that_is_cancelled_is_carried_out(history: str, prefix: str) -> None:
    store = BackscrollChatStore(history, prefix=prefix)

    async def cancelled(call: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(call)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def hurry() -> None:
        await cancelled(store.add_messages("k", words("one", "two")))
        await cancelled(store.archive_oldest_messages("k", 1))
        assert texts(await store.get_messages("k", ARCHIVED)) == ["one"]
        await cancelled(store.set_messages("k", words("three")))
        assert texts(await store.get_messages("k")) == ["three"]
        assert await store.get_messages("k", ARCHIVED) == []

    asyncio.run(hurry())


def test_the_store_is_one_of_llamaindex(history: str) -> None:
    store: AsyncDBChatStore = BackscrollChatStore(history)
    assert store.class_name() == "BackscrollChatStore"
    assert store.model_dump() == {}
    assert Memory(token_limit=10, sql_store=store).model_copy().sql_store is store


@pytest.mark.parametrize("said", [*MESSAGES, *OTHERS], ids=lambda each: str(each.role.value))
def test_a_message_says_once_what_it_says(said: ChatMessage) -> None:
    made = to_message(said, "42", "Ada")
    stored = Message.from_dict(json.loads(json.dumps(made.to_dict())))
    assert from_message(stored) == said
    assert made.author == ("42" if made.role == "user" else None)
    if made.content and "\n" not in made.content:
        assert made.content not in json.dumps(made.extra)
