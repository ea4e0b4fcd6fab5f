"""What every store promises of a renamed or closed session beside everything else it can have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backscroll.contract.errors import ConflictError
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Erase
from backscroll.contract.results import Outcome
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.tombstones import digest
from backscroll_worker.testing.conformance.late import spooled
from backscroll_worker.testing.conformance.platform import batch, said
from backscroll_worker.testing.conformance.waiting import edit, undo
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    apply_all,
    bring_back,
    contents,
    keys,
    requests,
    say,
)


@pytest.fixture
def todays(open_store: Open, clock: Clock) -> Open:
    """Opens a store whose clock is an hour ahead of the adapters'."""
    clock.now = requests.session("a").at + HOUR
    return open_store


def test_a_renamed_session_knows_the_platform_ids_it_had(todays: Open) -> None:
    first, again = batch("a", "1", "2", "3"), batch("a", "3", "4")
    with todays() as store:
        apply_all(store, [first, undo("a", "2"), requests.rename("a", "b"), again])
        assert (keys(store), said(store, "b")) == ({"b"}, ["1", "3", "4"])
    with todays() as store:
        apply_all(store, [batch("b", "1", "2", "5"), edit("b", "3", "edited")])
        assert said(store, "b") == ["1", "3", "4", "5"]
        assert contents(store, "b")[1] == "edited"
        (twice,) = apply_all(store, [again])
        assert twice.message_ids == (f"{first.op_id}-2", f"{again.op_id}-1")
        clock_passes = batch("a", "1")  # requested before the rename by a clock that is behind
        apply_all(store, [replace(clock_passes, at=first.at)])
        assert (keys(store), store.totals().messages) == ({"b"}, 4)


def test_a_message_sent_under_both_keys_of_a_session_is_stored_once(todays: Open) -> None:
    with todays() as store:
        apply_all(store, [batch("a", "1")])
        late = batch("a", "2")
        store.rename("a", "b")
        now = batch("b", "2", "3")
        assert [each.affected for each in apply_all(store, [now, late])] == [2, 0]
    assert said(todays(), "b") == ["1", "2", "3"]


def test_a_conflict_under_the_key_before_a_rename_is_one_under_the_new_key(todays: Open) -> None:
    with todays() as store:
        say(store, "a", "one")
        under_condition = requests.append("a", (ChatMessage.user("two"),), expect_tail="another")
        store.rename("a", "b")
        (answer,) = apply_all(store, [under_condition])
        assert (answer.affected, answer.conflict, answer.key) == (0, True, "b")
        (again,) = apply_all(store, [under_condition])
        assert (again.conflict, again.duplicate) == (True, True)
        assert contents(store, "b") == ["one"]


def test_early_changes_follow_a_renamed_session(todays: Open) -> None:
    with todays() as store:
        early = [edit("a", "1", "a"), edit("a", "2", "a"), undo("a", "3"), edit("b", "9", "b")]
        apply_all(store, [batch("a", "9"), *early])
        apply_all(store, [edit("b", "2", "b"), edit("b", "3", "b")])
        assert store.rename("a", "b")
        assert (contents(store, "b"), store.totals().waiting_changes) == (["b"], 3)
    with todays() as store:
        apply_all(store, [batch("b", "1", "2", "3")])
        assert contents(store, "b") == ["b", "a", "b"]
        assert store.totals().waiting_changes == 0
        assert store.verify(deep=True) == []


def test_a_turn_goes_on_in_the_renamed_session(todays: Open, clock: Clock) -> None:
    turn = requests.begin_turn("a", (ChatMessage.user("hi"),), lease_seconds=60)
    reply = requests.append("a", (ChatMessage.assistant("h"),), turn_id=turn.op_id)
    more = requests.replace("a", ChatMessage.assistant("hello"), reply.op_id, turn.op_id)
    end = requests.end_turn("a", turn.op_id)
    late = [replace(each, at=clock.now) for each in (reply, more, end)]
    with todays() as store:
        apply_all(store, [turn])
        store.rename("a", "c")
        store.rename("c", "b")
        say(store, "a", "another")
        clock.advance(seconds=30)
        assert apply_all(store, late[:2]) == [Outcome(1)] * 2
        (info,) = (each for each in store.sessions() if each.key == "b")
        assert info.turn_expires_at == from_micros(clock.now + 60_000_000)
        assert apply_all(store, late[2:]) == [Outcome(0)]
    with todays() as store:
        assert all(each.duplicate and not each.conflict for each in apply_all(store, late))
        assert (contents(store, "b"), contents(store, "a")) == (["hi", "hello"], ["another"])
        assert [each.state for each in store.sessions()] == ["idle", "idle"]
        begun = store.begin_turn("a", ChatMessage.user("new"))
        store.end_turn("a", begun)
        with pytest.raises(ConflictError):
            store.append("a", ChatMessage.user("no"), turn_id=turn.op_id)


def test_a_renamed_session_keeps_its_meta_and_states(todays: Open) -> None:
    store = todays()
    store.describe("a", meta={"project": "x"})
    store.set_state("a", {"step": 1})
    store.append("a", ChatMessage.user("1", tokens=7))
    store.rename("a", "b")
    assert (store.get_state("b").value, store.get_state("a").version) == ({"step": 1}, 0)
    assert [info.key for info in store.sessions(meta={"project": "x"})] == ["b"]
    assert (store.usage(key="b").tokens, store.usage(key="a").tokens) == (7, 0)
    late = replace(requests.set_state("a", 2, expect=1), at=requests.session("a").at - HOUR)
    assert apply_all(store, [late]) == [Outcome(2)]
    assert store.get_state("b").value == 2


@pytest.mark.needs("erasure")
def test_an_author_is_erased_under_every_key(todays: Open) -> None:
    with todays() as store:
        ada, eve = (ChatMessage.user(name, author=name) for name in ("ada", "eve"))
        store.append("a", ada, eve)
        late = [requests.append("a", (ada, eve), None), requests.append("a", (ada,), None)]
        waiting = requests.replace("a", ada, platform_id="1")
        store.rename("a", "b")
        apply_all(store, [waiting])
        finish(store.erase(author="ada"))
        apply_all(store, [late[0], spooled(late[1])])
        assert contents(store, "b") == ["eve", "eve"]
        assert [each.message_id for each in store.load("b")][1] == f"{late[0].op_id}-1"
        assert (keys(store), store.totals().waiting_changes) == ({"b"}, 0)
    with todays() as store:
        assert apply_all(store, [late[0]]) == [Outcome(1, duplicate=True)]


@pytest.mark.needs("erasure")
def test_a_late_erasure_finds_the_renamed_session(todays: Open) -> None:
    with todays() as store:
        say(store, "a", "secret")
        late = requests.append("a", (ChatMessage.user("late"),), None)
        erase = requests.erase(key="a")
        store.rename("a", "b")
        say(store, "a", "new")
        assert isinstance(erase, Erase)
        apply_all(store, [erase])
        receipt = finish(store.store.erase(erase))
        assert (receipt.messages, receipt.subject_sha256) == (1, digest("key", "a").hex())
    with todays() as store:
        assert apply_all(store, [late]) == [Outcome(0)]
        assert (keys(store), contents(store, "a")) == ({"a"}, ["new"])


@pytest.mark.needs("archive")
def test_what_was_restored_and_renamed_is_not_restored_twice(
    todays: Open, clock: Clock, archive: Archive
) -> None:
    with todays() as store:
        say(store, "a", "1")
        clock.advance(hours=2)
        finish(store.cleanup(1, archive=archive))
        bring_back(store, archive, "a")
        store.rename("a", "b")
        assert bring_back(store, archive, "a").messages == 0
        assert keys(store) == {"b"}


def test_a_closed_session_can_be_corrected(todays: Open, clock: Clock) -> None:
    with todays() as store:
        apply_all(store, [batch("s", "1", "2", "3")])
        turn = store.begin_turn("s", ChatMessage.user("hi"), lease_seconds=60)
        ends = from_micros(clock.now + 60_000_000)
        late = spooled(requests.append("s", (ChatMessage.user("late"),), None))
        store.close_session("s")
        clock.advance(seconds=9)
        refused = requests.append("s", (ChatMessage.user("no"),), turn_id=turn)
        assert apply_all(store, [late, refused]) == [Outcome(0, conflict=True)] * 2
        (info,) = store.sessions()
        assert (info.turn_expires_at, info.closed) == (ends, True)
        assert store.end_turn("s", turn) == 0
        apply_all(store, [edit("s", "2", "edited"), undo("s", "3"), edit("s", "4", "never")])
        store.set_state("s", 1)
        store.describe("s", name="n")
        assert store.rewind("s", store.load("s")[1].message_id or "") == 1
    with todays() as store:
        assert contents(store, "s") == ["said 1", "edited"]
        store.reopen_session("s")
        assert apply_all(store, [refused])[0] == Outcome(0, duplicate=True, conflict=True)
        apply_all(store, [batch("s", "4")])
        assert contents(store, "s")[-1] == "never"
