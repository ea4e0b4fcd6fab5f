"""What every store promises of an erasure that was lost, killed, or judged by a wrong clock."""

from __future__ import annotations

import pytest

from backscroll.contract.messages import ChatMessage, to_micros
from backscroll.contract.operations import Append, Describe, Erase
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.erasure import (
    ASKED,
    EARLY,
    LATE,
    append,
    erase,
    op_id,
    sha256,
    traces,
)
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, contents, keys, say

NEEDS = "erasure"

SUBJECTS = [{"key": "z"}, {"sender": "zebra"}]


def _fill(store: StoreUnderTest) -> list[str]:
    """A session of zebra's, and one of somebody else; the ids of zebra's messages."""
    store.describe("z", sender="zebra", name="Stripes")
    ids = say(store, "z", *(f"quagga {number}" for number in range(30)))
    store.describe("other", sender="horse")
    say(store, "other", "hay")
    return ids


def _lose(open_store: Open, operation: Erase, slices: int = 0) -> list[str]:
    """Begin an erasure that nobody will ever go on with; the ids of zebra's messages."""
    with open_store() as store:
        ids = _fill(store)
        apply_all(store, [operation])
        under_way = store.store.erase(operation)
        for _ in range(slices):
            next(under_way, None)
    return ids


@pytest.mark.needs("files")
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_lost_erasure_is_made_up_for_when_it_is_requested_again(
    open_store: Open, subject: dict[str, str]
) -> None:
    ids = _lose(open_store, erase(**subject))
    store = open_store()
    receipt = finish(store.store.erase(erase(**subject)))
    assert (receipt.sessions, receipt.messages) == (1, 30)
    assert receipt.messages_sha256 == sha256(ids)
    assert traces(store, "quagga", "zebra", "Stripes") == set()
    assert keys(store) == {"other"}
    assert store.verify() == []


@pytest.mark.needs("files")
@pytest.mark.parametrize("slices", [1, 2, 3, 5])
@pytest.mark.parametrize("subject", SUBJECTS)
def test_an_erasure_that_was_lost_half_way_leaves_nothing_to_the_next(
    open_store: Open, subject: dict[str, str], slices: int
) -> None:
    _lose(open_store, erase(**subject), slices)
    store = open_store()
    finish(store.store.erase(erase(**subject)))
    assert traces(store, "quagga", "zebra", "Stripes") == set()
    assert keys(store) == {"other"}
    assert store.verify() == []


@pytest.mark.needs("files")
@pytest.mark.parametrize("hours_back", [0, 5])
def test_an_erasure_that_was_lost_is_made_up_for_by_any_other(
    open_store: Open, clock: Clock, hours_back: float
) -> None:
    _lose(open_store, erase(sender="zebra"))
    clock.advance(hours=-hours_back)
    store = open_store()
    receipt = finish(store.store.erase(erase(key="nobody")))
    assert (receipt.sessions, receipt.messages) == (1, 30)
    assert traces(store, "quagga", "zebra", "Stripes") == set()


def test_an_erasure_leaves_to_a_later_one_what_is_its_own(store: StoreUnderTest) -> None:
    _fill(store)
    first, second = erase(sender="horse"), erase(sender="zebra")
    apply_all(store, [first, second])
    receipts = [finish(store.store.erase(operation)) for operation in (first, second)]
    assert [(receipt.sessions, receipt.messages) for receipt in receipts] == [(1, 1), (1, 30)]


@pytest.mark.needs("files")
@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_lost_erasure_ends_with_the_compaction_that_forgets_op_ids(
    open_store: Open, clock: Clock, subject: dict[str, str]
) -> None:
    _lose(open_store, erase(**subject))
    clock.advance(hours=6)
    store = open_store()
    finish(store.compact(5))
    assert traces(store, "quagga", "zebra", "Stripes") == set()
    assert keys(store) == {"other"}
    apply_all(store, [append("z", "after", LATE)])
    assert contents(store, "z") == ["after"]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_session_whose_times_are_ahead_of_the_clock_is_erased_too(
    store: StoreUnderTest, clock: Clock, subject: dict[str, str]
) -> None:
    _fill(store)
    clock.advance(hours=-1)
    receipt = finish(store.erase(**subject))
    assert (receipt.sessions, receipt.messages) == (1, 30)
    assert keys(store) == {"other"}


@pytest.mark.needs("files")
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_said_right_after_an_erasure_outlives_its_kill(
    open_store: Open, subject: dict[str, str], is_new: bool
) -> None:
    store, operation = open_store(), erase(**subject)
    if not is_new:
        _fill(store)
    afterwards = [append("z", "after", LATE), Describe(op_id(), LATE, "z", {"sender": "zebra"})]
    apply_all(store, [operation, *afterwards])
    store.close()
    store = open_store()
    apply_all(store, [append("z", "and more", LATE)])
    finish(store.store.erase(operation))
    assert contents(store, "z") == ["after", "and more"]
    assert traces(store, "quagga") == set()


@pytest.mark.needs("files")
@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("other", [{"key": "other"}, {"key": "nobody"}, {"room": "zoo"}])
def test_what_is_said_between_two_erasures_is_not_for_the_first_to_take(
    store: StoreUnderTest, subject: dict[str, str], other: dict[str, str], is_new: bool
) -> None:
    if not is_new:
        _fill(store)
    first, second = erase(**subject), erase(**other)
    afterwards = [append("z", "after", LATE), Describe(op_id(), LATE, "z", {"sender": "zebra"})]
    apply_all(store, [first, *afterwards, second])
    for operation in (first, second):
        finish(store.store.erase(operation))
    assert contents(store, "z") == ["after"]
    assert traces(store, "quagga") == set()


def test_a_session_given_to_the_sender_later_outlives_a_killed_erasure(
    open_store: Open,
) -> None:
    store, operation = open_store(), erase(sender="zebra")
    _fill(store)
    apply_all(store, [operation])
    apply_all(store, [Describe(op_id(), LATE, "other", {"sender": "zebra"})])
    store.close()
    store = open_store()
    assert finish(store.store.erase(operation)).messages == 30
    assert contents(store, "other") == ["hay"]


@pytest.mark.needs("files")
def test_a_slow_clock_erases_what_was_said_since_the_last_erasure(store: StoreUnderTest) -> None:
    apply_all(store, [Erase(op_id(), ASKED, "z"), append("z", "quagga", LATE)])
    receipt = finish(store.store.erase(Erase(op_id(), EARLY, "z")))
    assert receipt.messages == 1
    assert traces(store, "quagga") == set()


@pytest.mark.needs("files")
def test_an_op_id_of_anothers_making_goes_with_its_message(store: StoreUnderTest) -> None:
    apply_all(store, [Append("wa-alice-0001", EARLY, "z", (ChatMessage.user("quagga"),))])
    receipt = finish(store.store.erase(erase(key="z")))
    assert (receipt.messages, receipt.op_ids) == (1, 1)
    assert traces(store, "wa-alice-0001") == set()
    apply_all(store, [Append("wa-alice-0001", ASKED, "z", (ChatMessage.user("quagga"),))])
    assert keys(store) == set()


def test_op_ids_of_anothers_making_are_forgotten_in_their_time(
    open_store: Open, clock: Clock
) -> None:
    store = open_store()
    describing = [
        Describe(name, LATE, "s", {"name": name}) for name in ("0", "wa-alice-0001", "z" * 40)
    ]
    apply_all(store, describing)
    clock.advance(hours=2)
    assert all(outcome.duplicate for outcome in apply_all(store, describing))
    finish(store.compact(1))
    store.close()
    store = open_store()
    assert not any(outcome.duplicate for outcome in apply_all(store, describing))


def _deliver(store: StoreUnderTest) -> None:
    store.append("z", ChatMessage.user("quagga"), dedup_key="update 1")


@pytest.mark.parametrize("is_reopened", [False, True])
@pytest.mark.parametrize("way", ["late description", "delete", "clear", "cleanup", "rollback"])
def test_an_erased_message_delivered_again_stays_away_however_it_went(
    open_store: Open, clock: Clock, way: str, is_reopened: bool
) -> None:
    store = open_store()
    if way == "late description":
        asked = clock()
        apply_all(store, [Erase(op_id(), asked, None, "zebra")])
    _deliver(store)
    if way == "late description":
        until = store.load("z")[0].created_at
        assert until is not None
        clock.now = to_micros(until) + 1
        apply_all(store, [Erase(op_id(), clock(), None, "zebra")])
        apply_all(store, [Describe(op_id(), asked, "z", {"sender": "zebra"})])
        assert keys(store) == set()
    elif way == "delete":
        store.delete("z")
    elif way == "clear":
        store.clear("z")
    elif way == "rollback":
        store.remove_last("z")
    else:
        clock.advance(hours=2)
        finish(store.cleanup(1))
    finish(store.erase(key="z"))
    if is_reopened:
        store.close()
        store = open_store()
    _deliver(store)
    assert keys(store) == set()
    store.append("z", ChatMessage.user("new"), dedup_key="update 2")
    assert contents(store, "z") == ["new"]
