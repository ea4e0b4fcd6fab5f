"""What every store promises of attributes that come with an append."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from backscroll.contract.codec import decode, encode
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    keys,
    requests,
    say,
)

Open = Callable[[], StoreUnderTest]
HI = ChatMessage.user("hi")
OF_ANN = {"channel": "telegram", "sender": "ann", "name": "Café plans"}


def test_attributes_that_come_with_an_append_are_the_sessions(store: StoreUnderTest) -> None:
    store.append("s", HI, session={**OF_ANN, "pinned": True, "state": "running", "turn_id": "t"})
    info = store.session("s")
    assert info is not None
    assert (info.channel, info.sender, info.name) == ("telegram", "ann", "Café plans")
    assert (info.pinned, info.state, info.turn_id, info.message_count) == (True, "running", "t", 1)
    assert info.turn_started_at == info.last_activity
    for where in ({"channel": "telegram"}, {"sender": "ann"}, {"name": "caf"}, {"pinned": True}):
        assert [found.key for found in store.sessions(**where)] == ["s"], where


def test_only_those_given_change_and_none_clears_one(store: StoreUnderTest) -> None:
    store.describe("s", agent="a", room="r", pinned=True)
    store.append("s", HI, session={"room": None, "channel": "web"})
    info = store.session("s")
    assert info is not None
    assert (info.agent, info.room, info.channel, info.pinned) == ("a", None, "web", True)
    store.append("s", HI, session={})
    assert store.sessions(channel="web", agent="a").sessions[0].message_count == 2


def test_an_append_that_was_applied_before_describes_nothing(store: StoreUnderTest) -> None:
    operation = requests.append("s", (HI,), "1", {"sender": "ann"})
    apply_all(store, [operation])
    store.describe("s", sender="bob")
    (again,) = apply_all(store, [operation])
    assert again.duplicate
    assert [found.key for found in store.sessions(sender="bob")] == ["s"]


def test_a_turn_that_goes_on_keeps_its_beginning(store: StoreUnderTest, clock: Clock) -> None:
    turn = {"state": "running", "turn_id": "1"}
    store.append("s", HI, session=turn)
    began = store.session("s")
    clock.advance(seconds=60)
    store.append("s", HI, session={**turn, "channel": "web"})
    goes_on = store.session("s")
    assert began is not None
    assert goes_on is not None
    assert goes_on.turn_started_at == began.turn_started_at
    assert [found.key for found in store.sessions(stuck_seconds=30)] == ["s"]
    store.append("s", HI, session={"state": "running", "turn_id": "2"})
    assert store.sessions(stuck_seconds=30).sessions == ()
    store.append("s", HI, session={"state": "idle"})
    ended = store.session("s")
    assert ended is not None
    assert (ended.state, ended.turn_id, ended.turn_started_at) == ("idle", None, None)


def test_it_is_there_after_reopening_in_a_group_with_others(open_store: Open) -> None:
    with open_store() as store:
        described = [
            requests.append("s", (HI,), None, {"sender": sender}) for sender in ("ann", "bob")
        ]
        plain = requests.append("s", (HI,), None)
        answers = store.apply([plain, *described, requests.session("s")])
        assert answers[-1].sender == "bob"
    (info,) = open_store().sessions(sender="bob")
    assert (info.key, info.message_count) == ("s", 3)


@pytest.mark.needs("erasure")
def test_after_an_erasure_the_next_append_describes_the_session_anew(
    store: StoreUnderTest, clock: Clock
) -> None:
    for _ in range(2):
        store.append("s", HI, session=OF_ANN)
        clock.now = max(clock.now, requests.session("s").at) + 1_000_000
        receipt = finish(store.erase(sender="ann"))
        assert (receipt.sessions, receipt.messages) == (1, 1)
        assert keys(store) == set()


@pytest.mark.needs("erasure")
def test_an_append_from_before_the_erasure_of_its_sender_is_dropped(
    store: StoreUnderTest, clock: Clock
) -> None:
    late = requests.append("s", (ChatMessage.user("late"),), None, {"sender": "ann"})
    clock.now = late.at + 1_000_000
    say(store, "s", "of nobody known")
    finish(store.erase(sender="ann"))
    apply_all(store, [late])
    assert contents(store, "s") == []
    fresh = replace(late, op_id="f" * 32, at=late.at + 60_000_000)
    apply_all(store, [fresh])
    assert contents(store, "s") == ["late"]


@pytest.mark.parametrize("session", [{"nick": "x"}, {"sender": 7}, {"name": ""}, {"state": "x"}])
def test_attributes_that_a_session_cannot_have_are_refused(
    session: dict[str, object], store: StoreUnderTest
) -> None:
    with pytest.raises(InvalidInputError):
        store.append("s", HI, session=session)  # type: ignore[arg-type]
    assert keys(store) == set()


def test_they_are_part_of_the_job_and_an_append_without_them_is_unchanged() -> None:
    plain = requests.append("s", (HI,), None)
    assert b"session" not in encode(plain)
    described = requests.append("s", (HI,), None, OF_ANN)
    assert isinstance(described, Append)
    assert decode(described.op_id, encode(described)) == described
