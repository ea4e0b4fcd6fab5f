"""What every store promises of the state that is kept with a session, besides its messages."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backscroll.contract.codec import decode, encode, mark_spooled
from backscroll.contract.errors import ConflictError, InvalidInputError, OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll.contract.results import Outcome
from backscroll.contract.states import MAX_STATE_BYTES, MAX_STATES, NO_STATE, SessionState
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    keys,
    requests,
    say,
)

PLAN: Any = {"steps": ["a", {"b": [1, 0.1, None, True, "日本語\n\0"]}], "": {}}


def outcome(store: StoreUnderTest, operation: Operation) -> Outcome:
    (answer,) = apply_all(store, [operation])
    return answer


def test_a_state_is_set_read_and_deleted(open_store: Open) -> None:
    with open_store() as store:
        assert store.get_state("s") == NO_STATE
        assert store.states("s") == {}
        assert store.set_state("s", PLAN) == 1
        assert store.set_state("s", [], "cursor") == 1
        assert store.set_state("s", 0, "cursor") == 2
        assert contents(store, "s") == []
    with open_store() as store:
        assert store.get_state("s") == SessionState(PLAN, 1)
        assert store.states("s") == {
            "cursor": SessionState(0, 2), "default": SessionState(PLAN, 1)
        }  # fmt: skip
        assert store.set_state("s", None, "cursor") == 3
        assert store.get_state("s", "cursor") == SessionState(None, 3)
        assert store.set_state("s", None, "cursor") == 3  # there is nothing to delete
        assert store.set_state("s", False, "cursor") == 4
    store = open_store()
    assert store.get_state("s", "cursor") == SessionState(False, 4)
    assert store.verify() == []


def test_deleting_what_was_never_set_makes_no_session(store: StoreUnderTest) -> None:
    assert store.set_state("s", None) == 0
    assert store.set_state("s", None, expect=0) == 0
    assert store.session("s") is None


def test_only_the_expected_version_is_changed(open_store: Open) -> None:
    with open_store() as store:
        with pytest.raises(ConflictError):
            store.set_state("s", 1, expect=1)
        assert store.session("s") is None
        assert store.set_state("s", 1, expect=0) == 1
        assert store.set_state("s", 2, expect=1) == 2
        for expect in (0, 1, 3):
            with pytest.raises(ConflictError):
                store.set_state("s", 9, expect=expect)
        assert store.get_state("s") == SessionState(2, 2)
        assert store.set_state("s", None, expect=2) == 3
        with pytest.raises(ConflictError):  # who read version 2 is late, also after a deletion
            store.set_state("s", 9, expect=2)
        assert store.set_state("s", 3, expect=0) == 4
    assert open_store().get_state("s") == SessionState(3, 4)


def test_each_change_counts_once_and_a_conflict_for_good(open_store: Open) -> None:
    first = requests.set_state("s", "a", expect=0)
    second = requests.set_state("s", "b", expect=1)
    late = requests.set_state("s", "c", expect=1)
    with open_store() as store:
        assert apply_all(store, [first, first, second, late]) == [
            Outcome(1), Outcome(1, duplicate=True), Outcome(2), Outcome(0, conflict=True)
        ]  # fmt: skip
    with open_store() as store:
        store.delete("s")
        again = [Outcome(1, duplicate=True), Outcome(0, duplicate=True, conflict=True)]
        assert apply_all(store, [first, late]) == again
        assert store.session("s") is None


def test_a_state_is_no_activity_and_stays_when_others_change(
    store: StoreUnderTest, clock: Clock
) -> None:
    say(store, "s", "a", "b")
    before = store.session("s")
    clock.advance(seconds=5)
    store.set_state("s", PLAN)
    assert store.session("s") == before
    store.describe("s", name="N")
    store.remove_last("s")
    store.clear("s")
    say(store, "s", "c")
    assert store.get_state("s") == SessionState(PLAN, 1)
    assert contents(store, "s") == ["c"]


def test_a_state_stays_when_a_large_session_is_cleared(store: StoreUnderTest) -> None:
    store.append("s", *[ChatMessage.user("x")] * 1_001, session={"meta": {"a": 1}})
    store.set_state("s", PLAN)
    assert store.clear("s") == 1_001
    assert store.get_state("s") == SessionState(PLAN, 1)
    assert [info.key for info in store.sessions(meta={"a": 1})] == ["s"]
    assert store.set_state("s", 2, expect=1) == 2
    assert store.verify() == []


def test_states_go_with_their_session(store: StoreUnderTest, clock: Clock) -> None:
    for key in ("deleted", "erased", "idle", "stays"):
        store.append(key, ChatMessage.user("x"), session={"sender": key})
        store.set_state(key, key)
    store.delete("deleted")
    finish(store.erase(sender="erased"))
    clock.advance(hours=2)
    say(store, "stays", "x")
    finish(store.cleanup(1))
    assert keys(store) == {"stays"}
    for key in ("deleted", "erased", "idle"):
        assert store.states(key) == {}
        say(store, key, "x")
        assert store.get_state(key) == NO_STATE
    assert store.get_state("stays") == SessionState("stays", 1)
    assert store.verify() == []


def test_a_late_state_does_not_bring_back_what_was_deleted(
    store: StoreUnderTest, clock: Clock
) -> None:
    def spooled(key: str) -> Operation:
        asked = replace(requests.set_state(key, 1), at=clock.now)
        return decode(asked.op_id, mark_spooled(encode(asked)))

    deleted, cleared, erased = map(spooled, ("deleted", "cleared", "erased"))
    clock.advance(seconds=1)
    for key in ("deleted", "cleared", "erased"):
        apply_all(store, [replace(requests.append(key, (ChatMessage.user("x"),)), at=clock.now)])
    apply_all(store, [replace(requests.delete("deleted"), at=clock.now)])
    apply_all(store, [replace(requests.clear("cleared"), at=clock.now)])
    finish(store.store.erase(replace(requests.erase(key="erased"), at=clock.now)))
    apply_all(store, [deleted, cleared, erased])
    assert keys(store) == {"cleared"}
    assert store.get_state("cleared") == SessionState(1, 1)


def test_a_session_has_a_bounded_number_of_states(store: StoreUnderTest) -> None:
    apply_all(store, [requests.set_state("s", n, f"n{n}") for n in range(MAX_STATES)])
    with pytest.raises(OperationRefusedError, match="32"):
        store.set_state("s", 1, "one more")
    assert store.set_state("s", 1, "n0") == 2
    assert len(store.states("s")) == MAX_STATES


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("value", {"value": "x" * (MAX_STATE_BYTES - 1)}),
        ("value", {"value": float("nan")}),
        ("value", {"value": (1,)}),
        ("value", {"value": {1: 2}}),
        ("value", {"value": object()}),
        ("name", {"name": ""}),
        ("name", {"name": "a\n"}),
        ("expect", {"expect": -1}),
        ("expect", {"expect": True}),
        ("expect", {"expect": 1.0}),
    ],
)
def test_what_is_no_state_is_refused(
    store: StoreUnderTest, name: str, change: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError, match=name):
        store.set_state("s", **{"value": 1, **change})
    assert store.session("s") is None


def test_the_largest_state_fits(store: StoreUnderTest) -> None:
    value = "é" * (MAX_STATE_BYTES // 2 - 1)  # in two quotes
    store.set_state("s", value)
    assert store.get_state("s").value == value


def test_states_are_imported_as_they_were(store: StoreUnderTest, clock: Clock) -> None:
    states = {"a": SessionState(PLAN, 7), "b": SessionState(None, 2)}
    taken = ImportSession(new_op_id(), clock.now, "s", (), {}, 5, 5, states=states)
    apply_all(store, [taken])
    assert store.states("s") == states
    assert store.set_state("s", 1, "b", expect=0) == 3


@pytest.mark.needs("archive")
def test_states_come_back_from_the_archive(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", "x")
    store.set_state("s", PLAN)
    store.set_state("s", None, "gone")
    store.set_state("s", 1, "gone")
    before = store.states("s")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    assert store.states("s") == {}
    bring_back(store, archive, "s")
    assert store.states("s") == before


@pytest.mark.needs("archive")
def test_a_session_whose_state_changes_meanwhile_stays(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", "x")
    store.set_state("s", 1)
    clock.advance(hours=2)
    slices = store.cleanup(1, archive=archive)
    for _ in slices:
        store.set_state("s", 2)
    assert store.get_state("s").value == 2
    assert keys(store) == {"s"}
