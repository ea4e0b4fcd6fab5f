"""What every store promises of sessions: attributes, states, listing."""

from __future__ import annotations

from typing import Any

import pytest

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionInfo, from_micros
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, keys, requests, say


def info(store: StoreUnderTest, key: str) -> SessionInfo:
    found = store.session(key)
    assert found is not None
    return found


def test_a_session_knows_when_it_began_and_what_it_holds(open_store: Open, clock: Clock) -> None:
    began = from_micros(clock.now)
    with open_store() as store:
        say(store, "s", "a")
        clock.advance(hours=3, micros=1)
        say(store, "s", "b", "c")
    session = info(open_store(), "s")
    assert session.created_at == began
    assert session.last_activity == from_micros(clock.now)
    assert session.message_count == 3


def test_times_are_the_stores_whatever_the_adapters_clock_says(
    store: StoreUnderTest, clock: Clock
) -> None:
    store.append("s", ChatMessage("user", "old", created_at=from_micros(5)))
    assert info(store, "s").created_at == info(store, "s").last_activity == from_micros(clock.now)


def test_rollback_replace_and_clear_are_activity(store: StoreUnderTest, clock: Clock) -> None:
    say(store, "s", "a", "b")
    for operation in (
        requests.rollback("s", None),
        requests.replace("s", ChatMessage.user("c"), None),
        requests.clear("s"),
        requests.clear("s"),
    ):
        clock.advance(seconds=10)
        apply_all(store, [operation])
        assert info(store, "s").last_activity == from_micros(clock.now)


def test_what_changes_nothing_is_no_activity(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        say(store, "s", "a")
        before = info(store, "s").last_activity
        clock.advance(hours=1)
        assert not store.remove("s", "no-such-id")
        assert not store.replace("s", ChatMessage.user("x"), "no-such-id")
        store.describe("s", name="described")
        store.load("s")
        assert info(store, "s").last_activity == before
    assert info(open_store(), "s").last_activity == before


def test_every_attribute_is_kept(open_store: Open) -> None:
    attributes = {
        "name": "Größe 大 🙂",
        "agent": "helper",
        "channel": "telegram",
        "room": "room/1",
        "sender": "alice",
    }
    with open_store() as store:
        store.describe("s", **attributes, pinned=True)
    session = info(open_store(), "s")
    assert {name: getattr(session, name) for name in attributes} == attributes
    assert session.pinned is True


def test_only_the_attributes_given_change_and_none_clears_one(store: StoreUnderTest) -> None:
    store.describe("s", name="one", room="lobby", pinned=True)
    store.describe("s", name="two", room=None)
    session = info(store, "s")
    assert (session.name, session.room, session.pinned) == ("two", None, True)


def test_describing_creates_the_session_and_keeps_its_messages(store: StoreUnderTest) -> None:
    store.describe("new", name="empty")
    assert info(store, "new").message_count == 0
    say(store, "s", "a")
    store.describe("s", name="Chat")
    assert info(store, "s").message_count == 1


def test_a_new_session_is_idle_and_not_pinned(store: StoreUnderTest) -> None:
    say(store, "s", "a")
    session = info(store, "s")
    assert (session.state, session.turn_id, session.turn_started_at, session.pinned) == (
        "idle",
        None,
        None,
        False,
    )


def test_running_has_a_turn_and_a_start_time(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        say(store, "s", "a")
        clock.advance(seconds=5)
        store.describe("s", state="running", turn_id="turn-1")
    session = info(open_store(), "s")
    assert (session.state, session.turn_id) == ("running", "turn-1")
    assert session.turn_started_at == from_micros(clock.now)


@pytest.mark.parametrize("state", ["idle", "error"])
def test_another_state_ends_the_turn(store: StoreUnderTest, state: str) -> None:
    store.describe("s", state="running", turn_id="turn-1")
    store.describe("s", state=state)
    session = info(store, "s")
    assert (session.state, session.turn_id, session.turn_started_at) == (state, None, None)


def test_listing_is_newest_activity_first(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        for key in ("a", "b", "c"):
            say(store, key, "x")
            clock.advance(micros=1)
        say(store, "a", "again")
    assert [i.key for i in open_store().sessions().sessions] == ["a", "c", "b"]


def test_an_empty_store_lists_nothing(store: StoreUnderTest) -> None:
    page = store.sessions()
    assert (page.sessions, page.cursor) == ((), None)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_hold_every_session_once(store: StoreUnderTest, clock: Clock, limit: int) -> None:
    expected = [f"session/{number}" for number in range(7)]
    for number, key in enumerate(expected):
        say(store, key, "x")
        clock.advance(micros=number % 2)  # some at the same moment
    seen, cursor = list[SessionInfo](), None
    for _ in range(10):
        page = store.sessions(limit=limit, cursor=cursor)
        assert len(page.sessions) <= limit
        seen += page.sessions
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(session.key for session in seen) == expected
    times = [session.last_activity for session in seen]
    assert times == sorted(times, reverse=True)


def test_a_full_last_page_has_no_cursor(store: StoreUnderTest) -> None:
    for key in "abcd":
        say(store, key, "x")
    first = store.sessions(limit=2)
    assert first.cursor is not None
    assert store.sessions(limit=2, cursor=first.cursor).cursor is None


def test_a_session_that_comes_between_pages_does_not_disturb_them(
    store: StoreUnderTest, clock: Clock
) -> None:
    for key in "abcd":
        say(store, key, "x")
        clock.advance(seconds=1)
    first = store.sessions(limit=2)
    say(store, "new", "x")
    second = store.sessions(limit=2, cursor=first.cursor)
    assert [i.key for i in (*first.sessions, *second.sessions)] == ["d", "c", "b", "a"]


def test_paging_works_with_the_longest_keys(store: StoreUnderTest, clock: Clock) -> None:
    names = ["🙂" * 511 + str(number) for number in range(3)]
    for key in names:
        say(store, key, "x")
    first = store.sessions(limit=2)
    second = store.sessions(limit=2, cursor=first.cursor)
    assert {i.key for i in (*first.sessions, *second.sessions)} == set(names)


@pytest.mark.parametrize("cursor", ["x", "1-", "-", "1", "''; --"])
def test_a_cursor_that_no_page_gave_is_refused(store: StoreUnderTest, cursor: str) -> None:
    say(store, "s", "x")
    with pytest.raises(OperationRefusedError, match="cursor"):
        store.sessions(cursor=cursor)


@pytest.mark.parametrize("name", ["agent", "channel", "room", "sender"])
def test_sessions_are_listed_by_attribute(store: StoreUnderTest, name: str) -> None:
    this: dict[str, Any] = {name: "this"}
    that: dict[str, Any] = {name: "that"}
    store.describe("a", **this)
    store.describe("b", **that)
    say(store, "c", "neither")
    assert [i.key for i in store.sessions(**this).sessions] == ["a"]
    assert [i.key for i in store.sessions(**that).sessions] == ["b"]


def test_filters_are_joined_by_and_and_page(store: StoreUnderTest, clock: Clock) -> None:
    for number in range(6):
        store.describe(
            f"s{number}", channel="slack" if number % 2 else "web", agent="a" if number < 4 else "b"
        )
        clock.advance(seconds=1)
    first = store.sessions(channel="slack", agent="a", limit=1)
    second = store.sessions(channel="slack", agent="a", limit=1, cursor=first.cursor)
    assert [i.key for i in (*first.sessions, *second.sessions)] == ["s3", "s1"]
    assert second.cursor is None


def test_sessions_are_listed_by_state_and_pin(store: StoreUnderTest) -> None:
    store.describe("runs", state="running")
    store.describe("failed", state="error", pinned=True)
    say(store, "quiet", "x")
    assert {i.key for i in store.sessions(state="running").sessions} == {"runs"}
    assert {i.key for i in store.sessions(state="error").sessions} == {"failed"}
    assert {i.key for i in store.sessions(state="idle").sessions} == {"quiet"}
    assert {i.key for i in store.sessions(pinned=True).sessions} == {"failed"}
    assert {i.key for i in store.sessions(pinned=False).sessions} == {"runs", "quiet"}


def test_stuck_sessions_have_been_running_for_longer(store: StoreUnderTest, clock: Clock) -> None:
    store.describe("old", state="running", turn_id="t")
    store.describe("done", state="running")
    store.describe("done", state="idle")
    clock.advance(seconds=60)
    store.describe("fresh", state="running")
    assert store.sessions(stuck_seconds=60).sessions == ()
    clock.advance(micros=1)
    assert [i.key for i in store.sessions(stuck_seconds=60).sessions] == ["old"]
    assert {i.key for i in store.sessions(stuck_seconds=0).sessions} == {"old", "fresh"}


def test_an_agent_is_renamed_in_all_its_sessions(open_store: Open) -> None:
    with open_store() as store:
        for key in ("a", "b/c"):
            store.describe(key, agent="old", name=key)
        store.describe("other", agent="another")
        assert store.rename_agent("old", "new") == 2
        assert store.rename_agent("old", "new") == 0
    store = open_store()
    assert {i.key for i in store.sessions(agent="new").sessions} == {"a", "b/c"}
    assert {i.key for i in store.sessions(agent="another").sessions} == {"other"}
    assert info(store, "b/c").name == "b/c"


def test_an_agents_alias_is_cleared_in_all_its_sessions(store: StoreUnderTest) -> None:
    store.describe("a", agent="old")
    store.describe("b", agent="old")
    assert store.rename_agent("old", None) == 2
    assert store.sessions(agent="old").sessions == ()
    assert keys(store) == {"a", "b"}


def test_counts_follow_every_change(open_store: Open) -> None:
    with open_store() as store:
        ids = store.append("s", *(ChatMessage.user(text) for text in "abcde"))
        store.remove("s", ids[1])
        store.remove_last("s")
        store.replace("s", ChatMessage.user("x"))
        say(store, "s", "y", "z")
        assert info(store, "s").message_count == len(store.load("s")) == 5
    assert info(open_store(), "s").message_count == 5
