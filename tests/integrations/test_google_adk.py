"""Sessions of Google's ADK: what comes back is equal, whoever writes at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events.event import Event
from google.adk.events.event_actions import EventActions
from google.adk.sessions import BaseSessionService, InMemorySessionService
from google.adk.sessions.base_session_service import GetSessionConfig
from google.genai import types

from backscroll import ChatMessage, InvalidInputError
from backscroll.integrations.google_adk import BackscrollSessionService
from backscroll_worker.embedded import AsyncLocal

pytestmark = pytest.mark.slow

Test = Callable[[BaseSessionService], Awaitable[None]]
WHO: dict[str, Any] = {"app_name": "my_app", "user_id": "42"}


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[BackscrollSessionService]:
    async with AsyncLocal(url) as history:
        yield BackscrollSessionService(history, **options)


@pytest.fixture(params=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path}/history"


def event(text: str, author: str = "user", **more: Any) -> Event:
    role = "user" if author == "user" else "model"
    content = types.Content(role=role, parts=[types.Part(text=text)])
    return Event(author=author, content=content, invocation_id="i1", **more)


def changing(**delta: Any) -> Event:
    named = {name.replace("__", ":"): value for name, value in delta.items()}
    return Event(author="agent", actions=EventActions(state_delta=named))


def said(events: list[Event]) -> list[str]:
    return [
        "".join(part.text or "" for part in (each.content or _NONE).parts or []) for each in events
    ]


_NONE = types.Content()


async def _keeps_events_and_states(service: BaseSessionService) -> None:
    given = {"a": 1, "user:name": "Ada", "app:v": [1], "temp:x": 9}
    session = await service.create_session(**WHO, session_id=" s_1 ", state=dict(given))
    assert (session.id, session.state["user:name"], session.state["app:v"]) == ("s_1", "Ada", [1])
    with pytest.raises(AlreadyExistsError):
        await service.create_session(**WHO, session_id="s_1")
    other = await service.create_session(app_name="my", user_id="app_42", session_id="s_1")
    assert other.state == {}
    call = types.FunctionCall(id="c1", name="weather", args={"place": "Naples", "days": 2})
    response = types.FunctionResponse(id="c1", name="weather", response={"sun": True})
    events = [
        event("Lemons of Naples?"),
        Event(author="agent", content=types.Content(role="model", parts=[
            types.Part(text="thinking", thought=True), types.Part(function_call=call)])),
        Event(author="agent", content=types.Content(role="user", parts=[
            types.Part(function_response=response),])),
        event("Sunny.", "agent", turn_complete=True),
        Event(author="user", content=types.Content(role="user", parts=[
            types.Part.from_bytes(data=b"\x89PNG\xff", mime_type="image/png"),
            types.Part(text="And"), types.Part(text="this?")])),
        changing(a=2, b=None, user__name="Bob", app__v=2, temp__y=1),
    ]  # fmt: skip
    for each in events:
        await service.append_event(session, each)
    assert await service.append_event(session, event("…", partial=True)) not in session.events
    assert session.state["temp:y"] == 1
    stored = await service.get_session(**WHO, session_id="s_1")
    assert stored is not None
    assert stored.events == events
    assert stored.state == {"a": 2, "b": None, "user:name": "Bob", "app:v": 2}
    assert stored.last_update_time == events[-1].timestamp == session.last_update_time
    assert await service.get_user_state(**WHO) == {"name": "Bob"}

    for config, wanted in (
        (GetSessionConfig(num_recent_events=2), events[-2:]),
        (GetSessionConfig(num_recent_events=0), []),
        (GetSessionConfig(after_timestamp=events[2].timestamp), events[2:]),
        (GetSessionConfig(after_timestamp=events[2].timestamp, num_recent_events=1), events[-1:]),
    ):
        some = await service.get_session(**WHO, session_id="s_1", config=config)
        assert some is not None
        assert some.events == wanted


async def _lists_and_deletes(service: BaseSessionService) -> None:
    for user, id_ in (("42", "a"), ("43", "b"), ("42", "c")):
        await service.create_session(
            app_name="my_app", user_id=user, session_id=id_, state={"n": 1}
        )
    await service.create_session(app_name="another", user_id="42", session_id="d")
    session = await service.get_session(**WHO, session_id="a")
    assert session is not None
    later = event("hello", timestamp=session.last_update_time + 60)
    await service.append_event(session, later)
    mine = (await service.list_sessions(**WHO)).sessions
    assert [(each.id, each.state, each.events) for each in mine] == [
        ("c", {"n": 1}, []),
        ("a", {"n": 1}, []),
    ]
    assert mine[1].last_update_time == later.timestamp
    every = (await service.list_sessions(app_name="my_app")).sessions
    assert [(each.user_id, each.id) for each in every] == [("43", "b"), ("42", "c"), ("42", "a")]
    for id_ in ("a", "nobody"):
        await service.delete_session(**WHO, session_id=id_)
        assert await service.get_session(**WHO, session_id=id_) is None
    with pytest.raises(SessionNotFoundError):
        await service.append_event(session, event("too late"))
    assert len((await service.list_sessions(app_name="my_app")).sessions) == 2
    again = await service.create_session(**WHO, session_id="a")
    assert again.state == {}
    assert (await service.list_sessions(app_name="nobody")).sessions == []


@pytest.mark.parametrize("test", [_keeps_events_and_states, _lists_and_deletes])
def test_it_does_as_the_service_of_adk_itself(url: str, test: Test) -> None:
    async def run() -> None:
        await test(InMemorySessionService())
        async with opened(url, prefix="chat_", attributes={"channel": "web"}) as service:
            await test(service)

    asyncio.run(run())


def test_an_event_that_is_appended_again_is_stored_once(url: str) -> None:
    async def run() -> None:
        async with opened(url) as service:
            session = await service.create_session(**WHO, session_id="s")
            first, second = changing(a=1), changing(a=2)
            for each in (first, first, second, first):
                await service.append_event(session, each)
            stored = await service.get_session(**WHO, session_id="s")
            assert stored is not None
            assert stored.events == session.events == [first, second]
            assert stored.state == {"a": 2}

    asyncio.run(run())


def test_of_several_who_change_a_state_nothing_is_lost(url: str) -> None:
    async def run() -> None:
        async with opened(url) as service:
            await service.create_session(**WHO, session_id="s")
            sessions = [await service.get_session(**WHO, session_id="s") for _ in range(6)]
            await asyncio.gather(
                *(
                    service.append_event(
                        session, changing(**{f"k{number}": number, f"user__u{number}": number})
                    )
                    for number, session in enumerate(sessions)
                    if session is not None
                )
            )
            stored = await service.get_session(**WHO, session_id="s")
            assert stored is not None
            assert len(stored.state) == 12
            assert len(stored.events) == 6

    asyncio.run(run())


def test_what_is_said_is_found_and_others_may_join_in(url: str) -> None:
    async def run() -> None:
        async with opened(url) as service:
            state = {"user:name": "Ada"}
            session = await service.create_session(**WHO, session_id="s", state=state)
            await service.append_event(session, event("Lemons of Naples?"))
            with pytest.raises(InvalidInputError):
                await service.append_event(session, changing(a="x" * 65_536))
            key = service.key(**WHO, session_id="s")
            (hit,) = await service.history.search("lemons", sender="42", author="42", role="user")
            assert (hit.key, hit.message.created_at) == (
                key, datetime.fromtimestamp(session.last_update_time, UTC),
            )  # fmt: skip
            await service.history.append(key, ChatMessage.assistant("by another"))
            stored = await service.get_session(**WHO, session_id="s")
            assert stored is not None
            assert said(stored.events) == ["Lemons of Naples?", "by another"]
            await service.history.erase(sender="42")
            assert await service.get_session(**WHO, session_id="s") is None
            assert await service.get_user_state(**WHO) == {}

    asyncio.run(run())
