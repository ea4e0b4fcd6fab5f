"""What every store promises of a new conversation under the key of another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backscroll.contract.errors import ConflictError
from backscroll.contract.messages import MAX_KEY_CHARS, ChatMessage
from backscroll.contract.results import Outcome
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.late import spooled
from backscroll_worker.testing.conformance.platform import batch, said
from backscroll_worker.testing.conformance.waiting import edit, undo
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    keys,
    requests,
    say,
)

KEPT: Any = {
    "name": "n",
    "room": "r",
    "sender": "42",
    "agent": "a",
    "meta": {"m": 1},
    "pinned": True,
}


def test_a_reset_begins_a_conversation_and_keeps_the_last(open_keeping: Open, clock: Clock) -> None:
    reset = requests.reset("s")
    with open_keeping() as store:
        store.append(
            "s", ChatMessage.user("one", author="42"), ChatMessage.user("to"), session=KEPT
        )
        store.replace("s", ChatMessage.user("two"))
        store.set_state("s", {"step": 3})
        before, messages = store.session("s"), store.load("s", include_edits=True)
        clock.advance(seconds=60)
        assert apply_all(store, [reset]) == [Outcome(2)]
        say(store, "s", "three")
    with open_keeping() as store:
        assert apply_all(store, [reset]) == [Outcome(2, duplicate=True)]
        new, past = store.sessions(room="r").sessions
        assert before is not None
        assert past == replace(before, key=reset.past_key)
        assert store.load(past.key, include_edits=True) == messages
        assert (new.key, new.continued_from, new.message_count) == ("s", past.key, 1)
        assert new.created_at > past.created_at
        assert all(getattr(new, name) == value for name, value in KEPT.items())
        assert store.get_state("s") == store.get_state(past.key)
        assert store.set_state("s", {}) == 2
        assert store.get_state(past.key).value == {"step": 3}
        assert contents(store, "s") == ["three"]
        assert {hit.key for hit in store.search("two")} == {past.key}
        assert [info.key for info in store.sessions(author="42")] == [past.key]
        assert {info.key for info in store.sessions(name="n")} == {"s", past.key}
        assert {info.key for info in store.sessions(meta={"m": 1})} == {"s", past.key}
        second = store.reset("s")
        assert second is not None
        info = store.session(second)
        assert info is not None
        assert (info.continued_from, contents(store, second)) == (past.key, ["three"])
        assert store.verify(deep=True) == []


def test_a_reset_of_nothing_changes_nothing(store: StoreUnderTest) -> None:
    assert store.reset("s") is None
    store.describe("s", name="n")
    assert store.reset("s") is None
    assert keys(store) == {"s"}
    long = "k" * MAX_KEY_CHARS
    say(store, long, "x")
    past = store.reset(long)
    assert past is not None
    assert (len(past), contents(store, past), contents(store, long)) == (MAX_KEY_CHARS, ["x"], [])


def test_a_reset_can_be_undone(store: StoreUnderTest) -> None:
    say(store, "s", "1", "2")
    past = store.reset("s") or ""
    say(store, "s", "3")
    store.rename("s", "aside")
    store.rename(past, "s")
    assert (contents(store, "s"), contents(store, "aside")) == (["1", "2"], ["3"])


def test_a_new_conversation_knows_what_was_said_before(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "1", "2", "3"), undo("s", "3"), edit("s", "9", "early")])
        past = store.reset("s") or ""
        group = [batch("s", "1", "3", "4"), edit("s", "2", "no"), undo("s", "2")]
        assert [each.affected for each in apply_all(store, group)] == [1, 0, 0]
    with open_store() as store:
        apply_all(store, [batch("s", "2", "9"), batch(past, "3", "5")])
        assert (said(store, past), said(store, "s")) == (["1", "2", "5"], ["4", "9"])
        assert (contents(store, "s")[1], store.totals().waiting_changes) == ("early", 0)


def test_a_reset_ends_the_turn_that_runs(open_store: Open) -> None:
    with open_store() as store:
        turn = store.begin_turn("s", ChatMessage.user("hi"))
        store.close_session("s")
        past = store.reset("s") or ""
        again = store.begin_turn("s", ChatMessage.user("hi again"))
        for key in ("s", past):
            with pytest.raises(ConflictError):
                store.end_turn(key, turn)
    with open_store() as store:
        infos = {info.key: info for info in store.sessions()}
        assert (infos[past].state, infos[past].closed) == ("idle", True)
        assert (infos["s"].turn_id, infos["s"].closed) == (again, False)


def test_what_was_spooled_before_a_reset_is_for_the_past(todays: Open) -> None:
    early = [requests.append("s", (ChatMessage.user(text),), None) for text in ("late", "slow")]
    name = spooled(requests.describe("s", {"name": "old"}))
    old_reset = spooled(requests.reset("s"))
    with todays() as store:
        say(store, "s", "1")
        past = store.reset("s") or ""
        say(store, "s", "2")
    with todays() as store:
        apply_all(store, [spooled(early[0]), name, early[1]])
        assert (contents(store, past), contents(store, "s")) == (["1", "late"], ["2", "slow"])
        assert apply_all(store, [spooled(early[1])]) == [Outcome(1, duplicate=True)]
        assert (contents(store, past), contents(store, "s")) == (["1", "late"], ["2", "slow"])
        (info,) = store.sessions(name="old")
        assert info.key == past
        apply_all(store, [old_reset])
        assert len(keys(store)) == 3
        assert contents(store, "s") == []


@pytest.mark.needs("erasure")
def test_what_is_late_for_an_erased_past_is_not_stored(todays: Open) -> None:
    late = [requests.append("s", (ChatMessage.user("late"),), None), requests.describe("s", KEPT)]
    with todays() as store:
        store.append("s", ChatMessage.user("1"), session={"sender": "42"})
        store.reset("s")
        apply_all(store, [requests.describe("s", {"sender": "another"})])
        new = requests.append("s", (ChatMessage.user("new"),), None)
        apply_all(store, [requests.erase(sender="42"), *late, new])
    with todays() as store:
        assert (keys(store), contents(store, "s")) == ({"s"}, ["new"])


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("first", ["past", "past of the past"])
def test_a_late_write_is_of_an_erased_past_however_far_back(todays: Open, first: str) -> None:
    """A past session may be reset, too, and its sessions are erased in any order."""
    late = requests.append("s", (ChatMessage.user("late"),), None)
    with todays() as store:
        say(store, "s", "1")
        past = store.reset("s") or ""
        distant = store.reset(past) or ""
        say(store, past, "2")
        keys_of = {"past": (past, distant), "past of the past": (distant, past)}
        for key in keys_of[first]:
            finish(store.erase(key=key))
        assert apply_all(store, [late]) == [Outcome(0)]
    with todays() as store:
        assert (keys(store), contents(store, "s")) == ({"s"}, [])


@pytest.mark.needs("erasure")
def test_the_erasure_of_one_past_leaves_the_way_to_another(todays: Open) -> None:
    late = requests.append("s", (ChatMessage.user("late"),), None)
    with todays() as store:
        say(store, "s", "1")
        past = store.reset("s") or ""
        distant = store.reset(past) or ""
        say(store, past, "2")
        finish(store.erase(key=past))
    with todays() as store:
        apply_all(store, [spooled(late)])
        assert (contents(store, distant), contents(store, "s")) == (["1", "late"], [])


@pytest.mark.needs("archive")
def test_the_past_is_archived_by_itself(open_store: Open, clock: Clock, archive: Archive) -> None:
    with open_store() as store:
        say(store, "s", "1")
        past = store.reset("s") or ""
        say(store, "s", "2")
        before = store.sessions().sessions
        clock.advance(hours=2)
        assert finish(store.cleanup(1, archive=archive)).sessions == 2
        for key in (past, "s"):
            assert bring_back(store, archive, key).messages == 1
        assert sorted(store.sessions(), key=str) == sorted(before, key=str)
        assert found(store, "1") == {"1"}
