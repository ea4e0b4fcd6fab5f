"""What every store promises of edits and deletions that arrive before their message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Erase, Operation
from backscroll.contract.results import Outcome
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.waiting import MOST_PER_SESSION
from backscroll_worker.testing.conformance.erasure import traces
from backscroll_worker.testing.conformance.platform import batch, message, said
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    keys,
    requests,
)


def edit(key: str, platform_id: str, content: str) -> Operation:
    return requests.replace(key, ChatMessage.user(content), platform_id=platform_id)


def undo(key: str, platform_id: str) -> Operation:
    return requests.rollback(key, platform_id=platform_id)


@pytest.mark.parametrize("reopens", [False, True])
def test_an_early_edit_waits_for_its_message(open_store: Open, *, reopens: bool) -> None:
    early = [edit("s", "b", "first"), edit("s", "b", "newer"), edit("t", "b", "elsewhere")]
    original = batch("s", "a", "b", "c")
    with open_store() as store:
        assert apply_all(store, early) == [Outcome(0)] * 3
        assert keys(store) == set()
        assert store.totals().waiting_changes == 2
        if not reopens:
            assert apply_all(store, [original]) == [Outcome(3)]
    with open_store() as store:
        assert apply_all(store, [original]) == [Outcome(3, duplicate=not reopens)]
        assert contents(store, "s") == ["said a", "newer", "said c"]
        assert said(store, "s") == ["a", "b", "c"]
        assert store.totals().waiting_changes == 1
        assert apply_all(store, early) == [Outcome(0, duplicate=True)] * 3
        assert apply_all(store, [batch("s", "b")])[0].affected == 0
        assert contents(store, "s") == ["said a", "newer", "said c"]
        assert found(store, "newer") == {"newer"}
        assert store.verify() == []
    assert contents(open_store(), "s") == ["said a", "newer", "said c"]


def test_a_turn_begins_with_what_has_waited(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [edit("s", "a", "edited"), undo("s", "b")])
        turn = requests.begin_turn("s", (message("a"), message("b")))
        assert apply_all(store, [turn]) == [Outcome(1)]
        assert contents(store, "s") == ["edited"]
    assert apply_all(open_store(), [turn]) == [Outcome(1, duplicate=True)]


def test_a_conflict_neither_waits_nor_ends_a_wait(store: StoreUnderTest) -> None:
    store.append("s", message("x"))
    late = requests.replace("s", message("a"), turn_id="over", platform_id="a")
    refused = requests.append("s", (message("b"),), turn_id="over")
    apply_all(store, [edit("s", "b", "edited")])
    assert apply_all(store, [late, refused]) == [Outcome(0, conflict=True)] * 2
    assert store.totals().waiting_changes == 1
    store.append("s", message("a"), message("b"))
    assert contents(store, "s") == ["said x", "said a", "edited"]


@pytest.mark.parametrize("together", [False, True])
def test_an_early_deletion_keeps_its_message_away(open_store: Open, *, together: bool) -> None:
    early = [edit("s", "b", "x"), undo("s", "b"), edit("s", "b", "y")]
    original = batch("s", "a", "b")
    with open_store() as store:
        if not together:
            apply_all(store, early)
        assert apply_all(store, [*early, original])[-1] == Outcome(1)
        assert said(store, "s") == ["a"]
        assert apply_all(store, [batch("s", "b")]) == [Outcome(0)]
    with open_store() as store:
        assert apply_all(store, [original]) == [Outcome(1, duplicate=True)]
        assert apply_all(store, [batch("s", "b", "c")]) == [Outcome(1)]
        assert said(store, "s") == ["a", "c"]
        info = store.session("s")
        assert info is not None
        assert info.message_count == 2
        assert store.totals().waiting_changes == 0
        assert store.verify() == []


def test_an_early_edit_keeps_the_original_if_edits_are_kept(open_keeping: Open) -> None:
    with open_keeping() as store:
        apply_all(store, [edit("s", "a", "edited"), batch("s", "a")])
    (edited,) = open_keeping().load("s", include_edits=True)
    assert (edited.content, [each.content for each in edited.edits]) == ("edited", ["said a"])


@pytest.mark.parametrize("count", [3, 1_200])
def test_what_waits_for_a_message_finds_it_in_a_fork(open_store: Open, count: int) -> None:
    ids = [f"p{number}" for number in range(count)]
    early = [edit("f", "p0", "edited"), undo("f", "p1"), edit("f", "other", "later")]
    with open_store() as store:
        apply_all(store, [*early, batch("s", *ids)])
        assert store.fork("s", "f")
        assert contents(store, "f")[:2] == ["edited", "said p2"]
        assert said(store, "f") == [each for each in ids if each != "p1"]
        assert store.totals().waiting_changes == 1
        assert said(store, "s") == ids
    with open_store() as store:
        assert found(store, "edited") == {"edited"}
        assert apply_all(store, [batch("f", "p0", "p1", "other")])[0].affected == 1
        assert contents(store, "f")[-1] == "later"
        assert store.verify(deep=True) == []


def test_a_change_waits_for_no_message_that_is_gone(store: StoreUnderTest) -> None:
    apply_all(store, [batch("s", "a", "b"), undo("s", "a"), edit("s", "a", "x"), undo("s", "a")])
    assert store.totals().waiting_changes == 0
    store.remove_last("none")
    store.replace("none", message(None), "0" * 32)
    assert store.totals().waiting_changes == 0


def test_a_change_waits_for_a_day(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        apply_all(store, [edit("s", "a", "edited"), undo("s", "b")])
        clock.advance(hours=23)
        apply_all(store, [edit("s", "c", "edited")])
        clock.advance(hours=2)
        finish(store.compact(1_000))
        assert store.totals().waiting_changes == 1
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b", "c")])
        assert contents(store, "s") == ["said a", "said b", "edited"]
        assert store.totals().waiting_changes == 0


def test_a_change_waits_on_though_a_clock_is_wrong(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        apply_all(store, [edit("s", "a", "edited"), undo("s", "b")])
        clock.advance(hours=-2)
    clock.advance(hours=24 * 365)
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b")])
        assert contents(store, "s") == ["edited"]


@pytest.mark.parametrize("together", [False, True])
def test_only_so_many_changes_of_a_session_wait(
    store: StoreUnderTest, clock: Clock, *, together: bool
) -> None:
    names = [f"p{number:03}" for number in range(MOST_PER_SESSION + 2, 0, -1)]
    edits = [edit("s", name, "edited") for name in names]
    for group in [edits] if together else [[each] for each in edits]:
        clock.advance(micros=1)
        apply_all(store, group)
    assert store.totals().waiting_changes == MOST_PER_SESSION
    apply_all(store, [batch("s", *names)])
    assert contents(store, "s").count("edited") == MOST_PER_SESSION
    assert contents(store, "s")[:3] == ["said p102", "said p101", "edited"]


@pytest.mark.needs("archive")
def test_a_change_waits_for_what_is_restored_or_imported(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    apply_all(store, [batch("s", "a", "b", "c")])
    clock.advance(hours=3)
    finish(store.cleanup(1, archive=archive))
    early = [undo("s", "a"), edit("s", "b", "edited"), undo("s", "d"), edit("t", "c", "edited")]
    apply_all(store, early)
    assert bring_back(store, archive, "s").messages == 3
    assert contents(store, "s") == ["edited", "said c"]
    assert apply_all(store, [batch("s", "a", "b", "d", "e")])[0].affected == 1
    moment = store.load("s")[0].created_at
    taken = (replace(message("c"), message_id="1" * 32, created_at=moment),)
    imported = ImportSession(new_op_id(), clock.now, "t", taken, {}, clock.now, clock.now)
    assert apply_all(store, [imported]) == [Outcome(1)]
    assert (said(store, "s"), contents(store, "t")) == (["b", "c", "e"], ["edited"])
    assert store.totals().waiting_changes == 0
    assert store.verify() == []


@pytest.mark.needs("erasure", "files")
def test_an_erased_authors_edit_does_not_wait(store: StoreUnderTest, clock: Clock) -> None:
    clock.advance(hours=1)
    early = [
        edit("s", "a", "quagga"),
        requests.replace("s", ChatMessage.user("of bob", author="bob"), platform_id="b"),
        undo("s", "c"),
    ]
    of_zoe = ChatMessage.user("quagga", author="zoe", platform_id="z")
    apply_all(store, [*early, requests.append("s", (of_zoe,))])
    finish(store.store.erase(Erase(new_op_id(), clock.now, author="zoe")))
    assert store.totals().waiting_changes == 2
    late = [edit("s", "z", "quagga"), edit("s", "d", "quagga"), undo("s", "e")]
    apply_all(store, [replace(each, at=clock.now - HOUR) for each in late])
    assert store.totals().waiting_changes == 3
    finish(store.compact(1_000))
    assert traces(store, "quagga") == set()
    clock.advance(seconds=1)
    apply_all(store, [replace(edit("s", "d", "later"), at=clock.now)])
    assert store.totals().waiting_changes == 4
    apply_all(store, [replace(batch("s", "a", "b", "c", "d"), at=clock.now)])
    assert contents(store, "s") == ["said a", "of bob", "later"]


@pytest.mark.parametrize("way", ["delete", "erase", "erase sender"])
def test_what_waits_goes_with_its_session(open_store: Open, clock: Clock, way: str) -> None:
    with open_store() as store:
        apply_all(store, [edit("s", "a", "secret"), edit("kept", "a", "edited")])
        if way == "delete":
            store.delete("s")
        elif way == "erase":
            finish(store.store.erase(Erase(new_op_id(), clock.now, key="s")))
        else:
            store.describe("s", sender="ada")
            finish(store.store.erase(Erase(new_op_id(), clock.now, sender="ada")))
        clock.advance(seconds=1)
        assert store.totals().waiting_changes == 1
        original = Append(new_op_id(), clock.now, "s", (message("a"),))
        apply_all(store, [original, replace(original, op_id=new_op_id(), key="kept")])
    store = open_store()
    assert (contents(store, "s"), contents(store, "kept")) == (["said a"], ["edited"])


def test_a_message_gone_at_once_gives_its_id_to_no_repetition(open_store: Open) -> None:
    twice = batch("s", "a", "a", "b")
    with open_store() as store:
        apply_all(store, [undo("s", "a")])
        assert apply_all(store, [twice]) == [Outcome(1)]
    with open_store() as store:
        assert apply_all(store, [twice]) == [Outcome(1, duplicate=True)]
        assert said(store, "s") == ["b"]
