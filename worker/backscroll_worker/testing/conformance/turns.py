"""What every store promises of turns and of writes under a condition."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backscroll.contract.errors import ConflictError, InvalidInputError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, SessionInfo, from_micros
from backscroll.contract.operations import Write
from backscroll.contract.results import Outcome
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    requests,
    say,
)

HI = ChatMessage.user("hi")


def outcome(store: StoreUnderTest, operation: Write) -> Any:
    (answer,) = store.apply([operation])
    return answer


def known(store: StoreUnderTest) -> SessionInfo:
    info = store.session("s")
    assert info is not None
    return info


def test_an_append_under_a_condition_needs_the_tail_it_expects(store: StoreUnderTest) -> None:
    (first,) = store.append("s", HI, expect_tail="")
    (second,) = store.append("s", ChatMessage.user("2"), expect_tail=first)
    for tail in ("", first, "0" * 32):
        with pytest.raises(ConflictError):
            store.append("s", ChatMessage.user("no"), expect_tail=tail)
    store.remove("s", second)
    store.append("s", ChatMessage.user("3"), expect_tail=first)
    assert contents(store, "s") == ["hi", "3"]


def test_a_conflict_makes_no_session(store: StoreUnderTest) -> None:
    for condition in ({"expect_tail": "0" * 32}, {"turn_id": "t"}):
        with pytest.raises(ConflictError):
            store.append("s", HI, session={"channel": "x"}, **condition)
    assert store.session("s") is None


def test_a_conflict_is_one_for_good(open_store: Open) -> None:
    """Also when the condition holds by the time it is sent again, in another process."""
    append = requests.append("s", (HI,), expect_tail="0" * 32)
    turn = requests.begin_turn("s", (HI,))
    late = requests.append("s", (HI,), turn_id="other")
    late_replace = requests.replace("s", HI, None, "other")
    end = requests.end_turn("s", "other")
    with open_store() as store:
        say(store, "s", "a")
        store.begin_turn("s", HI)
        for operation in (append, turn, late, late_replace, end):
            assert outcome(store, operation) == Outcome(0, conflict=True)
    with open_store() as store:
        store.delete("s")
        for operation in (append, turn, late, late_replace, end):
            assert outcome(store, operation) == Outcome(0, duplicate=True, conflict=True)
        assert store.session("s") is None


def test_conditions_see_what_the_same_group_has_done(store: StoreUnderTest) -> None:
    first = requests.append("s", (HI,), expect_tail="")
    second = requests.append("s", (HI, HI), expect_tail=first.op_id)
    third = requests.append("s", (HI,), expect_tail=first.op_id)
    back = requests.rollback("s", None)
    fourth = requests.append("s", (HI,), expect_tail=second.op_id)
    answers = store.apply([first, second, third, back, fourth])
    assert [answer.conflict for answer in answers] == [False, False, True, False, False]
    assert len(store.load("s")) == 3


def test_a_turn_marks_the_session_and_ends(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        turn = store.begin_turn("s", HI, lease_seconds=10)
        info = known(store)
        assert (info.state, info.turn_id) == ("running", turn)
        assert info.turn_started_at == from_micros(clock.now)
        assert info.turn_expires_at == from_micros(clock.now + 10_000_000)
    with open_store() as store:
        clock.advance(seconds=4)
        (reply,) = store.append("s", ChatMessage.assistant("h"), turn_id=turn)
        assert known(store).turn_expires_at == from_micros(clock.now + 10_000_000)
        clock.advance(seconds=9)
        assert store.replace("s", ChatMessage.assistant("hello"), reply, turn_id=turn)
        assert known(store).turn_expires_at == from_micros(clock.now + 10_000_000)
        store.end_turn("s", turn)
        info = known(store)
        assert (info.state, info.turn_id, info.turn_expires_at) == ("idle", None, None)
    assert contents(open_store(), "s") == ["hi", "hello"]


def test_a_failed_turn_takes_back_exactly_its_own(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "before")
        begin = requests.begin_turn("s", (HI, HI))
        assert outcome(store, begin) == Outcome(2)
        (reply,) = store.append("s", ChatMessage.assistant("part"), turn_id=begin.op_id)
        say(store, "s", "somebody else")
        gone = (*begin.message_ids, reply)
        assert store.end_turn("s", begin.op_id, "error", [*gone, "0" * 32, reply]) == 3
        assert known(store).state == "error"
    store = open_store()
    assert contents(store, "s") == ["before", "somebody else"]
    assert outcome(store, begin) == Outcome(2, duplicate=True)
    assert store.verify() == []


def test_only_one_turn_runs(store: StoreUnderTest) -> None:
    turn = store.begin_turn("s", HI)
    with pytest.raises(ConflictError):
        store.begin_turn("s", HI)
    other = store.begin_turn("s", ChatMessage.user("newer"), supersedes=True)
    for late in (
        requests.append("s", (HI,), turn_id=turn),
        requests.replace("s", HI, None, turn),
        requests.end_turn("s", turn, "error", (turn,)),
    ):
        assert outcome(store, late).conflict
    assert known(store).turn_id == other
    assert contents(store, "s") == ["hi", "newer"]
    store.end_turn("s", other)
    assert store.begin_turn("s", HI) != other


def test_an_expired_lease_frees_the_session_but_not_before(
    store: StoreUnderTest, clock: Clock
) -> None:
    turn = store.begin_turn("s", HI, lease_seconds=5)
    clock.advance(seconds=5)
    with pytest.raises(ConflictError):
        store.begin_turn("s", HI)
    assert store.sessions(expired=True).sessions == ()
    clock.advance(micros=1)
    assert [info.key for info in store.sessions(expired=True)] == ["s"]
    assert store.sessions(expired=False).sessions == ()
    assert store.append("s", HI, turn_id=turn)  # nobody has taken it over, so it goes on
    clock.advance(seconds=6)
    assert store.begin_turn("s", HI) != turn
    with pytest.raises(ConflictError):
        store.append("s", HI, turn_id=turn)


def test_a_turn_without_a_lease_does_not_expire(store: StoreUnderTest, clock: Clock) -> None:
    store.describe("s", state="running", turn_id="own")
    clock.advance(hours=1_000)
    assert store.sessions(expired=True).sessions == ()
    with pytest.raises(ConflictError):
        store.begin_turn("s", HI)
    assert store.append("s", HI, turn_id="own")
    store.describe("s", state="idle")
    store.begin_turn("s", HI)
    store.describe("s", state="running")
    assert known(store).turn_expires_at is None


def test_a_lease_is_no_longer_where_the_clock_falls_back(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        store.begin_turn("s", HI, lease_seconds=60)
    clock.advance(hours=-1)
    with open_store() as store:
        say(store, "other", "x")
        expires_at = known(store).turn_expires_at
        assert expires_at is not None
        assert expires_at <= from_micros(clock.now + 120_000_000)


def test_turns_are_no_part_of_an_append_that_is_sent_again(store: StoreUnderTest) -> None:
    begin = requests.begin_turn("s", (HI,))
    assert outcome(store, begin) == Outcome(1)
    store.end_turn("s", begin.op_id)
    assert outcome(store, begin) == Outcome(1, duplicate=True)
    assert known(store).state == "idle"
    assert outcome(store, replace(begin, op_id="f" * 32)) == Outcome(1)


def test_a_turn_begins_without_a_message(open_store: Open) -> None:
    """What it answers was said before; the session may even be a new one."""
    begin = requests.begin_turn("s", ())
    with open_store() as store:
        assert outcome(store, begin) == Outcome(0)
        assert known(store).turn_id == begin.op_id
    store = open_store()
    assert outcome(store, begin) == Outcome(0, duplicate=True)
    (reply,) = store.append("s", HI, turn_id=begin.op_id)
    assert store.end_turn("s", begin.op_id, "error", [reply]) == 1
    assert outcome(store, begin) == Outcome(0, duplicate=True)
    assert (known(store).state, store.load("s"), store.verify()) == ("error", [], [])


def test_a_turn_ends_in_a_state_that_is_an_end(store: StoreUnderTest) -> None:
    turn = store.begin_turn("s", HI)
    with pytest.raises(InvalidInputError, match="state"):
        store.end_turn("s", turn, "running")
    store.end_turn("s", turn)


def test_a_lease_goes_with_a_session_that_is_taken_over(
    store: StoreUnderTest, clock: Clock
) -> None:
    """Or its turn would run for ever, as nobody is left who could end it."""
    said = requests.append("s", (HI,)).stamped()
    at, expires_at = clock.now, clock.now + 5_000_000
    attributes: Any = {"state": "running", "turn_id": "t"}
    taken = ImportSession(
        new_op_id(), at, "s", said, attributes, at, at, at, turn_expires_at=expires_at
    )
    info = SessionInfo(
        "r", from_micros(at), from_micros(at), 1, state="running", turn_id="t",
        turn_expires_at=from_micros(expires_at),
    )  # fmt: skip
    apply_all(
        store,
        [
            taken,
            RestoreSession(new_op_id(), at, "r", "r", info, requests.append("r", (HI,)).stamped()),
        ],
    )
    for key in ("s", "r"):
        with pytest.raises(ConflictError):
            store.begin_turn(key, HI)
        clock.advance(seconds=3)
        assert store.append(key, HI, turn_id="t")
        clock.advance(seconds=-3)
    clock.advance(seconds=9)
    assert {info.key for info in store.sessions(expired=True)} == {"s", "r"}
    for key in ("s", "r"):
        assert store.begin_turn(key, HI)


@pytest.mark.parametrize("lease_seconds", [0, -1, 0.01, 1e10, True, "1", None])
def test_a_lease_is_a_number_of_seconds(store: StoreUnderTest, lease_seconds: Any) -> None:
    with pytest.raises(InvalidInputError, match="lease_seconds"):
        store.begin_turn("s", HI, lease_seconds=lease_seconds)
