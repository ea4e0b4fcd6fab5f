"""What every store promises of who said a message, and of the platform's own ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from backscroll.contract.answers import EncodedAnswer, encode_answer
from backscroll.contract.attachments import Attachment
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import CIRCUMSTANCES, ChatMessage, circumstances
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.conformance.listing import all_keys
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    requests,
    say,
)

ADA: dict[str, Any] = {"author": "42", "author_name": "Ada Λ"}
BOB: dict[str, Any] = {"author": "43", "author_name": "Bob"}
FULL = ChatMessage.user("hi", **ADA, platform_id="p1", reply_to="p0", tokens=3, mood="good")


def spoken(key: str, *said: tuple[dict[str, Any], str]) -> Any:
    return requests.append(key, tuple(ChatMessage.user(text, **who) for who, text in said), None)


def test_who_said_it_comes_back_from_every_read(open_store: Open) -> None:
    summary = ChatMessage.summary("in short", upto="0" * 32)
    with open_store() as store:
        store.append("s", FULL, ChatMessage.assistant("hello"), summary)
    store = open_store()
    first, plain, short = store.load("s")
    assert circumstances(first) == ("42", "Ada Λ", "p1", "p0", 3, None)
    assert first.extra == {"mood": "good"}
    assert circumstances(plain) == (None,) * len(CIRCUMSTANCES)
    assert short.upto == "0" * 32
    assert list(store.stream("s")) == [first, plain, short]
    assert store.load("s", limit=3, include_edits=True) == [first, plain, short]
    assert store.search("hi")[0].message == first
    assert store.load("s", around=first.message_id, limit=1) == [first]


def test_an_encoded_history_has_all_that_its_messages_have(open_store: Open) -> None:
    picture = Attachment("image", name="cat.png", data=b"\x89PNG")
    summary = ChatMessage.summary("in short", upto="0" * 32)
    store = open_store()
    store.append("s", FULL, ChatMessage.assistant("hello"), summary)
    store.append(
        "s", ChatMessage.user("", attachments=[picture], tool_calls=[{"id": "ü", "n": 1.5}])
    )
    for load in requests.load("s"), requests.load("s", 2), requests.load("s", legal=True):
        plain, encoded = store.apply([load]), store.apply([load], budget=AnswerBudget())
        assert isinstance(encoded[0], EncodedAnswer)
        assert orjson.loads(encoded[0].json) == orjson.loads(encode_answer(plain[0]))


def test_a_replacement_keeps_whose_message_it_is(open_keeping: Open) -> None:
    with open_keeping() as store:
        (id_,) = store.append("s", FULL)
        store.replace("s", ChatMessage.user("ho", author="other", platform_id="p9"), id_)
        (message,) = store.load("s", include_edits=True)
        assert circumstances(message) == circumstances(FULL)
        store.replace("s", ChatMessage.user("ho", tokens=0), id_)
        assert store.load("s")[0].tokens == 0
    (again,) = open_keeping().load("s", include_edits=True)
    assert again == replace(message, tokens=0)
    assert [edit.content for edit in again.edits] == ["hi"]


def test_a_session_from_elsewhere_brings_its_people(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        store.append("a", FULL, ChatMessage.assistant("hello"))
        (info,) = store.sessions()
        said = tuple(store.load("a"))
        taken = ImportSession("i" * 32, clock.now, "b", _anew(said), {}, clock.now, clock.now)
        apply_all(store, [taken])
        assert info.message_count == 2
    store = open_store()
    assert list(map(circumstances, store.load("b"))) == list(map(circumstances, said))
    assert all_keys(store, 1, author="42") == ["b", "a"]


def _anew(messages: tuple[ChatMessage, ...]) -> tuple[ChatMessage, ...]:
    return tuple(
        replace(message, message_id=f"{number:032x}") for number, message in enumerate(messages)
    )


def test_search_can_be_for_what_one_person_said(store: StoreUnderTest) -> None:
    apply_all(store, [spoken("g", (ADA, "tea"), (BOB, "tea, please"), ({}, "tea too"))])
    apply_all(store, [spoken("h", (ADA, "no tea"))])
    hits = store.search("tea", author="42")
    assert {hit.message.content for hit in hits} == {"tea", "no tea"}
    assert [hit.key for hit in store.search("tea", author="43")] == ["g"]
    assert not store.search("tea", author="44")
    (best,) = store.search("tea", author="42", key="g", by_session=True)
    assert (best.key, best.session_matches) == ("g", 1)


def test_the_sessions_are_listed_where_somebody_spoke(store: StoreUnderTest, clock: Clock) -> None:
    for number in range(6):
        clock.advance(seconds=1)
        apply_all(store, [spoken(f"s{number}", (ADA if number % 2 else BOB, "x"), (BOB, "y"))])
    say(store, "nobody", "x")
    store.describe("s1", channel="slack")
    assert all_keys(store, 2, author="42") == ["s5", "s3", "s1"]
    assert all_keys(store, 4, author="43") == [f"s{number}" for number in range(5, -1, -1)]
    assert all_keys(store, 4, author="42", channel="slack") == ["s1"]
    assert all_keys(store, 4, author="4") == []
    store.remove("s5", store.load("s5")[0].message_id or "")
    store.delete("s3")
    store.clear("s1")
    assert all_keys(store, 2, author="42") == []


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"author": ""}, "author"),
        ({"author": 42}, "author"),
        ({"author": "a\n"}, "author"),
        ({"author": "a" * 513}, "author"),
        ({"author_name": "Ada"}, "author_name"),
        ({"platform_id": "\ud800"}, "platform_id"),
        ({"reply_to": b"x"}, "reply_to"),
        ({"tokens": -1}, "tokens"),
        ({"tokens": True}, "tokens"),
        ({"tokens": 1.0}, "tokens"),
        ({"tokens": 10**13}, "tokens"),
    ],
)
def test_what_cannot_be_stored_of_a_person_is_refused(
    store: StoreUnderTest, fields: dict[str, Any], named: str
) -> None:
    message = ChatMessage.user("x", **fields)
    for call in (store.append, store.replace):
        with pytest.raises(InvalidInputError) as raised:
            call("s", message)
        assert raised.value.field == named
    assert contents(store, "s") == []
