"""What every store promises of two sessions that become one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backscroll.contract.errors import ConflictError, InvalidInputError, OperationRefusedError
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Erase
from backscroll.contract.results import Outcome
from backscroll_worker.contract import merging
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.attachments import (
    CAT,
    DOG,
    OF_CAT,
    OF_DOG,
    blobs,
    with_data,
)
from backscroll_worker.testing.conformance.late import spooled
from backscroll_worker.testing.conformance.platform import batch, said
from backscroll_worker.testing.conformance.waiting import edit, undo
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    requests,
    say,
)

NOON = 1_750_000_000_000_000


def timed(*seconds: int, author: str | None = None) -> tuple[ChatMessage, ...]:
    return tuple(
        ChatMessage.user(f"at {at}", author=author, created_at=from_micros(NOON + at * 1_000_000))
        for at in seconds
    )


def test_a_merge_has_the_messages_in_the_order_of_time(open_keeping: Open) -> None:
    merge = requests.merge("a", "b")
    with open_keeping() as store:
        store.append("b", *timed(1, 4, 9), session={"name": "b", "room": "r"})
        early = store.append("a", *timed(0, 5, 3, 6), session={"name": "a", "channel": "c"})
        store.append("b", *timed(2, 10))
        store.replace("a", ChatMessage.user("edited"), early[1])
        say(store, "other", "x")
        before, first = store.load("a", include_edits=True), store.session("a")
        assert apply_all(store, [merge]) == [Outcome(4)]
    with open_keeping() as store:
        assert apply_all(store, [merge]) == [Outcome(4, duplicate=True)]
        # Each session's own order stays: "at 3" was said after what is of 5.
        order = ["at 0", "at 1", "at 4", "edited", "at 3", "at 6", "at 9", "at 2", "at 10"]
        assert contents(store, "b") == order
        kept = [each for each in store.load("b", include_edits=True) if each in before]
        assert kept == before
        assert kept[1].edits[0].content == "at 5"
        info = store.session("b")
        assert info is not None
        assert first is not None
        assert (info.name, info.room, info.channel, info.message_count) == ("b", "r", None, 9)
        assert keys(store) == {"b", "other"}
        assert {hit.key for hit in store.search("at")} == {"b"}
        assert found(store, "edited") == {"edited"}
        assert [hit.message.content for hit in store.search("6")] == ["at 6"]
        assert store.verify(deep=True) == []
        assert store.rewind("b", early[3]) == 3
        assert store.remove("b", early[0])
        store.replace("b", ChatMessage.user("again"), early[1])
        assert contents(store, "b") == ["at 1", "at 4", "again", "at 3", "at 6"]
        assert store.verify(deep=True) == []


@pytest.mark.needs("erasure")
def test_a_merge_after_an_authors_erasure_is_in_the_order_of_time(store: StoreUnderTest) -> None:
    store.append("b", *timed(1, author="x"), *timed(4))
    erasure = requests.erase(author="x")
    apply_all(store, [erasure])
    finish(store.store.erase(erasure))
    store.append("a", *timed(3))
    store.merge("a", "b")
    assert contents(store, "b") == ["at 3", "at 4"]


def test_what_is_said_under_the_merged_key_is_for_the_other(todays: Open) -> None:
    with todays() as store:
        first = [requests.append(key, (ChatMessage.user(key),), "1") for key in ("a", "b")]
        late = [requests.append("a", (ChatMessage.user(text),), None) for text in ("late", "too")]
        apply_all(store, [*first, requests.merge("a", "b")])
    with todays() as store:
        apply_all(store, [late[0], spooled(late[1])])
        assert all(each.duplicate for each in apply_all(store, [*first, *late]))
        assert (keys(store), contents(store, "b")) == ({"b"}, ["a", "b", "late", "too"])
        say(store, "a", "new")
        assert contents(store, "a") == ["new"]


def test_a_message_that_both_have_is_there_once(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [batch("a", "1", "2", "3"), batch("b", "2", "4", "5"), undo("a", "3")])
        apply_all(store, [edit("b", "2", "as b has it"), edit("a", "8", "early"), undo("b", "9")])
        assert store.merge("a", "b") == 1
    with open_store() as store:
        assert sorted(map(str, said(store, "b"))) == ["1", "2", "4", "5"]
        assert "as b has it" in contents(store, "b")
        apply_all(store, [batch("b", "1", "2", "3", "5", "8", "9")])
        assert said(store, "b")[-1] == "8"
        assert contents(store, "b")[-1] == "early"
        assert store.verify(deep=True) == []


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("way", ["merge", "rename"])
def test_what_waits_since_an_erasure_goes_along(todays: Open, way: str) -> None:
    with todays() as store:
        finish(store.erase(key="other"))
        apply_all(store, [batch("a", "1"), edit("a", "2", "early")])
        if way == "merge":
            say(store, "b", "0")
        getattr(store, way)("a", "b")
    with todays() as store:
        apply_all(store, [batch("b", "2")])
        assert contents(store, "b")[-1] == "early"


def test_what_waits_stays_where_it_is_if_there_is_nothing_to_merge(store: StoreUnderTest) -> None:
    apply_all(store, [undo("a", "1"), edit("a", "2", "early"), requests.merge("a", "b")])
    apply_all(store, [batch(key, "1", "2") for key in ("b", "a")])
    assert (said(store, "b"), contents(store, "a")) == (["1", "2"], ["early"])


def test_a_merge_waits_for_no_turn_and_opens_nothing(store: StoreUnderTest) -> None:
    say(store, "a", "1")
    turn = store.begin_turn("b", ChatMessage.user("hi"))
    refused = requests.merge("a", "b")
    for operation in (refused, requests.merge("b", "a")):
        assert apply_all(store, [operation]) == [Outcome(0, conflict=True)]
    store.end_turn("b", turn)
    store.close_session("b")
    with pytest.raises(ConflictError, match="'b' is closed"):
        store.merge("a", "b")
    store.reopen_session("b")
    assert apply_all(store, [refused]) == [Outcome(0, duplicate=True, conflict=True)]
    assert (store.merge("nobody", "b"), store.merge("b", "c"), keys(store)) == (0, 1, {"a", "c"})
    with pytest.raises(InvalidInputError):
        store.merge("a", "a")


def test_too_much_to_be_merged_at_once_is_refused(
    store: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merging, "MOST_MOVED", 3)
    store.append("a", *timed(1, 2, 3, 4))
    store.append("b", *timed(5))
    with pytest.raises(OperationRefusedError, match="4 messages, and 3 are the most"):
        store.merge("a", "b")
    assert (len(store.load("a")), len(store.load("b")), store.merge("b", "a")) == (4, 1, 1)
    assert store.verify(deep=True) == []


@pytest.mark.needs("attachments")
def test_attachments_stay_with_their_messages(open_store: Open) -> None:
    cat, dog = with_data(CAT), with_data(DOG)
    with open_store() as store:
        store.append("b", replace(cat, created_at=from_micros(NOON + 1)))
        early = store.append("a", replace(dog, created_at=from_micros(NOON)))
        store.merge("a", "b")
    with open_store() as store:
        assert (store.attachment("b", OF_CAT), store.attachment("b", OF_DOG)) == (CAT, DOG)
        store.remove("b", early[0])
        finish(store.compact(1_000))
        assert (store.attachment("b", OF_CAT), store.attachment("b", OF_DOG)) == (CAT, None)
        assert (blobs(store), contents(store, "b")) == (1, ["look"])


@pytest.mark.needs("erasure")
def test_an_erasure_under_way_finds_what_is_merged(store: StoreUnderTest) -> None:
    for key in ("a", "b"):
        store.append(key, *timed(*range(100), author="ada"), *timed(100, author="eve"))
    erase = requests.erase(author="ada")
    assert isinstance(erase, Erase)
    apply_all(store, [erase])
    slices = store.store.erase(erase)
    next(slices)
    store.append("b", *timed(101, author="ada"))
    store.merge("b", "a")
    receipt = finish(slices)
    assert (receipt.sessions, receipt.messages) == (2, 200)
    assert contents(store, "a") == ["at 100", "at 100", "at 101"]
    assert store.verify(deep=True) == []
    info = store.session("a")
    assert info is not None
    assert info.message_count == 3


@pytest.mark.needs("erasure")
def test_an_erasure_elsewhere_leaves_merges_in_the_order_of_time(store: StoreUnderTest) -> None:
    store.append("other", *timed(0, author="ada"))
    finish(store.erase(author="ada"))
    store.append("b", *timed(1, 4))
    store.append("a", *timed(0, 3))
    store.merge("a", "b")
    assert contents(store, "b") == ["at 0", "at 1", "at 3", "at 4"]


@pytest.mark.needs("erasure")
def test_a_merge_during_an_authors_erasure_keeps_the_order_of_time(open_store: Open) -> None:
    erase = requests.erase(author="ada")
    assert isinstance(erase, Erase)
    with open_store() as store:
        store.append("b", *timed(1, 4, 9), *timed(10, author="ada"), with_data(CAT))
        store.append("a", *timed(0, 5), *timed(6, author="ada"), *timed(7))
        apply_all(store, [erase])
        store.append("a", *timed(8, author="ada"))
        assert store.merge("a", "b") == 4
        finish(store.store.erase(erase))
        order = ["at 0", "at 1", "at 4", "at 5", "at 7", "at 8", "at 9", "look"]
        assert contents(store, "b") == order
        say(store, "b", "last")
    with open_store() as store:
        assert contents(store, "b") == [*order, "last"]
        assert found(store, "at") == set(order[:-1])
        assert store.attachment("b", OF_CAT) == CAT
        assert store.verify(deep=True) == []


@pytest.mark.needs("erasure")
def test_an_erasure_takes_what_was_merged(todays: Open) -> None:
    with todays() as store:
        for key in ("a", "b", "c"):
            store.append(key, *timed(1, author="ada"), *timed(2, author="eve"))
        late = [requests.append(key, timed(3), None) for key in ("a", "b", "c")]
        store.merge("a", "c")
        store.merge("b", "c")
        finish(store.erase(author="ada"))
        assert contents(store, "c") == ["at 2"] * 3
        finish(store.erase(key="c"))
        assert {each.affected for each in apply_all(store, late)} == {0}
        assert keys(store) == set()
        apply_all(store, [replace(late[0], op_id=requests.session("s").op_id, at=late[0].at * 2)])
        assert keys(store) == {"a"}
