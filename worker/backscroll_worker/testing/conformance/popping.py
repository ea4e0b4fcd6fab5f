"""What every store promises of a write that removes messages and returns them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll.contract.splicing import Pop, popped
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.attachments import blobs, picture
from backscroll_worker.testing.conformance.erasure import traces
from backscroll_worker.testing.conformance.late import spooled
from backscroll_worker.testing.conformance.platform import batch, message, said
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    requests,
    say,
)

LARGE = "x" * 600_000


def _outcome(store: StoreUnderTest, operation: Pop) -> Outcome:
    (answer,) = apply_all(store, [operation])
    return answer


def _texts(outcome: Outcome) -> list[str]:
    return [each.content for each in outcome.messages or ()]


def test_a_pop_returns_what_it_removed_and_again_the_same(open_store: Open) -> None:
    full = ChatMessage.user(
        "b", author="42", author_name="Ada", platform_id="p", reply_to="o", tokens=3, mood="good"
    )
    with open_store() as store:
        say(store, "s", "a")
        store.append("s", full, ChatMessage.summary("c", upto="x"))
        last = tuple(store.load("s", 2))
        pops = [requests.pop("s", count) for count in (2, 100, 1)]
        assert _outcome(store, pops[0]) == Outcome(2, messages=last)
        assert contents(store, "s") == ["a"]
        say(store, "s", "after")
    with open_store() as store:
        assert _outcome(store, pops[0]) == Outcome(2, duplicate=True, messages=last)
        assert contents(store, "s") == ["a", "after"]
        assert apply_all(store, [batch("s", "p")]) == [Outcome(0, message_ids=None)]
        assert [_texts(each) for each in apply_all(store, pops[1:])] == [["a", "after"], []]
        info = store.session("s")
        assert info is not None
        assert info.message_count == 0
        assert found(store, "after") == set()
        assert store.verify(deep=True) == []
    with open_store() as store:
        assert [_texts(each) for each in apply_all(store, pops)] == [["b", "c"], ["a", "after"], []]
        assert store.pop("nobody") == []
        assert not store.exists("nobody")
        for count in (0, 101, True):
            with pytest.raises(InvalidInputError, match=r"^count: must be"):
                store.pop("s", count)


def test_a_pop_beside_appends_returns_the_newest(store: StoreUnderTest) -> None:
    """In the order of the queue: none returns an older message while a newer one is there."""
    appends = [requests.append("s", (ChatMessage.user(text),), None) for text in "abcd"]
    pops = [requests.pop("s") for _ in range(4)]
    group = [*appends[:2], pops[0], appends[2], pops[1], pops[0], pops[2], appends[3], pops[3]]
    answers = apply_all(store, group)
    taken = [_texts(each) for each in answers if each.messages is not None]
    assert taken == [["b"], ["c"], ["b"], ["a"], ["d"]]
    assert contents(store, "s") == []


def test_a_pop_of_named_messages_removes_exactly_these(open_store: Open) -> None:
    """As where they were returned before; whatever has come between."""
    with open_store() as store:
        say(store, "s", *"abcd")
        say(store, "other", "x")
        ids = [str(each.message_id) for each in store.load("s")]
        foreign = str(store.load("other")[0].message_id)
        named = [("s", ids[2:0:-1]), ("s", [ids[3], "gone"]), ("s", [foreign]), ("none", ids[:1])]
        pops = [requests.pop(key, len(each), tuple(each)) for key, each in named]
        texts = [["b", "c"], ["d"], [], []]
        assert [_texts(each) for each in apply_all(store, [*pops, *pops])] == [*texts, *texts]
        assert (contents(store, "s"), contents(store, "other")) == (["a"], ["x"])
        assert not store.exists("none")
    with open_store() as store:
        assert [_texts(each) for each in apply_all(store, pops)] == texts
        assert store.verify(deep=True) == []
        with pytest.raises(InvalidInputError, match=r"^message_ids: must be as many"):
            requests.pop("s", 2, ("a",))


def test_a_pop_of_named_messages_finds_them_whatever_the_key_is(todays: Open) -> None:
    """However late the requester's clock says that it is, and again the same."""
    with todays() as store:
        say(store, "s", "a", "b")
        past = requests.pop("s", 1, (str(store.load("s")[1].message_id),))
        early, named = requests.pop("s"), requests.pop("s")
        store.rename("s", "t")
        say(store, "s", "c")
        named = named.changed(message_ids=(str(store.load("s")[0].message_id),))
        for _ in range(2):
            answers = apply_all(store, [named, past, early])
            assert [_texts(each) for each in answers] == [["c"], ["b"], ["a"]]
        assert (contents(store, "s"), contents(store, "t")) == ([], [])
        say(store, "s", "d")
        gone = requests.pop("s", 1, past.message_ids)
        store.reset("s")
        say(store, "s", "e")
        assert [_texts(each) for each in apply_all(store, [gone, gone])] == [[], []]


@pytest.mark.parametrize("late", [spooled, lambda operation: operation])
@pytest.mark.parametrize("kind", ["clear", "delete", "erase"])
def test_a_pop_of_named_messages_is_never_too_late(
    todays: Open, late: Callable[[Any], Any], kind: str
) -> None:
    """As the requester's clock may be slow, and they were returned already."""
    with todays() as store:
        early = requests.pop("s")
        say(store, "s", "a")
        if kind == "erase":
            apply_all(store, [requests.erase(key="s")])
        else:
            getattr(store, kind)("s")
        say(store, "s", "b", "c")
        named = early.changed(message_ids=(str(store.load("s")[1].message_id),))
        assert _texts(_outcome(store, late(named))) == ["c"]
        assert contents(store, "s") == ["b"]


def test_what_was_popped_is_gone_as_by_rollback(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        store.append("s", message("a"), ChatMessage.user("b", attachments=[picture()]))
        turn = store.begin_turn("s", message("c"))
        store.close_session("s")
        clock.advance(seconds=5)
        gone = store.pop("s", 2)
        assert [each.content for each in gone] == ["b", "said c"]
        assert gone[0].attachments[0].name == "cat.png"
        store.reopen_session("s")
        info = store.session("s")
        assert info is not None
        assert (info.turn_id, info.message_count) == (turn, 1)
        assert (info.last_activity - info.created_at).seconds == 5
        assert blobs(store) == 1
        finish(store.compact(1_000))
        assert blobs(store) == 0
        store.append("s", *gone)
        assert said(store, "s") == ["a", None]  # what the platform deleted stays deleted


def test_a_pop_of_too_much_removes_nothing(store: StoreUnderTest) -> None:
    say(store, "s", "a", "\x01" * 200_000, LARGE, LARGE)  # six times as much in JSON
    for count in (2, 3):
        with pytest.raises(OperationRefusedError, match="a pop removes at most 1,048,576"):
            store.pop("s", count)
    assert len(store.load("s")) == 4
    sizes = [len(each.content) for _ in range(3) for each in store.pop("s")]
    assert sizes == [600_000, 600_000, 200_000]
    assert contents(store, "s") == ["a"]


def test_only_so_much_is_recorded_and_a_pop_still_done_once(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", *(str(number) for number in range(130)))
        pops = [requests.pop("s", count) for count in (60, 10, 30, 20)]
        first = [_texts(each) for each in apply_all(store, pops)]
        again = apply_all(store, pops)
        assert [_texts(each) for each in again] == [[], *first[1:]]
        say(store, "s", LARGE, LARGE)
        larger = [requests.pop("s") for _ in range(2)]
        apply_all(store, larger)
    with open_store() as store:
        again = apply_all(store, [*pops, *larger])
        assert [bool(each.messages) for each in again] == [False] * 5 + [True]
        assert [each.affected for each in again] == [60, 10, 30, 20, 1, 1]
        assert len(store.load("s")) == 10


def test_what_pops_return_at_once_is_limited(store: StoreUnderTest) -> None:
    """The rest of a group waits for another transaction, and nothing of it is carried out."""
    say(store, "s", *"abc")
    group = [requests.append("s", (ChatMessage.user("d"),)), *(requests.pop("s") for _ in "dc")]
    answers = store.apply(group, budget=AnswerBudget(together_bytes=100))
    assert len(answers) == 2
    assert contents(store, "s") == [*"abc"]
    assert [_texts(each) for each in apply_all(store, group)] == [[], ["d"], ["c"]]


LIVES: dict[str, Callable[[StoreUnderTest], Any]] = {
    "rename": lambda store: store.rename("s", "t"),
    "merge": lambda store: store.merge("s", "other"),
    "merge without": lambda store: store.merge("s", "t"),
    "reset": lambda store: store.reset("s"),
    "clear": lambda store: store.clear("s"),
    "fork": lambda store: (store.fork("s", "t"), store.fork("other", "u")),
    "all": lambda store: (store.merge("s", "other"), store.reset("other"), store.pop("other")),
}


@pytest.mark.parametrize("life", LIVES)
def test_a_pop_is_known_whatever_becomes_of_its_session(todays: Open, life: str) -> None:
    pop = requests.pop("s")
    with todays() as store:
        say(store, "s", "a", "b")
        say(store, "other", "x")
        assert _texts(_outcome(store, pop)) == ["b"]
        LIVES[life](store)
    with todays() as store:
        again: Any = spooled(pop)
        for sent in (pop, again, pop):
            outcome = _outcome(store, sent)
            assert (_texts(outcome), outcome.duplicate) == (["b"], True)
        assert len(store.sessions()) + len(found(store, "b")) == len(store.sessions())


def test_a_pop_of_a_large_session_that_is_cleared_is_known(open_store: Open) -> None:
    pop = requests.pop("s")
    with open_store() as store:
        store.append("s", *(ChatMessage.user(str(number)) for number in range(1_102)))
        assert _texts(_outcome(store, pop)) == ["1101"]
        store.clear("s")
        finish(store.compact(1_000))
        assert _texts(_outcome(store, pop)) == ["1101"]
        say(store, "s", "a")
        assert _texts(_outcome(store, pop)) == ["1101"]
        store.delete("s")
        say(store, "s", "a")
    with open_store() as store:
        assert _texts(_outcome(store, pop)) == []
        assert contents(store, "s") == ["a"]


def test_a_pop_that_is_late_is_not_carried_out(todays: Open) -> None:
    early = requests.pop("s")
    with todays() as store:
        say(store, "s", "1")
        store.clear("s")
        say(store, "s", "2")
        late: Any = spooled(early)
        assert [_texts(_outcome(store, each)) for each in (late, early)] == [[], []]
        assert contents(store, "s") == ["2"]


def test_a_compaction_forgets_the_texts_of_pops_after_a_day(open_store: Open, clock: Clock) -> None:
    pop = requests.pop("s")
    with open_store() as store:
        say(store, "s", "a", "quagga")
        _outcome(store, pop)
        clock.advance(hours=23)
        finish(store.compact(1_000))
        assert _texts(_outcome(store, pop)) == ["quagga"]
        clock.advance(hours=2)
        finish(store.compact(1_000))
        assert _outcome(store, pop) == Outcome(1, duplicate=True, messages=())
        assert traces(store, "quagga") == set()
        assert contents(store, "s") == ["a"]


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("subject", ["key", "sender", "room", "author", "described"])
def test_an_erasure_takes_what_pops_removed(open_store: Open, clock: Clock, subject: str) -> None:
    clock.now = time.time_ns() // 1000
    zebra = ChatMessage.user("quagga", author="zebra")
    pops = [requests.pop("s", 2), requests.pop("kept")]
    with open_store() as store:
        described = requests.describe("s", {"sender": "zebra", "room": "zoo"})
        for key in ("s", "kept"):
            store.append(key, *(ChatMessage.user(text) for text in ("a", "hay")))
        store.append("s", zebra)
        if subject != "described":
            apply_all(store, [described])
        first = [_texts(each) for each in apply_all(store, pops)]
        assert first == [["hay", "quagga"], ["hay"]]
        clock.now = time.time_ns() // 1000 + HOUR
        values = {"key": "s", "sender": "zebra", "room": "zoo", "author": "zebra"}
        name = "sender" if subject == "described" else subject
        receipt = finish(store.erase(**{name: values[name]}))
        assert receipt.messages == (1 if subject in ("key", "sender", "room") else 0)
        assert receipt.sessions == receipt.messages
        if subject == "described":
            say(store, "s", "later")
            apply_all(store, [described])
            finish(store.compact(1_000))
        assert traces(store, "quagga") == set()
    with open_store() as store:
        again = [_texts(each) for each in apply_all(store, pops)]
        assert again == [["hay"] if subject == "author" else [], ["hay"]]
        assert contents(store, "kept") == ["a"]
        left = {"author": ["a"], "described": ["later"]}
        assert contents(store, "s") == left.get(subject, [])
        assert traces(store, "quagga") == set()


def test_what_is_not_recorded_any_more_is_an_error_for_the_caller(store: StoreUnderTest) -> None:
    say(store, "s", "a")
    pop = requests.pop("s")
    _outcome(store, pop)
    store.delete("s")
    with pytest.raises(OperationRefusedError, match="is not recorded any more"):
        popped(pop, _outcome(store, pop))
