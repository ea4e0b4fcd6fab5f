"""Conversations of Pydantic AI: what comes back is equal, whoever writes at the same time."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, DeferredToolRequests
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationRecord,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import ToolDefinition

from backscroll import ChatMessage, ConflictError, Receipt
from backscroll.integrations.pydantic_ai import BackscrollConversationStore
from backscroll_worker.embedded import AsyncLocal

pytestmark = pytest.mark.slow

Test = Callable[[ConversationStore], Awaitable[None]]


@pytest.fixture(params=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path}/history"


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[BackscrollConversationStore]:
    async with AsyncLocal(url) as history:
        yield BackscrollConversationStore(history, **options)


def said(messages: list[ModelMessage]) -> list[str]:
    return [str(getattr(part, "content", "")) for each in messages for part in each.parts]


def request(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


async def saved(store: ConversationStore, id_: str, *texts: str) -> Conversation:
    conversation = Conversation(conversation_id=id_, messages=[request(text) for text in texts])
    await store.save(conversation)
    return conversation


def test_a_run_is_continued_equal_after_a_restart(url: str) -> None:
    agent: Agent[None, str] = Agent(TestModel(), instructions="Be kind.")

    @agent.tool_plain
    def weather(place: str) -> dict[str, Any]:
        return {"place": place, "degrees": [20.5, None], "icon": b"\x00png"}

    async def first() -> list[ModelMessage]:
        async with opened(url, author="42", author_name="Ada") as store:
            picture = BinaryContent(b"\x89PNG", media_type="image/png")
            result = await agent.run(["Naples?", picture, "Lemons?"])
            entries = await store.save(result, scope="42")
            assert [entry.message for entry in entries] == result.all_messages()
            return result.all_messages()

    async def second(messages: list[ModelMessage]) -> None:
        async with opened(url) as store:
            (record,) = await store.list_conversations(scope="42")
            loaded = await store.load(record.conversation_id, scope="42")
            assert loaded is not None
            assert loaded.messages == as_json_keeps(messages)
            assert loaded.usage.requests == 2
            result = await agent.run("And limes?", conversation=loaded)
            assert len(await store.save(result)) == 2
            again = await store.load(record.conversation_id)
            assert again is not None
            assert again.messages == as_json_keeps(result.all_messages())
            assert again.usage.requests == 3
            key = store.key(record.conversation_id)
            transcript = await store.history.load(key, legal=True)
            assert [each.role for each in transcript][:4] == [
                "user",
                "assistant",
                "tool",
                "assistant",
            ]
            assert transcript.open_calls == ()
            assert (transcript[0].content, transcript[0].author) == ("Naples?\nLemons?", "42")
            (hit,) = await store.history.search("lemons", sender="42", author="42")
            assert hit.key == key

    asyncio.run(second(asyncio.run(first())))


def as_json_keeps(messages: list[ModelMessage]) -> list[ModelMessage]:
    return ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(messages))


def test_a_paused_run_waits_in_the_store(url: str) -> None:
    def asks(_messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if len(_messages) > 1:
            return ModelResponse(parts=[TextPart("Paid.")])
        return ModelResponse(parts=[ThinkingPart("hm"), ToolCallPart("pay", {"euros": 5}, "c1")])

    async def prepared(_context: Any, tools: list[ToolDefinition]) -> list[ToolDefinition]:
        return [dataclasses.replace(each, kind="external") for each in tools]

    agent = Agent(FunctionModel(asks), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def pay(euros: int) -> str:
        return f"paid {euros}"

    async def run() -> None:
        async with opened(url) as store:
            result = await agent.run("Pay!")
            await store.save(result)
            loaded = await store.load(result.conversation.conversation_id)
            assert loaded is not None
            waiting = loaded.deferred_tool_requests
            assert waiting is not None
            assert [call.tool_call_id for call in waiting.approvals] == ["c1"]
            results = waiting.build_results(approve_all=True)
            result = await agent.run(conversation=loaded, deferred_tool_results=results)
            await store.save(result)
            again = await store.load(loaded.conversation_id)
            assert again is not None
            assert (result.output, again.deferred_tool_requests) == ("Paid.", None)

    asyncio.run(run())


async def _grows_and_branches(store: ConversationStore) -> None:
    first = await saved(store, "a", "one", "two", "three")
    window = await store.load("a", limit=1)
    assert window is not None
    assert said(window.messages) == ["three"]
    window.messages.append(request("four"))
    await store.save(window)
    with pytest.raises(ConversationConflict):
        await store.save(first)
    with pytest.raises(ConversationConflict):
        await saved(store, "a", "another")
    whole = await store.load("a")
    assert whole is not None
    assert said(whole.messages) == ["one", "two", "three", "four"]

    branched = await store.branch("a", at=2, expected_revision=whole.revision)
    with pytest.raises(ConversationConflict):
        await store.branch("a", at=1, expected_revision=whole.revision)
    branched.messages.append(request("drei"))
    await store.save(branched)
    entries = await store.load_entries("a")
    assert entries is not None
    assert said([entry.message for entry in entries]) == ["one", "two", "drei"]
    assert await store.read_entry(str(entries[1].id)) == entries[1]
    (record,) = await store.list_conversations()
    (left,) = record.branches
    assert said([e.message for e in await store.read_history(str(left), limit=2)]) == [
        "three",
        "four",
    ]
    back = await store.branch("a", from_entry=left, expected_revision=branched.revision)
    assert said(back.messages) == ["one", "two", "three", "four"]

    await _forks_and_deletes(store, back)


async def _forks_and_deletes(store: ConversationStore, back: Conversation) -> None:
    fork = await store.fork("a", at=2, new_conversation_id="b", scope="me")
    fork.messages.append(request("fork"))
    await store.save(fork)
    with pytest.raises(ConversationConflict):
        await store.fork("a", new_conversation_id="b")
    with pytest.raises(UserError):
        await store.fork("a", source_scope="someone else")
    rewritten = [request("ONE"), request("TWO")]
    await store.save(
        Conversation(conversation_id="b", revision=fork.revision, messages=[*rewritten])
    )
    await store.save(Conversation(conversation_id="c"))
    assert await _listed(store) == {"c": None, "b": "me", "a": None}
    newest = await store.list_conversations(limit=2)
    assert [record.conversation_id for record in newest] == ["c", "b"]
    await store.delete("b", scope="someone else")
    assert await store.load("b", scope="someone else") is None
    loaded = await store.load("b")
    assert loaded is not None
    assert loaded.messages == rewritten
    for id_ in ("a", "nobody"):
        await store.delete(id_)
    assert list(await _listed(store)) == ["c", "b"]
    with pytest.raises(ConversationConflict):
        await store.save(back)
    await saved(store, "a", "new")
    again = await store.load("a")
    assert again is not None
    assert said(again.messages) == ["new"]


async def _listed(store: ConversationStore) -> dict[str, str | None]:
    return {each.conversation_id: each.scope for each in await store.list_conversations()}


async def _refuses_what_does_not_fit(store: ConversationStore) -> None:
    record = ConversationRecord(conversation_id="a", head_id="nothing")
    with pytest.raises(ConversationConflict):
        await store.write_record(record, expected_revision=None)
    with pytest.raises(ConversationConflict):
        await store.write_record(
            dataclasses.replace(record, head_id=None), expected_revision="another"
        )
    with pytest.raises(ConversationConflict):
        await store.delete_record("a", expected_revision="another")
    with pytest.raises(LookupError):
        await store.read_entry("nothing")
    with pytest.raises(LookupError):
        await store.read_history("nothing")
    assert await store.read_record("a") is None
    assert list(await store.read_records()) == []
    with pytest.raises(UserError):
        await store.load("a", limit=-1)


@pytest.mark.parametrize("test", [_grows_and_branches, _refuses_what_does_not_fit])
def test_it_does_as_the_store_of_pydantic_ai_itself(url: str, test: Test) -> None:
    async def run() -> None:
        await test(InMemoryConversationStore())
        async with opened(url, prefix="chat_") as store:
            await test(store)

    asyncio.run(run())


def test_of_those_who_save_at_once_one_does_and_nothing_else_is_left(url: str) -> None:
    async def run() -> None:
        async with opened(url) as store:
            await saved(store, "a", "one")
            loaded = [await store.load("a") for _ in range(8)]
            for number, each in enumerate(loaded):
                assert each is not None
                if number % 2:
                    each.messages.append(request(f"more {number}"))
                each.usage.requests = number
            results = await asyncio.gather(
                *(store.save(each) for each in loaded if each), return_exceptions=True
            )
            conflicts = [each for each in results if isinstance(each, ConversationConflict)]
            assert len(conflicts) == 7
            won = loaded[[not isinstance(each, Exception) for each in results].index(True)]
            again = await store.load("a")
            assert again is not None
            assert won is not None
            assert (again.messages, again.usage) == (won.messages, won.usage)
            assert len(await store.history.load("a")) == len(won.messages)

    asyncio.run(run())


class Interrupted(AsyncLocal):
    """It says when a state is about to be set, and gives others a turn."""

    begun: asyncio.Event

    async def set_state(self, *arguments: Any, **options: Any) -> Receipt:
        self.begun.set()
        await asyncio.sleep(0)
        return await super().set_state(*arguments, **options)


def test_a_save_that_is_cancelled_is_carried_out_to_its_end(url: str) -> None:
    async def run() -> None:
        async with Interrupted(url) as history:
            history.begun = asyncio.Event()
            store = BackscrollConversationStore(history)
            await saved(store, "a", "one")
            loaded = await store.load("a")
            assert loaded is not None
            loaded.messages.append(request("two"))
            history.begun.clear()
            task = asyncio.create_task(store.save(loaded))
            await history.begun.wait()
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
            again = await store.load("a")
            assert again is not None
            assert said(again.messages) == ["one", "two"]

    asyncio.run(run())


def test_what_others_change_in_a_session_is_in_the_conversation(url: str) -> None:
    async def run() -> None:
        async with opened(url) as store:
            await saved(store, "a", *(f"text {number}" for number in range(6)))
            ids = [each.message_id for each in await store.history.load("a")]
            await store.history.replace("a", ChatMessage.user("edited"), ids[0])
            await store.history.rollback("a", ids[2])
            await store.history.rollback("a", ids[5])
            loaded = await store.load("a")
            assert loaded is not None
            assert said(loaded.messages)[1:] == ["text 1", "text 3", "text 4"]
            await store.history.append("a", ChatMessage.assistant("by another"))
            loaded.messages.append(request("next"))
            await store.save(loaded)
            again = await store.load("a")
            assert again is not None
            assert said(again.messages)[-1] == "next"
            limited = await store.load("a", limit=3)
            assert limited is not None
            assert limited.messages == again.messages[-3:]

            await store.history.rename("a", "b")
            renamed = await store.load("b")
            assert renamed is not None
            assert (renamed.conversation_id, renamed.messages) == ("b", again.messages)
            await store.history.clear("b")
            cleared = await store.load("b")
            assert cleared is not None
            assert cleared.messages == []
            await store.history.close_session("b")
            cleared.messages.append(request("too late"))
            with pytest.raises(ConflictError):
                await store.save(cleared)
            await store.history.erase(key="b")
            assert await store.load("b") is None

    asyncio.run(run())


def test_a_long_conversation_is_read_in_pages_and_forked_whole(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(f"sqlite://{tmp_path}/history") as store:
            texts = [f"{number}" for number in range(1_203)]
            await saved(store, "a", *texts)
            loaded = await store.load("a")
            assert loaded is not None
            assert said(loaded.messages) == texts
            await store.fork("a", at=1_100, new_conversation_id="b")
            await store.delete("a")
            fork = await store.load("b", limit=600)
            assert fork is not None
            assert said(fork.messages) == texts[500:1_100]

    asyncio.run(run())
