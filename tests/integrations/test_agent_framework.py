"""The history of Microsoft's Agent Framework, held to what its documentation says of a provider.

Its source distribution has no tests. `make peers` runs these with its newest version.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import pytest
from agent_framework import (
    Agent,
    AgentResponse,
    AgentSession,
    Content,
    HistoryProvider,
    Message,
    SessionContext,
    tool,
)
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st

from backscroll import ChatMessage, ConflictError, InvalidInputError
from backscroll.integrations.agent_framework import BackscrollHistoryProvider
from backscroll.integrations.agent_framework_messages import from_message, not_stored, to_message
from tests.budget import tries
from tests.integrations.scripted_client import ScriptedClient

pytestmark = pytest.mark.slow

CALL = Content.from_function_call("c1", "fares", arguments='{"to": "Berlin"}')
PICTURE = Content.from_data(b"\x89PNG", "image/png")
REQUEST = Content.from_function_approval_request("a1", CALL)
ASKED = Message("user", ["Fares?"], author_name="Ada")
CALLED = Message("assistant", ["Let me look.", CALL], message_id="m1")
DONE = Message("tool", [Content.from_function_result("c1", result="39 EUR")])
SAID = Message("assistant", ["It is 39 EUR."], author_name="guide", message_id="m2")
MESSAGES = [ASKED, CALLED, DONE, SAID]
OTHERS = [
    Message("system", ["Be kind."], additional_properties={"of": ["us", {"n": 1.5}]}),
    Message("user", ["How much", PICTURE, "is this?"]),
    Message("assistant", [Content.from_text_reasoning(text="Hm."), REQUEST]),
    Message("user", [REQUEST.to_function_approval_response(approved=True)]),
    Message("tool", [Content.from_function_result("c1", result=[Content.from_text("a"), PICTURE])]),
    Message("tool", [Content.from_function_result("c1", result={"a": [None, 2.5]})]),
    Message("assistant", [Content.from_error(message="no fares", error_code="404")]),
    Message("assistant", [Content.from_uri("https://example.org/a.pdf", media_type="a/pdf")]),
    Message("assistant", []),
]


def plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [message.to_dict() for message in messages]


def texts(messages: Sequence[Message]) -> list[str]:
    return [message.text for message in messages]


def run(provider: HistoryProvider, given: list[Message], answer: list[Message]) -> SessionContext:
    """One run of an agent in the session "s", as the framework calls a provider."""
    context = SessionContext(session_id="s", input_messages=given)
    arguments: Any = {"agent": None, "session": AgentSession(), "state": {}}

    async def both() -> None:
        if provider.load_messages:
            await provider.before_run(context=context, **arguments)
        context.extend_messages("docs", [Message("system", ["from a document"])])
        context._response = AgentResponse(messages=answer)
        await provider.after_run(context=context, **arguments)

    asyncio.run(both())
    return context


def test_messages_come_back_in_order_and_equal(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    assert asyncio.run(provider.get_messages("s")) == []
    asyncio.run(provider.save_messages("s", [*MESSAGES, *OTHERS]))
    loaded = asyncio.run(provider.get_messages("s", state={}, more="ignored"))
    assert plain(loaded) == plain([*MESSAGES, *OTHERS])
    assert all(type(each) is Message for each in loaded)
    asyncio.run(provider.save_messages("s", []))
    asyncio.run(provider.clear("s"))
    assert asyncio.run(provider.get_messages("s")) == []


@pytest.mark.parametrize("session_id", ["CON", "../../etc/passwd", "a|b:c", "Größe 漢字", "~x"])
def test_any_id_is_a_session_of_its_own(history: str, prefix: str, session_id: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    other = BackscrollHistoryProvider(history, prefix=f"{prefix}other/")
    asyncio.run(provider.save_messages(session_id, [ASKED]))
    assert texts(asyncio.run(provider.get_messages(session_id))) == ["Fares?"]
    assert asyncio.run(provider.get_messages("s")) == []
    assert asyncio.run(other.get_messages(session_id)) == []


@pytest.mark.parametrize("session_id", [None, ""])
def test_a_session_without_an_id_shares_no_history(history: str, session_id: str | None) -> None:
    provider = BackscrollHistoryProvider(history)
    with pytest.raises(InvalidInputError, match="session_id"):
        asyncio.run(provider.save_messages(session_id, [ASKED]))
    with pytest.raises(InvalidInputError, match="session_id"):
        asyncio.run(provider.get_messages(session_id))


def test_a_run_gets_what_earlier_ones_said(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    run(provider, [ASKED], [SAID])
    second = run(provider, [Message("user", ["Thanks"])], [Message("assistant", ["Welcome"])])
    loaded = second.context_messages[provider.source_id]
    assert texts(loaded) == ["Fares?", "It is 39 EUR."]
    attribution = loaded[0].additional_properties["_attribution"]
    assert attribution["source_id"] == provider.source_id == "backscroll"
    stored = asyncio.run(provider.get_messages("s"))
    assert texts(stored) == ["Fares?", "It is 39 EUR.", "Thanks", "Welcome"]


@pytest.mark.parametrize(
    ("flags", "stored"),
    [
        ({}, ["Fares?", "It is 39 EUR."]),
        ({"store_inputs": False}, ["It is 39 EUR."]),
        ({"store_outputs": False}, ["Fares?"]),
        ({"store_context_messages": True}, ["from a document", "Fares?", "It is 39 EUR."]),
        (
            {"store_context_messages": True, "store_context_from": {"web"}, "source_id": "log"},
            ["Fares?", "It is 39 EUR."],
        ),
    ],
)
def test_a_provider_stores_what_its_flags_say(
    history: str, prefix: str, flags: dict[str, Any], stored: list[str]
) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix, load_messages=False, **flags)
    run(provider, [ASKED], [SAID])
    assert texts(asyncio.run(provider.get_messages("s"))) == stored


def test_a_conversation_that_is_given_anew_is_stored_once(history: str, prefix: str) -> None:
    """As clients do that keep it themselves, and give all of it with each run."""
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    said: list[Message] = []
    for number in range(4):
        said.append(Message("user", [f"question {number % 2}"]))
        answer = Message("assistant", ["the same answer"])
        run(provider, said, [answer])
        said.append(answer)
    assert plain(asyncio.run(provider.get_messages("s"))) == plain(said)


def test_a_turn_that_is_said_twice_is_stored_twice(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    for _ in range(2):
        run(provider, [Message("user", ["ping"])], [Message("assistant", ["pong"])])
    assert texts(asyncio.run(provider.get_messages("s"))) == ["ping", "pong"] * 2


def message(code: str) -> Message:
    """By a letter: a user's in upper case, with an id where a digit follows."""
    role = "user" if code[0].isupper() else "assistant"
    return Message(role, [code[0]], message_id=code if code[1:] else None)


@pytest.mark.parametrize(
    ("existing", "new", "left"),
    [
        ("", "A b", "A b"),
        ("A b", "C d", "C d"),
        ("A b", "A b C d", "C d"),
        ("A b C d", "C d E f", "E f"),
        ("C d", "A b C d E f", "E f"),  # the oldest have been removed
        ("A b A b", "A b A b A b", "A b"),
        ("A b", "A b A b", "A b"),
        ("A b", "A b", "A b"),  # no ids, and nothing new: said again
        ("A", "A b", "A b"),  # as after a run that failed
        ("a", "a B", "B"),
        ("a", "a", "a"),  # outputs only
        ("A1 b2", "A1 b2", ""),
        ("A1", "A1 b2", "b2"),
        ("A b", "X y A z", "X y A z"),
    ],
)
def test_only_what_a_session_does_not_end_with_is_new(existing: str, new: str, left: str) -> None:
    known, given = [message(code) for code in existing.split()], [*map(message, new.split())]
    assert plain(not_stored(known, given)) == plain([*map(message, left.split())])
    newest = known[-len(given) :]
    assert plain(not_stored(newest, given)) == plain(not_stored(known, given))


CODES = st.lists(st.sampled_from(["A", "b", "b7"]), max_size=5)


@tried(max_examples=tries(100, 10_000), deadline=None)
@given(CODES, CODES)
def test_what_follows_a_conversation_given_anew_is_never_lost(
    old: list[str], new: list[str]
) -> None:
    known, given = [message(code) for code in old], [message(code) for code in new]
    left = not_stored(known, given)
    assert given[len(given) - len(left) :] == left
    fresh = Message("user", ["something new"])
    assert not_stored(known, [*given, fresh])[-1] is fresh


async def answer(agent: Agent, text: str, session: AgentSession) -> str:
    return (await agent.run(text, session=session)).text


def test_agents_go_on_in_a_session_after_a_restart(history: str, prefix: str) -> None:
    @tool(approval_mode="never_require")
    def fares(to: str) -> str:
        """What a ticket costs."""
        return f"{to}: 39 EUR"

    def agent() -> Agent:
        provider = BackscrollHistoryProvider(history, prefix=prefix, author="42")
        return Agent(ScriptedClient("fares"), tools=[fares], context_providers=[provider])

    session = AgentSession(session_id="s")
    # The question, the call, its result.
    assert asyncio.run(answer(agent(), "Berlin", session)) == "I know 3 messages."
    kept = json.dumps(session.to_dict())
    assert "Berlin" not in kept
    again = AgentSession.from_dict(json.loads(kept))

    async def streamed() -> str:
        response = agent().run("Paris", session=again, stream=True)
        async for _ in response:
            pass
        return (await response.get_final_response()).text

    assert asyncio.run(streamed()) == "I know 7 messages."
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    stored = asyncio.run(provider.get_messages("s"))
    assert [each.role for each in stored] == ["user", "assistant", "tool", "assistant"] * 2
    (hit,) = asyncio.run(provider.history.search("paris eur", key=provider.key("s")))
    assert (hit.message.role, hit.message.content) == ("tool", "Paris: 39 EUR")


def test_history_may_be_kept_at_each_call_of_the_model(history: str, prefix: str) -> None:
    """So that what was said of a run that fails is known."""

    @tool(approval_mode="never_require")
    def fares(to: str) -> str:
        """What a ticket costs."""
        return f"{to}: 39 EUR"

    provider = BackscrollHistoryProvider(history, prefix=prefix)
    client = ScriptedClient("fares", fails_at=2)
    agent = Agent(
        client,
        tools=[fares],
        context_providers=[provider],
        require_per_service_call_history_persistence=True,
    )
    session = AgentSession(session_id="s")
    with pytest.raises(ConnectionError):
        asyncio.run(answer(agent, "Berlin", session))
    assert [each.role for each in asyncio.run(provider.get_messages("s"))] == ["user", "assistant"]
    client.fails_at = 0
    asyncio.run(answer(agent, "Paris", session))
    stored = asyncio.run(provider.get_messages("s"))
    assert texts(stored)[2:] == ["Paris", "", "", stored[-1].text]


def test_runs_at_once_in_one_session_lose_nothing(history: str, prefix: str) -> None:
    providers = [BackscrollHistoryProvider(history, prefix=prefix) for _ in range(2)]
    turns = [[Message("user", [f"q{n}"]), Message("assistant", [f"a{n}"])] for n in range(12)]

    async def all_at_once() -> None:
        await asyncio.gather(
            *(providers[n % 2].save_messages("s", turn) for n, turn in enumerate(turns))
        )

    asyncio.run(all_at_once())
    stored = texts(asyncio.run(providers[0].get_messages("s")))
    assert sorted(stored) == sorted(chain.from_iterable(map(texts, turns)))
    assert all(f"a{asked[1:]}" == said for asked, said in _pairs(stored))


def _pairs(stored: list[str]) -> Iterator[tuple[str, str]]:
    return zip(stored[::2], stored[1::2], strict=True)


def test_what_two_are_given_at_once_is_stored_once(history: str, prefix: str) -> None:
    providers = [BackscrollHistoryProvider(history, prefix=prefix) for _ in range(6)]

    async def all_at_once() -> None:
        await asyncio.gather(*(each.save_messages("s", [CALLED, SAID]) for each in providers))

    asyncio.run(all_at_once())
    assert plain(asyncio.run(providers[0].get_messages("s"))) == plain([CALLED, SAID])


def test_a_run_that_is_cancelled_while_it_stores_has_stored(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)

    async def cancelled() -> None:
        saving = asyncio.create_task(provider.save_messages("s", [ASKED, SAID]))
        await asyncio.sleep(0)
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving

    asyncio.run(cancelled())
    assert plain(asyncio.run(provider.get_messages("s"))) == plain([ASKED, SAID])


def test_a_closed_session_takes_nothing(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    asyncio.run(provider.save_messages("s", [ASKED]))
    asyncio.run(provider.history.close_session(provider.key("s")))
    with pytest.raises(ConflictError, match="closed"):
        asyncio.run(provider.save_messages("s", [SAID]))
    assert texts(asyncio.run(provider.get_messages("s"))) == ["Fares?"]


def test_a_limit_cuts_no_call_from_its_result(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix, limit=2)
    asyncio.run(provider.save_messages("s", MESSAGES))
    assert plain(asyncio.run(provider.get_messages("s"))) == plain([SAID])
    whole = BackscrollHistoryProvider(history, prefix=prefix)
    asyncio.run(whole.save_messages("s", [Message("user", ["Thanks"])]))
    assert len(asyncio.run(whole.get_messages("s"))) == 5


def test_a_session_is_read_as_any_other(history: str, prefix: str) -> None:
    """By the calls of a producer: searchable, with attributes, and written to by others."""
    provider = BackscrollHistoryProvider(
        history, prefix=prefix, author="42", author_name="Ada", attributes={"channel": prefix}
    )
    key = provider.key("s")

    async def read() -> None:
        await provider.save_messages("s", MESSAGES)
        loaded = await provider.history.load(key)
        assert [each.role for each in loaded] == ["user", "assistant", "tool", "assistant"]
        assert [each.author for each in loaded] == ["42", None, None, None]
        assert loaded.open_calls == ()
        (info,) = await provider.history.sessions(channel=prefix, author="42")
        assert info.key == key
        await provider.history.append(key, ChatMessage("narrator", "by a bot"))
        await provider.history.replace(key, ChatMessage.user("Trains?"), loaded[0].message_id)
        found = await provider.get_messages("s")
        assert [(each.role, each.text) for each in (found[0], found[-1])] == [
            ("user", "Trains?"),
            ("narrator", "by a bot"),
        ]

    asyncio.run(read())


def test_what_is_no_json_is_refused_and_nothing_stored(history: str, prefix: str) -> None:
    provider = BackscrollHistoryProvider(history, prefix=prefix)
    odd = Message("user", ["odd"], additional_properties={"n": float("nan")})
    with pytest.raises(InvalidInputError):
        asyncio.run(provider.save_messages("s", [ASKED, odd]))
    assert asyncio.run(provider.get_messages("s")) == []


@pytest.mark.parametrize("said", [*MESSAGES, *OTHERS], ids=lambda each: str(each.role))
def test_a_message_says_once_what_it_says(said: Message) -> None:
    made = to_message(said, "42", "Ada")
    stored = ChatMessage.from_dict(json.loads(json.dumps(made.to_dict())))
    assert from_message(stored).to_dict() == said.to_dict()
    assert made.author == ("42" if said.role == "user" else None)
    if made.content and "\n" not in made.content and said not in OTHERS[4:5]:
        assert json.dumps(made.content)[1:-1] not in json.dumps(made.extra)
