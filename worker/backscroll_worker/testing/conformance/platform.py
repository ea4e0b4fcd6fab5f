"""What every store promises of the platform's own ids: each of them is stored once."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Erase
from backscroll.contract.results import Outcome
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.maintenance.restore import restore
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    requests,
    say,
)


def message(platform_id: str | None, content: str | None = None) -> ChatMessage:
    return ChatMessage.user(content or f"said {platform_id}", platform_id=platform_id)


def batch(key: str, *platform_ids: str | None) -> Append:
    return requests.append(key, tuple(map(message, platform_ids)))


def said(store: StoreUnderTest, key: str) -> list[str | None]:
    """The platform's ids of a session's messages."""
    return [each.platform_id for each in store.load(key)]


def test_overlapping_batches_add_only_what_is_new(open_store: Open) -> None:
    with open_store() as store:
        first, second = batch("s", "a", "b", "c"), batch("s", "b", None, "d", "c")
        assert apply_all(store, [first, second]) == [
            Outcome(3),
            Outcome(
                2, message_ids=_named(second, {0: first.message_ids[1], 3: first.op_id + "-2"})
            ),
        ]
    with open_store() as store:
        third = batch("s", "d", "e")
        (outcome,) = apply_all(store, [third])
        assert (outcome.affected, said(store, "s")) == (1, ["a", "b", "c", None, "d", "e"])
        assert outcome.message_ids == (second.message_ids[2], third.message_ids[1])
        assert [each.message_id for each in store.load("s")][-1] == third.message_ids[1]
        info = store.session("s")
        assert info is not None
        assert info.message_count == 6
        assert found(store, "said") == {f"said {name}" for name in ("a", "b", "c", None, "d", "e")}
    assert said(open_store(), "s") == ["a", "b", "c", None, "d", "e"]


def _named(append: Append, others: dict[int, str]) -> tuple[str, ...]:
    return tuple(others.get(index, id_) for index, id_ in enumerate(append.message_ids))


@pytest.mark.parametrize(
    "ids",
    [
        ("0001", "0002", "0003", "0004"),
        ("10", "9", "100", "11"),
        ("z", "ä", "\uffee", "\U0001d11e"),  # of which UTF-16 has the last before the third
        ("$b/x", "$b", "$B", "$b "),
    ],
)
def test_each_is_known_in_whatever_order_ids_come(open_store: Open, ids: tuple[str, ...]) -> None:
    orders = list(permutations(ids))
    with open_store() as store:
        for number, order in enumerate(orders):  # each message in a group of its own
            for id_ in order:
                apply_all(store, [batch(f"{number}", id_), batch("all", id_)])
    with open_store() as store:
        again = [batch(f"{number}", *reversed(order)) for number, order in enumerate(orders)]
        assert {outcome.affected for outcome in apply_all(store, again)} == {0}
        for number, order in enumerate(orders):
            assert said(store, f"{number}") == list(order)
        assert said(store, "all") == list(orders[0])


def test_the_first_of_the_same_id_in_a_batch_counts(open_store: Open) -> None:
    with open_store() as store:
        twice = requests.append("s", (message("a", "one"), message("a", "two"), message("b")))
        (outcome,) = apply_all(store, [twice])
        assert outcome.affected == 2
        assert outcome.message_ids == _named(twice, {1: twice.op_id})
        assert contents(store, "s") == ["one", "said b"]
    assert contents(open_store(), "s") == ["one", "said b"]


def test_an_append_is_repeated_with_its_first_outcome(open_store: Open) -> None:
    first, second = batch("s", "a"), batch("s", "a", "b", "c")
    with open_store() as store:
        outcomes = apply_all(store, [first, second])
        again = [replace(each, duplicate=True) for each in outcomes]
        assert apply_all(store, [first, second]) == again
        assert apply_all(store, [batch("s", "a"), second])[1] == again[1]
    assert apply_all(open_store(), [first, second]) == again


def test_another_session_does_not_know_the_id(store: StoreUnderTest) -> None:
    assert apply_all(store, [batch("s", "a"), batch("t", "a")]) == [Outcome(1), Outcome(1)]
    assert apply_all(store, [batch("s", "A"), batch("s", "a ")]) == [Outcome(1), Outcome(1)]


def test_ids_that_look_alike_are_others(open_store: Open) -> None:
    names = (
        "1",
        "1 1",
        " 1",
        "1 ",
        "01",
        "1e0",
        "-1",
        "1.0",
        "\u00e9",
        "e\u0301",
        "\U0001f600",
        "'",
    )
    with open_store() as store:
        first, second = batch("s", *names), batch("t", *names)
        assert apply_all(store, [first]) == [Outcome(len(names))]
        assert apply_all(store, [second]) == [Outcome(len(names))]
    with open_store() as store:
        (again,) = apply_all(store, [batch("t", *reversed(names))])
        assert again == Outcome(0, message_ids=second.message_ids[::-1])
        assert (said(store, "s"), said(store, "t")) == ([*names], [*names])


def test_a_gone_id_is_gone_in_its_session_only(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b"), batch("t", "b"), batch("u", "c")])
        store.remove_last("s")
    with open_store() as store:
        outcomes = apply_all(store, [batch("u", "b"), batch("s", "b"), batch("t", "b", "a")])
        assert [each.affected for each in outcomes] == [1, 0, 1]
        assert [said(store, key) for key in "stu"] == [["a"], ["b", "a"], ["c", "b"]]


def test_nothing_new_is_no_activity(store: StoreUnderTest, clock: Clock) -> None:
    apply_all(store, [batch("s", "a")])
    before = store.session("s")
    clock.advance(seconds=5)
    apply_all(store, [batch("s", "a")])
    assert store.session("s") == before


@pytest.mark.parametrize("reopens", [False, True])
def test_what_was_rolled_back_or_cleared_is_not_stored_again(
    open_store: Open, *, reopens: bool
) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b", "c")])
        store.remove_last("s")
        if not reopens:
            assert apply_all(store, [batch("s", "c")]) == [Outcome(0)]
    with open_store() as store:
        assert apply_all(store, [batch("s", "c")]) == [Outcome(0)]
        assert said(store, "s") == ["a", "b"]
        clear, append = requests.clear("s"), batch("s", "a", "b", "c", "d")
        assert apply_all(store, [clear, append]) == [Outcome(2), Outcome(1)]
    with open_store() as store:
        assert apply_all(store, [batch("s", "b", "e")]) == [Outcome(1)]
        assert said(store, "s") == ["d", "e"]
        assert store.verify() == []


def test_what_the_message_cap_took_is_not_stored_again(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b", "c", "d")])
        finish(store.cleanup(Retention(Rule("default", None, 2))))
        assert said(store, "s") == ["c", "d"]
        assert apply_all(store, [batch("s", "a")]) == [Outcome(0)]
    assert apply_all(open_store(), [batch("s", "a", "b", "e")]) == [Outcome(1)]


def test_compaction_forgets_the_ids_of_gone_messages(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b")])
        store.remove_last("s")
        finish(store.compact(1))
        assert apply_all(store, [batch("s", "b")]) == [Outcome(0)]
        clock.advance(hours=2)
        finish(store.compact(1))
        assert apply_all(store, [batch("s", "a")])[0].affected == 0
        assert apply_all(store, [batch("s", "b")]) == [Outcome(1)]
    assert said(open_store(), "s") == ["a", "b"]


def test_a_deleted_or_erased_session_knows_no_id(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b"), batch("t", "a", "b")])
        store.remove_last("s")
        store.remove_last("t")
        deleted = [requests.delete("s"), batch("s", "a", "b"), requests.rollback("s")]
        assert [each.affected for each in apply_all(store, deleted)] == [1, 2, 1]
        store.delete("s")
        clock.advance(seconds=1)
        finish(store.store.erase(Erase(new_op_id(), clock.now, key="t")))
        clock.advance(seconds=1)
    with open_store() as store:
        for key in "st":
            append = Append(new_op_id(), clock.now, key, (message("a"), message("b")))
            assert apply_all(store, [append]) == [Outcome(2)]
        assert store.verify() == []


def test_an_import_takes_over_all_and_is_known(store: StoreUnderTest, clock: Clock) -> None:
    say(store, "other", "x")
    moment = store.load("other")[0].created_at
    taken = tuple(
        replace(message(id_), message_id=f"{number:032x}", created_at=moment)
        for number, id_ in enumerate(["a", "b", "a"])
    )
    imported = ImportSession(new_op_id(), clock.now, "s", taken, {}, clock.now, clock.now)
    outcomes = apply_all(store, [imported, batch("s", "a", "c")])
    assert [each.affected for each in outcomes] == [3, 1]
    assert outcomes[1].message_ids is not None
    assert outcomes[1].message_ids[0] == f"{0:032x}"
    assert said(store, "s") == ["a", "b", "a", "c"]


def test_a_restored_message_is_not_there_twice(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    apply_all(store, [batch("s", "a", "b")])
    clock.advance(hours=3)
    finish(store.cleanup(1, archive=archive))
    assert apply_all(store, [batch("s", "b", "c")]) == [Outcome(2)]
    report = finish(restore(store.store, archive, requests.restore("s")))
    assert (report.messages, said(store, "s")) == (1, ["a", "b", "c"])
    assert apply_all(store, [batch("s", "a", "d")])[0].affected == 1
    clock.advance(hours=3)
    finish(store.cleanup(1, archive=archive))
    edited = requests.replace("s", message(None, "as it is by now"), platform_id="b")
    apply_all(store, [batch("s", "b", "e"), edited])
    clock.advance(hours=3)
    finish(store.cleanup(1, archive=archive))
    bring_back(store, archive, "s")
    assert sorted(map(str, said(store, "s"))) == ["a", "b", "c", "d", "e"]
    assert contents(store, "s").count("as it is by now") == 1


def test_a_large_session_keeps_its_ids_when_it_is_cleared(store: StoreUnderTest) -> None:
    apply_all(store, [batch("s", *map(str, range(1_200)))])
    store.remove_last("s")
    assert store.clear("s") == 1_199
    assert apply_all(store, [batch("s", "5", "1199", "new")]) == [Outcome(1)]
    finish(store.finish_removals())
    assert apply_all(store, [batch("s", "6", "1199", "new")])[0].affected == 0
    assert store.verify() == []


def test_attributes_sent_with_nothing_new_are_set(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a")])
        apply_all(store, [requests.append("s", (message("a"),), None, {"channel": "slack"})])
    info = open_store().session("s")
    assert info is not None
    assert info.channel == "slack"


def test_a_message_is_named_by_its_platform_id(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [batch("s", "a", "b", "c"), batch("t", "b")])
        edit = requests.replace("s", ChatMessage.user("edited"), platform_id="b")
        assert apply_all(store, [edit, edit]) == [Outcome(1), Outcome(1, duplicate=True)]
        assert store.remove("s", platform_id="a")
        assert not store.remove("s", platform_id="a")
        assert not store.replace("s", message("b"), platform_id="B")
    with open_store() as store:
        assert contents(store, "s") == ["edited", "said c"]
        assert said(store, "s") == ["b", "c"]
        append, undo = batch("s", "d", "e"), requests.rollback("s", platform_id="d")
        assert [each.affected for each in apply_all(store, [append, undo])] == [2, 1]
        assert store.remove("s", platform_id="c")
        assert said(store, "s") == ["b", "e"]
        assert contents(store, "t") == ["said b"]
    assert contents(open_store(), "s") == ["edited", "said e"]


def test_a_history_is_read_beside_a_platform_id(open_store: Open) -> None:
    names = list("abcdefghij")
    with open_store() as store:
        apply_all(store, [batch("s", *names)])
        assert _beside(store, before_platform_id="d", limit=2) == ["b", "c"]
    store = open_store()
    assert _beside(store, before_platform_id="a") == []
    assert _beside(store, around_platform_id="e", limit=3) == ["d", "e", "f"]
    assert _beside(store, around_platform_id="a") == names
    store.remove("s", platform_id="e")
    for name in ("e", "z"):
        for where in ({"before_platform_id": name}, {"around_platform_id": name}):
            with pytest.raises(OperationRefusedError, match=next(iter(where))):
                _beside(store, limit=2, **where)


def test_messages_are_chosen_up_to_a_platform_id(open_store: Open) -> None:
    def turns(*platform_ids: str) -> list[ChatMessage]:
        return [replace(message(each), tokens=5, author=f"by {each}") for each in platform_ids]

    with open_store() as store:
        first, *_ = store.append("s", *turns("a", "b", "c"), message("d"))
        store.append("s", ChatMessage.summary("short", upto=first), *turns("e", "f"))
    store = open_store()
    assert _beside(store, before_platform_id="c", max_tokens=9) == ["b"]
    assert _beside(store, before_platform_id="f", after=first) == ["b", "c", "d", None, "e"]
    assert _beside(store, before_platform_id="f", author="by a") == ["a"]
    assert _beside(store, before_platform_id="f", legal=True, limit=1) == ["e"]
    assert _beside(store, before_platform_id="f", active=True, limit=2) == [None, "e"]
    assert _beside(store, before_platform_id="d", active=True) == ["a", "b", "c"]
    assert _beside(store, before_platform_id="f", max_tokens=5, count_tokens=lambda _: 1) == ["e"]
    with pytest.raises(OperationRefusedError, match=r"before_platform_id: .* 'z'"):
        _beside(store, before_platform_id="z", legal=True)
    for chosen in ({"role": "user"}, {"legal": True}, {"max_tokens": 9}, {"after": first}):
        with pytest.raises(InvalidInputError, match="around_platform_id: cannot be given together"):
            _beside(store, around_platform_id="a", **chosen)


def test_a_turn_stores_a_message_once(open_store: Open) -> None:
    with open_store() as store:
        (first,) = store.append("s", message("a"))
        turn = requests.begin_turn("s", tuple(map(message, "ab")))
        ids = first, turn.message_ids[1]
        assert apply_all(store, [turn]) == [Outcome(1, message_ids=ids)]
    with open_store() as store:
        assert apply_all(store, [turn]) == [Outcome(1, duplicate=True, message_ids=ids)]
        assert said(store, "s") == ["a", "b"]
        info = store.session("s")
        assert info is not None
        assert info.state == "running"
        assert apply_all(store, [requests.begin_turn("s", (message("a"),))]) == [
            Outcome(0, conflict=True)
        ]


def test_what_a_failed_turn_said_may_be_sent_again(open_store: Open) -> None:
    with open_store() as store:
        (first,) = store.append("s", message("a"))
        turn = requests.begin_turn("s", tuple(map(message, "ab")))
        end = requests.end_turn("s", turn.op_id, "error", turn.message_ids)
        outcomes = apply_all(store, [turn, end, batch("s", "b", "a")])
        assert [each.affected for each in outcomes] == [1, 1, 1]
    with open_store() as store:
        again = requests.begin_turn("s", tuple(map(message, "bc")))
        assert [each.affected for each in apply_all(store, [again])] == [1]
        store.end_turn("s", again.op_id, "error", again.message_ids)
    store = open_store()
    assert apply_all(store, [batch("s", "c", "b")])[0].affected == 1
    assert said(store, "s") == ["a", "b", "c"]
    assert store.load("s")[0].message_id == first
    assert store.verify() == []


def _beside(store: StoreUnderTest, **where: Any) -> list[str | None]:
    return [each.platform_id for each in store.load("s", **where)]


def test_one_id_at_most_says_which_message_is_meant(store: StoreUnderTest) -> None:
    both: dict[str, Any] = {"message_id": "a", "platform_id": "b"}
    for call in (
        lambda: requests.rollback("s", **both),
        lambda: requests.replace("s", message(None), **both),
        lambda: requests.load("s", before="a", before_platform_id="b"),
        lambda: requests.load("s", around="a", around_platform_id="b"),
        lambda: requests.load("s", before_platform_id="a", around_platform_id="b"),
        lambda: requests.rollback("s", platform_id=""),
        lambda: store.remove("s"),
    ):
        with pytest.raises(InvalidInputError):
            call()
