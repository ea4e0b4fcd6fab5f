"""What every store promises of ids out of order, from a wrong clock, or whose record is gone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Operation
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish, now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    requests,
    say,
)

DAY = 86_400_000_000


def test_ids_that_come_out_of_order_are_known_as_well(open_store: Open, clock: Clock) -> None:
    clock.now = now_micros()
    first, second, third = (requests.append("s", (ChatMessage.user(text),), None) for text in "abc")
    with open_store() as store:
        for operation in (third, first, second):
            assert apply_all(store, [operation]) == [Outcome(1)]
        for operation in (first, third, second):
            assert apply_all(store, [operation]) == [Outcome(1, duplicate=True)]
        assert contents(store, "s") == ["c", "a", "b"]
    with open_store() as store:
        assert apply_all(store, [second]) == [Outcome(1, duplicate=True)]


def test_an_id_from_a_clock_days_ahead_is_known_when_its_day_has_come(
    store: StoreUnderTest, clock: Clock
) -> None:
    clock.now = now_micros()
    ahead = Append(f"{(clock.now + 2 * DAY) // 1_000:012x}{7:020x}", 0, "s", (_HELLO,))
    assert apply_all(store, [ahead]) == [Outcome(1)]
    for _ in range(6):
        say(store, "s", "today")
        assert apply_all(store, [ahead]) == [Outcome(1, duplicate=True)]
        clock.now += DAY // 2 + 1


_HELLO = ChatMessage.user("hello")


_CHANGES: dict[str, Callable[[], Operation]] = {
    "rollback": lambda: requests.rollback("k", None),
    "replace": lambda: requests.replace("k", ChatMessage.user("new"), None),
    "one more": lambda: requests.append("k", (ChatMessage.user("x"),), None),
}


@pytest.mark.parametrize("is_reopened", [False, True])
def test_an_append_is_known_whatever_became_of_its_messages(
    open_store: Open, is_reopened: bool
) -> None:
    store = open_store()
    for changes in itertools.product(_CHANGES, repeat=3):
        first = requests.append("k", tuple(map(ChatMessage.user, "abc")), None)
        for operation in (first, *(_CHANGES[change]() for change in changes)):
            apply_all(store, [operation])
            if is_reopened:
                store.close()
                store = open_store()
        assert apply_all(store, [first]) == [Outcome(3, duplicate=True)], changes


@pytest.mark.parametrize("texts", ["a", "abc"])
@pytest.mark.parametrize("how", ["forgotten", "imported"])
def test_an_append_is_known_by_its_messages_though_its_op_id_is_forgotten(
    store: StoreUnderTest, clock: Clock, how: str, texts: str
) -> None:
    said = requests.append("s", tuple(map(ChatMessage.user, texts)), "platform id")
    if how == "forgotten":
        apply_all(store, [said])
        clock.advance(hours=2)
        finish(store.compact(1))
    else:
        apply_all(store, [ImportSession(new_op_id(), 0, "s", said.stamped(), {}, 0, 0)])
    other = requests.append("s", (ChatMessage.user("other"),), None)
    again, stored = apply_all(store, [said, other])
    assert (again.duplicate, stored.duplicate) == (True, False)
    store.remove_last("s")
    store.remove("s", said.message_ids[-1])
    assert apply_all(store, [said])[0].duplicate
    assert contents(store, "s") == list(texts[:-1])


def test_an_append_whose_op_id_is_forgotten_is_refused_not_stored_in_part(
    store: StoreUnderTest, clock: Clock
) -> None:
    said = requests.append("s", tuple(ChatMessage.user(text) for text in "abc"), None)
    apply_all(store, [said, requests.rollback("s", said.op_id)])
    clock.advance(hours=2)
    finish(store.compact(1))
    other = requests.append("s", (ChatMessage.user("other"),), None)
    answer, _ = store.apply([said, other])
    assert "its op id is forgotten" in str(answer)
    assert contents(store, "s") == ["b", "c", "other"]
