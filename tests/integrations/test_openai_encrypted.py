"""Encrypted sessions: what cannot be read is not popped, whoever asks with which key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from agents import Agent, Runner, set_tracing_disabled
from agents.extensions.memory import encrypt_session
from agents.extensions.memory.encrypt_session import EncryptedSession
from cryptography.fernet import Fernet, InvalidToken

from backscroll import ChatMessage
from backscroll.integrations.openai_agents import BackscrollSession
from backscroll.integrations.openai_encrypted import BackscrollEncryptedSession
from tests.integrations.agent_models import EchoModel

pytestmark = pytest.mark.slow

KEY, OTHER = (Fernet.generate_key().decode() for _ in range(2))

Made = Callable[..., EncryptedSession]


@pytest.fixture(params=["ours", "of the SDK"])
def encrypted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Our encrypted session, and the SDK's as if it knew ours as it knows its own."""
    if request.param == "ours":
        return BackscrollEncryptedSession
    monkeypatch.setattr(encrypt_session, "SQLiteSession", BackscrollSession)
    return EncryptedSession


def said(*texts: str) -> list[Any]:
    return [{"role": "user", "content": text} for text in texts]


def both(encrypted: Made, session: BackscrollSession, **more: Any) -> list[EncryptedSession]:
    """The session as read with its key, and with another one."""
    return [encrypted("s", session, key, **more) for key in (KEY, OTHER)]


def test_a_wrong_key_pops_nothing(history: str, prefix: str, encrypted: Made) -> None:
    session = BackscrollSession("s", history, prefix=prefix)
    right, wrong = both(encrypted, session)

    async def pop() -> None:
        await right.add_items(said("one", "two"))
        before = await session.history.load(session.key)
        for _ in range(2):
            with pytest.raises(InvalidToken):
                await wrong.pop_item()
        assert await session.history.load(session.key) == before  # also their ids
        assert [await right.pop_item() for _ in range(3)] == [*said("two", "one"), None]

    asyncio.run(pop())


def test_a_changed_item_stays_with_all_before_it(
    history: str, prefix: str, encrypted: Made
) -> None:
    session = BackscrollSession("s", history, prefix=prefix)
    right, _ = both(encrypted, session)

    async def pop() -> None:
        await right.add_items(said("one", "two"))
        (item,) = await session.get_items(limit=1)
        changed: Any = {**item, "payload": "gAAAA-not-what-was-written"}
        await session.pop_item()
        await session.add_items([changed])
        with pytest.raises(InvalidToken):
            await right.pop_item()
        assert len(await session.get_items()) == 2

    asyncio.run(pop())


def test_expired_and_plain_items_go_with_a_pop(history: str, prefix: str, encrypted: Made) -> None:
    session = BackscrollSession("s", history, prefix=prefix)
    expired, wrong = both(encrypted, session, ttl=-1)

    async def pop() -> None:
        await expired.add_items(said("old"))
        with pytest.raises(InvalidToken):
            await wrong.pop_item()
        await session.history.append(session.key, ChatMessage.user("by a bot"))
        assert await expired.pop_item() is None
        assert await session.get_items() == []

    asyncio.run(pop())


def test_each_item_is_popped_once_by_many_at_once(
    history: str, prefix: str, encrypted: Made
) -> None:
    session = BackscrollSession("s", history, prefix=prefix)
    right, wrong = both(encrypted, session)

    async def attempt() -> None:
        with pytest.raises(InvalidToken):
            await wrong.pop_item()

    async def crowd() -> None:
        await right.add_items(said(*map(str, range(30))))
        pops: list[Awaitable[Any]] = [right.pop_item() for _ in range(8)]
        adds: list[Awaitable[Any]] = [right.add_items(said(str(n))) for n in range(30, 34)]
        *results, _, _ = await asyncio.gather(*pops, *adds, attempt(), attempt())
        popped = [item["content"] for item in results if item is not None]
        left = [item["content"] for item in await right.get_items()]  # type: ignore[typeddict-item]
        assert len(popped) == 8
        assert sorted([*popped, *left], key=int) == [str(n) for n in range(34)]

    asyncio.run(crowd())


def test_a_pop_that_is_cancelled_leaves_all_or_pops_one(
    history: str, prefix: str, encrypted: Made
) -> None:
    session = BackscrollSession("s", history, prefix=prefix)
    right, _ = both(encrypted, session)

    async def cancel() -> None:
        await right.add_items(said(*map(str, range(10))))
        for _ in range(5):
            before = len(await session.get_items())
            popping = asyncio.create_task(right.pop_item())
            await asyncio.sleep(0.001)
            popping.cancel()
            await asyncio.wait({popping})
            left = await right.get_items()
            assert before - len(left) in ((0, 1) if popping.cancelled() else (1,))
            assert left == said(*map(str, range(len(left))))

    asyncio.run(cancel())


def test_the_sdks_own_class_removes_what_it_cannot_read(history: str, prefix: str) -> None:
    """Which is why there is ours; once this fails, there need not be."""
    session: Any = BackscrollSession("s", history, prefix=prefix)
    right, wrong = both(EncryptedSession, session)

    async def pop() -> None:
        await right.add_items(said("one", "two"))
        assert await wrong.pop_item() is None
        assert await session.get_items() == []

    asyncio.run(pop())


def test_runs_are_encrypted_and_go_on(history: str, prefix: str) -> None:
    set_tracing_disabled(True)
    session = BackscrollSession("s", history, prefix=prefix)
    right = BackscrollEncryptedSession("s", session, KEY)
    wrong = BackscrollEncryptedSession("s", session, OTHER)

    async def run() -> None:
        for text in ("Where do the lemons grow?", "And the limes?"):
            await Runner.run(Agent(name="Guide", model=EchoModel()), text, session=right)
        assert len(await right.get_items()) == 4
        assert await wrong.get_items() == []
        assert not await session.history.search("lemons", key=session.key)
        assert "lemons" not in str(await session.get_items())

    asyncio.run(run())


def test_a_session_that_pops_in_its_own_way_is_left_to_it(history: str, prefix: str) -> None:
    class Counting(BackscrollSession):
        pops = 0

        async def pop_item(self) -> Any:
            self.pops += 1
            return await super().pop_item()

    session = Counting("s", history, prefix=prefix)
    right, _ = both(BackscrollEncryptedSession, session)

    async def pop() -> None:
        await right.add_items(said("one"))
        assert await right.pop_item() == said("one")[0]
        assert session.pops == 1

    asyncio.run(pop())
