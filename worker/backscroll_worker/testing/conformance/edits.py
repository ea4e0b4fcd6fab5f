"""What every store promises of the earlier versions of replaced messages."""

from __future__ import annotations

import pytest

from backscroll.contract.messages import ChatMessage, EarlierVersion, from_micros
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    open_tested,
    requests,
    say,
)

NEEDS = "edits"


@pytest.fixture
def keeping(open_keeping: Open) -> StoreUnderTest:
    return open_keeping()


def earlier(store: StoreUnderTest, key: str) -> list[list[str]]:
    """What each message of a session said before, oldest first."""
    messages = store.load(key, include_edits=True)
    return [[edit.content for edit in message.edits] for message in messages]


def test_a_replaced_message_keeps_what_it_was_and_until_when(
    open_keeping: Open, clock: Clock
) -> None:
    with open_keeping() as store:
        store.append("s", ChatMessage("user", "a\0", {"n": [1]}))
        clock.advance(seconds=1)
        store.replace("s", ChatMessage("assistant", "b"))
        clock.advance(seconds=1)
        store.replace("s", ChatMessage("assistant", "c", {}))
        now = clock.now
    (message,) = open_keeping().load("s", include_edits=True)
    assert (message.role, message.content, message.extra) == ("assistant", "c", {})
    assert message.edits == (
        EarlierVersion("user", "a\0", {"n": [1]}, from_micros(now - 1_000_000)),
        EarlierVersion("assistant", "b", None, from_micros(now)),
    )


def test_edits_are_loaded_only_when_they_are_asked_for(keeping: StoreUnderTest) -> None:
    say(keeping, "s", "a")
    keeping.replace("s", ChatMessage.user("b"))
    assert keeping.load("s")[0].edits == ()
    assert earlier(keeping, "s") == [["a"]]


def test_without_the_setting_nothing_is_kept_but_what_was_stays(
    open_keeping: Open, url: str, clock: Clock
) -> None:
    with open_keeping() as store:
        say(store, "s", "a")
        store.replace("s", ChatMessage.user("b"))
    with open_tested(url, clock=clock) as store:
        store.replace("s", ChatMessage.user("c"))
        say(store, "s", "x")
        store.replace("s", ChatMessage.user("y"))
        assert contents(store, "s") == ["c", "y"]
        assert earlier(store, "s") == [["a"], []]


def test_the_same_text_again_is_no_edit(keeping: StoreUnderTest) -> None:
    keeping.append("s", ChatMessage.user("a", n=1))
    assert keeping.replace("s", ChatMessage.user("a", n=1))
    assert earlier(keeping, "s") == [[]]


def test_any_message_of_several_keeps_its_own_edits(open_keeping: Open) -> None:
    with open_keeping() as store:
        ids = store.append("s", *(ChatMessage.user(text) for text in "abc"))
        store.replace("s", ChatMessage.user("B"), ids[1])
        store.replace("s", ChatMessage.user("C"))
        store.replace("s", ChatMessage.user("BB"), ids[1])
        assert store.remove("s", ids[0])
    store = open_keeping()
    assert contents(store, "s") == ["BB", "C"]
    assert earlier(store, "s") == [["b", "B"], ["c"]]
    assert [message.message_id for message in store.load("s")] == ids[1:]


def test_within_one_group_each_replacement_counts(keeping: StoreUnderTest) -> None:
    said = requests.append("s", (ChatMessage.user("a"),), None)
    changes = [requests.replace("s", ChatMessage.user(text), None) for text in "bc"]
    load = requests.load("s", None, None, include_edits=True)
    plain = requests.load("s", None, None)
    *_, full, bare = keeping.apply([said, *changes, load, plain])
    assert isinstance(full, list)
    assert isinstance(bare, list)
    assert [m.edits and m.edits[0].content for m in full if isinstance(m, ChatMessage)] == ["a"]
    assert bare == [ChatMessage("user", "c", None, said.op_id, from_micros(said.at))]


def test_a_replacement_that_comes_again_adds_no_edit(open_keeping: Open) -> None:
    with open_keeping() as store:
        say(store, "s", "a")
        operation = requests.replace("s", ChatMessage.user("b"), None)
        apply_all(store, [operation])
        assert apply_all(store, [operation])[0].duplicate
    store = open_keeping()
    assert apply_all(store, [operation])[0].duplicate
    assert earlier(store, "s") == [["a"]]


def test_paging_back_brings_the_edits_of_its_page(keeping: StoreUnderTest) -> None:
    ids = say(keeping, "s", *"abcd")
    for message_id in ids:
        keeping.replace("s", ChatMessage.user("new"), message_id)
    page = keeping.load("s", 2, ids[3], include_edits=True)
    assert [[edit.content for edit in message.edits] for message in page] == [["b"], ["c"]]
    assert keeping.load("s", 5, ids[0], include_edits=True) == []


@pytest.mark.needs("search")
def test_search_finds_the_current_text_only(keeping: StoreUnderTest) -> None:
    say(keeping, "s", "apple")
    keeping.replace("s", ChatMessage.user("pear"))
    assert found(keeping, "apple") == set()
    assert found(keeping, "pear") == {"pear"}
    assert keeping.search("pear")[0].message.edits == ()
    assert keeping.verify() == []


@pytest.mark.parametrize("gone", ["rollback", "clear", "delete", "cleanup"])
def test_edits_go_with_their_message(open_keeping: Open, clock: Clock, gone: str) -> None:
    with open_keeping() as store:
        say(store, "s", "first secret")
        store.replace("s", ChatMessage.user("b"))
        if gone == "rollback":
            store.remove_last("s")
        elif gone == "cleanup":
            clock.now += 2 * HOUR
            assert finish(store.cleanup(1)).sessions == 1
        else:
            getattr(store, gone)("s")
    store = open_keeping()
    say(store, "s", "new")
    assert earlier(store, "s") == [[]]
    assert store.verify() == []


def test_an_imported_session_brings_its_edits(open_keeping: Open) -> None:
    old = EarlierVersion("user", "was", {"k": None}, from_micros(5))
    message = ChatMessage("user", "is", None, "some-id", from_micros(3), (old,))
    operation = ImportSession("import", 1, "s", (message,), {}, 1_000, 2_000)
    with open_keeping() as store:
        apply_all(store, [operation])
        say(store, "s", "more")
    store = open_keeping()
    assert store.load("s", include_edits=True)[0] == message
    assert store.load("s")[0].edits == ()
    store.replace("s", ChatMessage.user("will be"), "some-id")
    assert earlier(store, "s")[0] == ["was", "is"]


def test_edits_that_are_sent_have_no_effect(keeping: StoreUnderTest) -> None:
    edit = EarlierVersion("user", "forged", None, from_micros(5))
    keeping.append("s", ChatMessage("user", "a", edits=(edit,)))
    assert earlier(keeping, "s") == [[]]
