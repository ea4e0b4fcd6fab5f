"""What every store promises of an author's erasure: only this author's messages go, everywhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Describe, Erase, Replace, Rollback
from backscroll.contract.results import Outcome
from backscroll.contract.turns import BeginTurn, EndTurn
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.erasure import (
    ASKED,
    EARLY,
    LATE,
    append,
    op_id,
    sha256,
    traces,
)
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

NEEDS = "erasure"

ZOE: dict[str, Any] = {"author": "zebra-Λ", "author_name": "Zoe", "platform_id": "p-quagga"}
BOB: dict[str, Any] = {"author": "bob"}
TRACES = ("quagga", "zebra", "Zoe")


def erase(author: str = "zebra-Λ") -> Erase:
    return Erase(op_id(), ASKED, author=author)


def spoken(key: str, at: int, *said: tuple[dict[str, Any], str]) -> Append:
    """An append of these messages, each with a platform id of its own if its author has one."""
    id_ = op_id()
    messages = tuple(
        ChatMessage.user(text, **_numbered(who, f"{id_}-{number}"))
        for number, (who, text) in enumerate(said)
    )
    return Append(id_, at, key, messages)


def _numbered(who: dict[str, Any], number: str) -> dict[str, Any]:
    platform_id = who.get("platform_id")
    return who if platform_id is None else {**who, "platform_id": f"{platform_id}-{number}"}


def _ids(operations: Iterable[Append]) -> list[str]:
    """The ids of Zoe's messages in them."""
    return [
        id_
        for operation in operations
        for id_, message in zip(operation.message_ids, operation.messages, strict=True)
        if message.author == "zebra-Λ"
    ]


def _groups(count: int, at: int = EARLY) -> list[Append]:
    return [
        spoken(f"g{number}", at, (BOB, "hay 1"), (ZOE, f"quagga {number}"), (BOB, "hay 2"))
        for number in range(count)
    ]


@pytest.mark.needs("search", "files")
def test_an_authors_erasure_takes_what_one_person_said_everywhere(
    store: StoreUnderTest, clock: Clock
) -> None:
    clock.now = time.time_ns() // 1000 + HOUR
    said = _groups(30)
    alone = spoken("alone", EARLY, (ZOE, "quagga"), (ZOE, "quagga too"))
    other = spoken("other", EARLY, (BOB, "straw"), ({}, "to whom it may concern"))
    apply_all(store, [*said, alone, other])
    store.describe("g1", pinned=True)
    before = store.session("g2")
    assert traces(store, *TRACES)
    receipt = finish(store.erase(author="zebra-Λ"))
    assert (receipt.subject, receipt.sessions, receipt.messages) == ("author", 31, 32)
    assert receipt.messages_sha256 == sha256(_ids([*said, alone]))
    assert (receipt.op_ids, receipt.log_is_held) == (0, False)
    assert keys(store) == {"alone", "other", *(f"g{number}" for number in range(30))}
    assert contents(store, "g1") == ["hay 1", "hay 2"]
    assert contents(store, "alone") == []
    assert contents(store, "other") == ["straw", "to whom it may concern"]
    after = store.session("g2")
    assert before is not None
    assert after is not None
    assert (after.message_count, after.last_activity) == (2, before.last_activity)
    assert [store.load("g1")[1].message_id] == [said[1].message_ids[2]]
    assert found(store, "quagga") == set()
    assert len(found(store, "hay")) == 2
    assert not store.sessions(author="zebra-Λ")
    assert traces(store, *TRACES) == set()
    assert store.verify(deep=True) == []


@pytest.mark.needs("files", "edits")
def test_an_authors_edits_and_what_came_meanwhile(open_keeping: Open) -> None:
    with open_keeping() as store:
        operations = _groups(200)
        apply_all(store, operations)
        (id_,) = _ids(operations[:1])
        apply_all(store, [Replace(op_id(), EARLY, "g0", ChatMessage.user("quagga again"), id_)])
        for number, _ in enumerate(store.store.erase(erase())):
            apply_all(store, [spoken(f"g{number % 7}", LATE, (BOB, f"more hay {number}"))])
        assert traces(store, *TRACES) == set()
        assert contents(store, "g0")[:3] == ["hay 1", "hay 2", "more hay 0"]
        assert store.verify(deep=True) == []
    assert traces(open_keeping(), *TRACES) == set()


@pytest.mark.parametrize("is_reopened", [False, True])
def test_a_late_append_loses_only_the_erased_authors_messages(
    open_store: Open, is_reopened: bool
) -> None:
    store = open_store()
    finish(store.store.erase(erase()))
    if is_reopened:
        store.close()
        store = open_store()
    mixed = spoken("s", EARLY, (ZOE, "quagga"), (BOB, "hay"), (ZOE, "quagga"), ({}, "straw"))
    only = spoken("t", ASKED, (ZOE, "quagga"))
    first = spoken("u", EARLY, (BOB, "oats"), (ZOE, "quagga"))
    outcomes = apply_all(store, [mixed, only, first])
    assert [outcome.affected for outcome in outcomes] == [2, 0, 1]
    assert keys(store) == {"s", "u"}
    again = apply_all(store, [mixed, first])
    assert [(outcome.affected, outcome.duplicate) for outcome in again] == [(2, True), (1, True)]
    for _ in range(2):
        loaded = [(message.message_id, message.content) for message in store.load("s")]
        ids = mixed.message_ids
        assert loaded == [(ids[1], "hay"), (ids[3], "straw")]
        assert [each.message_id for each in store.load("u")] == [first.message_ids[0]]
        assert all(outcome.duplicate for outcome in apply_all(store, [mixed, first]))
        assert store.verify() == []
        store.close()
        store = open_store()


def test_a_late_replacement_by_an_erased_author_changes_nothing(store: StoreUnderTest) -> None:
    apply_all(store, [*_groups(1), erase()])
    late = Replace(op_id(), EARLY, "g0", ChatMessage.user("quagga", **ZOE))
    assert apply_all(store, [late])[0].affected == 0
    finish(store.store.erase(erase()))
    assert contents(store, "g0") == ["hay 1", "hay 2"]


def test_a_batch_sent_again_after_an_authors_erasure_adds_nothing(store: StoreUnderTest) -> None:
    (said,) = _groups(1)
    apply_all(store, [said])
    finish(store.store.erase(erase()))
    assert apply_all(store, [said])[0].duplicate
    assert contents(store, "g0") == ["hay 1", "hay 2"]
    apply_all(store, [Rollback(op_id(), LATE, "g0")])
    assert contents(store, "g0") == ["hay 1"]


@pytest.mark.parametrize("is_done", [False, True])
def test_what_an_erased_author_said_is_not_stored_when_delivered_again(
    store: StoreUnderTest, is_done: bool
) -> None:
    said, operation = spoken("s", EARLY, (BOB, "hay"), (ZOE, "quagga")), erase()
    platform_id = said.messages[1].platform_id
    apply_all(store, [said, operation])
    if is_done:
        finish(store.store.erase(operation))
    undone = apply_all(store, [Rollback(op_id(), LATE, "s", platform_id=platform_id)])
    again = apply_all(store, [Append(op_id(), LATE, "s", said.messages[1:])])
    assert (undone[0].affected, again[0].affected) == (0, 0)
    finish(store.store.erase(operation))
    again = apply_all(store, [Append(op_id(), LATE, "s", said.messages[1:])])
    assert (again[0].affected, contents(store, "s")) == (0, ["hay"])


def test_an_authors_erasure_has_its_place_in_the_order(store: StoreUnderTest) -> None:
    apply_all(store, [spoken("s", EARLY, (BOB, "hay"))])
    operation = erase()
    apply_all(
        store,
        [
            spoken("s", EARLY, (ZOE, "quagga")),
            operation,
            Replace(op_id(), LATE, "s", ChatMessage.user("straw")),
            spoken("s", LATE, (ZOE, "after")),
            spoken("new", LATE, (ZOE, "after")),
        ],
    )
    receipt = finish(store.store.erase(operation))
    assert (receipt.sessions, receipt.messages) == (1, 1)
    assert contents(store, "s") == ["straw", "after"]
    assert contents(store, "new") == ["after"]
    assert store.verify() == []


@pytest.mark.needs("files")
@pytest.mark.parametrize("slices", [0, 1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("is_asked_anew", [False, True])
def test_an_authors_erasure_killed_half_way_goes_on(
    open_store: Open, slices: int, is_asked_anew: bool
) -> None:
    store, operations, operation = open_store(), _groups(40), erase()
    operations += [spoken("long", EARLY, (BOB, "hay"), *((ZOE, "quagga") for _ in range(300)))]
    apply_all(store, operations)
    apply_all(store, [operation])
    under_way = store.store.erase(operation)
    for _ in range(slices):
        next(under_way, None)
    after = spoken("g1", LATE, ({"author": "zebra-Λ"}, "after"))
    apply_all(store, [after, spoken("long", LATE, (BOB, "more"))])
    store.close()
    store = open_store()
    if is_asked_anew:  # and the first is lost
        finish(store.store.erase(Erase(op_id(), ASKED, author="nobody")))
    else:
        receipt = finish(store.store.erase(operation))
        assert (receipt.sessions, receipt.messages) == (41, 340)
        assert receipt.messages_sha256 == sha256(_ids(operations))
    assert contents(store, "g1") == ["hay 1", "hay 2", "after"]
    assert contents(store, "long") == ["hay", "more"]
    assert traces(store, "quagga") == set()
    assert store.verify(deep=True) == []


@pytest.mark.needs("files")
def test_a_lost_erasure_of_an_author_ends_with_a_compaction(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        apply_all(store, [*_groups(3), erase()])
    clock.advance(hours=6)
    store = open_store()
    finish(store.compact(5))
    assert contents(store, "g1") == ["hay 1", "hay 2"]
    assert traces(store, *TRACES) == set()
    assert store.verify(deep=True) == []


@pytest.mark.parametrize("is_reopened", [False, True])
def test_a_compaction_before_an_authors_erasure_loses_nothing_of_it(
    open_store: Open, clock: Clock, is_reopened: bool
) -> None:
    store, update = open_store(), ChatMessage.user("quagga", **ZOE)
    store.append("s", update, dedup_key="update 1")
    apply_all(store, _groups(3))
    operation = Erase(op_id(), clock.now, author="zebra-Λ")
    apply_all(store, [operation])
    finish(store.compact(1_000))
    if is_reopened:
        store.close()
        store = open_store()
    finish(store.store.erase(operation))
    assert [contents(store, key) for key in ("s", "g1")] == [[], ["hay 1", "hay 2"]]
    store.append("s", update, dedup_key="update 1")  # which the platform delivers again
    assert contents(store, "s") == []


def test_erasures_of_an_author_and_a_session_share_it_out(store: StoreUnderTest) -> None:
    apply_all(store, _groups(3))
    operations = [erase(), erase("bob"), Erase(op_id(), ASKED, "g1"), erase()]
    apply_all(store, operations)
    receipts = [finish(store.store.erase(operation)) for operation in operations]
    assert [receipt.messages for receipt in receipts if receipt.subject == "key"] in ([0], [3])
    assert sum(receipt.messages for receipt in receipts) == 9
    assert keys(store) == {"g0", "g2"}
    assert contents(store, "g0") == contents(store, "g2") == []
    assert store.verify(deep=True) == []


@pytest.mark.needs("files")
def test_a_foreign_op_id_goes_with_the_only_message_it_brought(store: StoreUnderTest) -> None:
    mine, both = (
        Append(
            name,
            EARLY,
            "z",
            tuple(ChatMessage.user("quagga", **_numbered(who, name)) for who in people),
        )
        for name, people in (("wa-zebra-1", [ZOE]), ("wa-both-1", [ZOE, BOB]))
    )
    apply_all(store, [mine, both])
    receipt = finish(store.store.erase(erase()))
    assert (receipt.messages, receipt.op_ids) == (2, 1)
    assert traces(store, "zebra") == set()
    apply_all(store, [mine, both])
    assert contents(store, "z") == ["quagga"]


@pytest.mark.needs("archive")
def test_an_erased_authors_messages_do_not_come_back_from_the_archive(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    operations = _groups(2, clock.now)
    apply_all(store, operations)
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    clock.advance(hours=1)
    finish(store.store.erase(Erase(op_id(), clock.now, author="zebra-Λ")))
    bring_back(store, archive, "g0")
    assert contents(store, "g0") == ["hay 1", "hay 2"]


@pytest.mark.needs("archive")
def test_a_restoration_while_an_author_is_erased_brings_nothing_back(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    apply_all(store, _groups(2, clock.now))
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    apply_all(store, _groups(1, clock.now))
    operation = Erase(op_id(), clock.now, author="zebra-Λ")
    apply_all(store, [operation])
    bring_back(store, archive, "g0")
    finish(store.store.erase(operation))
    assert contents(store, "g0") == ["hay 1", "hay 2"] * 2
    assert store.verify(deep=True) == []


def test_an_author_may_be_erased_who_is_a_sender_too(store: StoreUnderTest) -> None:
    apply_all(
        store,
        [
            append("z", "hay", EARLY),
            Describe(op_id(), EARLY, "z", {"sender": "zebra-Λ"}),
            spoken("z", EARLY, (ZOE, "quagga")),
        ],
    )
    finish(store.store.erase(erase()))
    assert contents(store, "z") == ["hay"]
    apply_all(store, [Describe(op_id(), EARLY, "z", {"sender": "zebra-Λ"})])
    assert contents(store, "z") == ["hay"]
    finish(store.store.erase(Erase(op_id(), ASKED, sender="zebra-Λ")))
    assert keys(store) == set()


def test_an_authors_erasure_can_be_asked_for_by_a_call(store: StoreUnderTest) -> None:
    assert requests.erase(None, None, None, "bob").subject == ("author", "bob")
    assert finish(store.erase(author="nobody")).messages == 0


def test_a_late_turn_begins_without_the_erased_authors_message(store: StoreUnderTest) -> None:
    finish(store.store.erase(erase()))
    said = ChatMessage.user("hay", **BOB), ChatMessage.user("quagga", **ZOE)
    late = BeginTurn(op_id(), EARLY, "z", said[::-1])
    of_zoe = BeginTurn(op_id(), EARLY, "alone", said[1:])
    apply_all(store, [erase()])
    assert list(store.apply([late, of_zoe])) == [Outcome(1), Outcome(0)]
    assert list(store.apply([late])) == [Outcome(1, duplicate=True)]
    assert contents(store, "z") == ["hay"]
    info = store.session("z")
    assert info is not None
    assert (info.state, info.turn_id) == ("running", late.op_id)
    assert keys(store) == {"z"}
    end = EndTurn(op_id(), LATE, "z", late.op_id, "error", late.message_ids)
    assert list(store.apply([end])) == [Outcome(1)]
    assert contents(store, "z") == []
    assert store.verify(deep=True) == []


def test_a_message_being_erased_is_not_the_tail_any_more(store: StoreUnderTest) -> None:
    turn = BeginTurn(op_id(), EARLY, "z", (ChatMessage.user("hay", **BOB),))
    quagga = Append(op_id(), EARLY, "z", (ChatMessage.user("quagga", **ZOE),), turn_id=turn.op_id)
    tails = [*turn.message_ids, *quagga.message_ids]
    asked = erase()
    apply_all(store, [turn, quagga, asked])
    straw = (ChatMessage.user("straw", **BOB),)
    before, after = (Append(op_id(), LATE, "z", straw, None, tail) for tail in tails[::-1])
    assert list(store.apply([before, after])) == [Outcome(0, conflict=True), Outcome(1)]
    end = EndTurn(op_id(), LATE, "z", turn.op_id, "error", (*tails, *after.message_ids))
    apply_all(store, [end])
    finish(store.store.erase(asked))
    assert contents(store, "z") == []
    info = store.session("z")
    assert info is not None
    assert (info.state, info.message_count) == ("error", 0)
    assert store.verify(deep=True) == []
