"""What every store promises of a write that removes messages and adds others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backscroll.contract.errors import ConflictError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Write
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.late import spooled
from backscroll_worker.testing.conformance.platform import batch, message, said
from backscroll_worker.testing.conformance.waiting import edit, undo
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    requests,
    say,
)

NEW = (ChatMessage.user("new"), ChatMessage.assistant("newer"))
CONFLICT = Outcome(0, conflict=True)


def _outcome(store: StoreUnderTest, operation: Write) -> Outcome:
    (answer,) = apply_all(store, [operation])
    return replace(answer, message_ids=None)


@pytest.mark.parametrize(
    ("remove", "left"),
    [
        (0, "abcd"),
        (1, "abc"),
        (2, "ab"),
        (9, ""),
        ("all", ""),
        ([0], "bcd"),
        ([3, 1, 1], "ac"),
        (["no-such-id"], "abcd"),
    ],
)
def test_a_splice_removes_and_adds(open_store: Open, remove: Any, left: str) -> None:
    with open_store() as store:
        ids = say(store, "s", *"abcd")
        say(store, "other", "a")
        named = remove
        if isinstance(remove, list):
            named = [ids[each] if isinstance(each, int) else each for each in remove]
        splice = requests.splice("s", NEW, None, named, {"name": "n"})
        assert _outcome(store, splice) == Outcome(6 - len(left))
        say(store, "s", "after")
    with open_store() as store:
        assert _outcome(store, splice) == Outcome(6 - len(left), duplicate=True)
        assert contents(store, "s") == [*left, "new", "newer", "after"]
        assert [each.message_id for each in store.load("s")][-3:-1] == [*splice.message_ids]
        assert found(store, "new") == {"new"}
        info = store.session("s")
        assert info is not None
        assert (info.name, info.message_count) == ("n", len(left) + 3)
        assert contents(store, "other") == ["a"]
        assert store.verify(deep=True) == []


def test_what_is_expected_of_the_tail_decides(open_store: Open) -> None:
    with open_store() as store:
        empty = requests.splice("s", NEW[:1], "")
        assert _outcome(store, empty) == Outcome(1)
        a, b, c = say(store, "s", *"abc")
        bad: list[Any] = [
            "", (), a, [b], [c, b], [a, c], ["x"], [empty.op_id, a, b], ["x", empty.op_id, a, b, c],
        ]  # fmt: skip
        refused = [requests.splice("s", NEW, each, "all") for each in bad]
        assert [_outcome(store, each) for each in refused] == [CONFLICT] * len(bad)
        assert contents(store, "s") == ["new", *"abc"]
        for count in range(1, 5):
            ids = [str(each.message_id) for each in store.load("s", count)]
            store.splice("s", ChatMessage.user("c"), expect=ids, remove=1)
        store.splice("s", expect=str(store.load("s", 1)[0].message_id), remove="all")
        assert contents(store, "s") == []
        store.splice("s", ChatMessage.user("z"), expect=())
    with open_store() as store:
        again = [_outcome(store, each) for each in refused]
        assert again == [replace(CONFLICT, duplicate=True)] * len(bad)
        with pytest.raises(ConflictError, match="does not end as `expect` says"):
            store.splice("s", expect="x", remove=1)
        with pytest.raises(ConflictError, match="does not end as `expect` says"):
            store.splice("nobody", *NEW, expect="x")
        assert contents(store, "s") == ["z"]


def test_of_a_group_with_one_expectation_one_is_applied(store: StoreUnderTest) -> None:
    (a,) = say(store, "s", "a")
    first, second = (requests.splice("s", (each,), a, 1) for each in NEW)
    third = requests.splice("s", NEW[1:], first.op_id)
    back = requests.rollback("s")
    answers = apply_all(store, [first, second, third, back, first, second])
    again = replace(CONFLICT, duplicate=True)
    assert answers == [
        Outcome(2), CONFLICT, Outcome(1), Outcome(1), Outcome(2, duplicate=True), again,
    ]  # fmt: skip
    assert contents(store, "s") == ["new"]


def test_what_is_only_to_be_removed_begins_no_session(store: StoreUnderTest) -> None:
    assert store.splice("s", remove="all") == []
    assert not store.exists("s")
    store.splice("s", remove=1, session={"name": "n"})
    info = store.session("s")
    assert info is not None
    assert (info.name, info.message_count) == ("n", 0)


def test_a_closed_session_lets_messages_only_go(store: StoreUnderTest) -> None:
    say(store, "s", *"abc")
    store.close_session("s")
    with pytest.raises(ConflictError, match="closed"):
        store.splice("s", *NEW, remove=1)
    assert contents(store, "s") == [*"abc"]
    store.splice("s", remove=2)
    assert contents(store, "s") == ["a"]


def test_loaded_messages_can_be_put_back_without_some(open_store: Open) -> None:
    """A history that is written anew keeps its platform ids, and knows those that are gone."""
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b", "c", "d", "e"), undo("s", "b"), edit("s", "9", "x")])
        kept = [each for each in store.load("s") if each.platform_id != "d"]
        anew = requests.splice("s", (message("b"), *kept, message("f"), message("f")), None, "all")
        (outcome,) = apply_all(store, [anew])
        assert outcome.affected == 4 + 4  # not b, which was deleted, and f once
        ids = anew.message_ids
        assert outcome.message_ids == (*ids[:5], ids[4])
    with open_store() as store:
        assert apply_all(store, [anew]) == [replace(outcome, duplicate=True)]
        assert said(store, "s") == ["a", "c", "e", "f"]
        late = batch("s", "a", "b", "c", "d", "e", "g", "9")
        assert [each.affected for each in apply_all(store, [late])] == [2]
        assert said(store, "s") == ["a", "c", "e", "f", "g", "9"]
        assert contents(store, "s")[-1] == "x"


def test_a_summary_goes_up_to_the_message_as_stored_anew(store: StoreUnderTest) -> None:
    a, b, c = say(store, "s", *"abc")
    store.append("s", ChatMessage.summary("so far", upto=b), ChatMessage.summary("all", upto=c))
    first, second, _, summary, _ = store.load("s")
    ids = store.splice("s", first, second, summary, remove="all")
    assert [each.upto for each in store.load("s")] == [None, None, ids[1]]
    store.splice("s", ChatMessage.summary("of old", upto=a), remove=1)
    assert store.load("s", 1)[0].upto == a


@pytest.mark.parametrize("remove", ["all", 1_102, 1_101, 1_100, 2])
def test_thousands_are_replaced_at_once(open_store: Open, remove: Any) -> None:
    """The first two messages stay unless they are meant; what comes back is stored."""
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b")])
        many = tuple(message(str(number), "gone") for number in range(1_100))
        splice = requests.splice("s", (message("5"), message("a"), *NEW), None, remove)
        answers = apply_all(store, [requests.append("s", many), splice])
        count = 1_102 if remove == "all" else remove
        is_back = count > 1_094, count > 1_101
        assert answers[1].affected == count + 2 + sum(is_back)
        back = [id_ for id_, comes in zip(("5", "a"), is_back, strict=True) if comes]
        expected = [*"ab", *(str(number) for number in range(1_100))]
        expected = expected[: 1_102 - count] + back
    with open_store() as store:
        assert [id_ for id_ in said(store, "s") if id_] == expected
        assert contents(store, "s")[-2:] == ["new", "newer"]
        assert apply_all(store, [batch("s", "6", "b", "5")])[0].affected == 0
        finish(store.compact(1_000))
        assert store.totals().messages == len(expected) + 2
        assert store.verify(deep=True) == []


def test_a_splice_that_is_late_is_not_carried_out(todays: Open) -> None:
    """As an append: what was asked for before the session was emptied changes nothing."""
    early: list[Write] = [requests.splice("s", NEW, None, "all") for _ in range(2)]
    with todays() as store:
        say(store, "s", "1")
        store.clear("s")
        (kept,) = say(store, "s", "2")
        apply_all(store, [spooled(early[0])])
        assert contents(store, "s") == ["2"]
        assert _outcome(store, early[1]) == Outcome(3)
        store.splice("s", *NEW, remove=1)
        store.rename("s", "t")
        apply_all(store, [spooled(requests.splice("t", (), kept, "all"))])
        assert contents(store, "t") == ["new", *["new", "newer"]]


@pytest.mark.needs("erasure")
def test_a_late_splice_loses_only_the_erased_authors(todays: Open, clock: Clock) -> None:
    del clock
    zoe, ann = (ChatMessage.user(who, author=who) for who in ("zoe", "ann"))
    with todays() as store:
        say(store, "s", *"ab")
        both, only, alone = (
            requests.splice("s", (zoe, ann), None, 1),
            requests.splice("s", (zoe,), None, 1),
            requests.splice("s", (zoe,), "x"),
        )
        finish(store.erase(author="zoe"))
        assert [_outcome(store, each).affected for each in (both, only, alone)] == [2, 1, 0]
        assert contents(store, "s") == ["a"]
    with todays() as store:
        assert found(store, "zoe") == set()
        assert contents(store, "s") == ["a"]


def test_a_splice_beside_a_turn_leaves_it_running(store: StoreUnderTest) -> None:
    turn = store.begin_turn("s", ChatMessage.user("a"))
    (asked,) = store.load("s")
    store.splice("s", *NEW, remove=1)
    assert not store.replace("s", ChatMessage.user("b"), asked.message_id, turn_id=turn)
    info = store.session("s")
    assert info is not None
    assert info.turn_id == turn
    assert store.end_turn("s", turn, remove=[str(asked.message_id)]) == 0
    assert contents(store, "s") == ["new", "newer"]


def test_a_splice_brings_back_what_a_fork_or_merge_brought(open_store: Open) -> None:
    """Though the session had lost a message with that platform id before."""
    with open_store() as store:
        for key in ("s", "t", "u"):
            store.append(key, message("p"))
        store.fork(str(store.reset("s")), "s")
        store.pop("u")
        store.merge("t", "u")
        for key in ("s", "u"):
            assert said(store, key) == ["p"]
            for _ in range(2):
                store.splice(key, message("p"), message("p2"), remove="all")
                assert said(store, key) == ["p", "p2"]
    with open_store() as store:
        for key in ("s", "u"):
            assert apply_all(store, [batch(key, "p")])[0].affected == 0
            store.pop(key, 2)
            assert apply_all(store, [batch(key, "p")])[0].affected == 0
            assert said(store, key) == []
        assert store.verify(deep=True) == []
