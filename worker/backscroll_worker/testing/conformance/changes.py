"""What every store promises of taking messages back, changing them, and forgetting sessions."""

from __future__ import annotations

import pytest

from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import Clock, StoreUnderTest, contents, keys, say


def test_rollback_drops_the_last_message_and_says_so(store: StoreUnderTest) -> None:
    say(store, "s", "first", "second")
    assert store.remove_last("s")
    assert contents(store, "s") == ["first"]


def test_rollback_on_an_empty_or_unknown_session_is_a_no(store: StoreUnderTest) -> None:
    assert not store.remove_last("nobody")
    assert not store.exists("nobody")
    say(store, "s", "only")
    assert store.remove_last("s")
    assert not store.remove_last("s")
    assert store.exists("s")
    assert contents(store, "s") == []


@pytest.mark.parametrize("place", range(4))
def test_rollback_by_id_drops_exactly_that_message(open_store: Open, place: int) -> None:
    with open_store() as store:
        ids = say(store, "s", "a", "b", "c", "d")
        assert store.remove("s", ids[place])
        assert not store.remove("s", ids[place])
    left = [text for index, text in enumerate("abcd") if index != place]
    assert contents(open_store(), "s") == left


def test_rollback_by_id_drops_one_message_of_several_appended_together(open_store: Open) -> None:
    with open_store() as store:
        ids = store.append("s", *(ChatMessage.user(text) for text in "abcd"))
        assert store.remove("s", ids[1])
        assert store.remove("s", ids[3])
        say(store, "s", "e")
    store = open_store()
    assert contents(store, "s") == ["a", "c", "e"]
    assert [message.message_id for message in store.load("s")][:2] == [ids[0], ids[2]]
    assert store.verify() == []


def test_a_message_of_another_session_is_not_rolled_back(store: StoreUnderTest) -> None:
    (other,) = say(store, "other", "mine")
    say(store, "s", "yours")
    assert not store.remove("s", other)
    assert contents(store, "other") == ["mine"]
    assert contents(store, "s") == ["yours"]


def test_the_session_goes_on_after_a_rollback(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a", "b")
        store.remove_last("s")
        say(store, "s", "c")
    assert contents(open_store(), "s") == ["a", "c"]


def test_replace_changes_the_last_message_in_its_place(store: StoreUnderTest) -> None:
    ids = say(store, "s", "a", "b")
    before = store.load("s")[1]
    assert store.replace("s", ChatMessage.assistant("B", edited=True))
    last = store.load("s")[1]
    assert (last.role, last.content, last.extra) == ("assistant", "B", {"edited": True})
    assert (last.message_id, last.created_at) == (ids[1], before.created_at)


@pytest.mark.parametrize("place", range(3))
def test_replace_by_id_changes_exactly_that_message(open_store: Open, place: int) -> None:
    with open_store() as store:
        ids = say(store, "s", "a", "b", "c")
        assert store.replace("s", ChatMessage.user("new"), ids[place])
    store = open_store()
    expected = ["a", "b", "c"]
    expected[place] = "new"
    assert contents(store, "s") == expected
    assert [message.message_id for message in store.load("s")] == ids


def test_replace_takes_the_old_extra_away(store: StoreUnderTest) -> None:
    store.append("s", ChatMessage.user("a", old=1))
    store.replace("s", ChatMessage.user("b"))
    assert store.load("s")[0].extra is None


def test_replace_keeps_the_others_of_one_append(open_store: Open) -> None:
    with open_store() as store:
        ids = store.append("s", *(ChatMessage.user(text) for text in "abc"))
        assert store.replace("s", ChatMessage.user("B"), ids[1])
    assert contents(open_store(), "s") == ["a", "B", "c"]


def test_replace_of_what_is_not_there_is_a_no(store: StoreUnderTest) -> None:
    assert not store.replace("nobody", ChatMessage.user("x"))
    (one,) = say(store, "s", "a")
    store.remove_last("s")
    assert not store.replace("s", ChatMessage.user("x"))
    assert not store.replace("s", ChatMessage.user("x"), one)
    assert contents(store, "s") == []
    assert not store.exists("nobody")


def test_clear_drops_the_messages_and_keeps_the_session(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a", "b", "c")
        store.describe("s", name="Chat", agent="helper", pinned=True)
        assert store.clear("s") == 3
        assert store.clear("s") == 0
    store = open_store()
    info = store.session("s")
    assert info is not None
    assert (info.message_count, info.name, info.agent, info.pinned) == (0, "Chat", "helper", True)
    assert contents(store, "s") == []
    say(store, "s", "again")
    assert contents(store, "s") == ["again"]


def test_clear_of_an_unknown_session_is_a_no(store: StoreUnderTest) -> None:
    assert store.clear("nobody") == 0
    assert not store.exists("nobody")


def test_delete_removes_everything(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a", "b")
        store.describe("s", name="Chat")
        assert store.delete("s")
        assert not store.delete("s")
        assert not store.exists("s")
    store = open_store()
    assert store.load("s") == []
    assert keys(store) == set()


def test_a_deleted_key_begins_anew(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        say(store, "s", "old")
        store.describe("s", name="Old", pinned=True)
        store.delete("s")
        clock.advance(hours=1)
        say(store, "s", "new")
        assert contents(store, "s") == ["new"]
    info = open_store().session("s")
    assert info is not None
    assert (info.name, info.pinned, info.message_count) == (None, False, 1)
    assert info.created_at == from_micros(clock.now)
