"""What every store promises of an operation that comes again: it is applied once, for ever."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    requests,
    say,
)

A_WEEK = 168.0


def append(key: str, *texts: str) -> Operation:
    return requests.append(key, tuple(ChatMessage.user(text) for text in texts), None)


def test_an_append_that_comes_again_is_stored_once(store: StoreUnderTest) -> None:
    operation = append("s", "a", "b")
    assert apply_all(store, [operation]) == [Outcome(2)]
    assert apply_all(store, [operation]) == [Outcome(2, duplicate=True)]
    assert contents(store, "s") == ["a", "b"]


def test_twice_in_one_group_is_once(store: StoreUnderTest) -> None:
    operation = append("s", "a")
    assert apply_all(store, [operation, operation]) == [Outcome(1), Outcome(1, duplicate=True)]
    assert contents(store, "s") == ["a"]


def test_two_adapters_that_deliver_one_platform_message_store_it_once(
    store: StoreUnderTest,
) -> None:
    for _ in range(2):
        store.append("s", ChatMessage.user("from the platform"), dedup_key="platform-77")
    store.append("other", ChatMessage.user("elsewhere"), dedup_key="platform-77")
    assert contents(store, "s") == ["from the platform"]
    assert contents(store, "other") == ["elsewhere"]


def test_an_append_comes_again_after_the_store_was_opened_again(open_store: Open) -> None:
    operation = append("s", "a", "b", "c")
    with open_store() as store:
        apply_all(store, [operation])
    store = open_store()
    assert apply_all(store, [operation]) == [Outcome(3, duplicate=True)]
    assert contents(store, "s") == ["a", "b", "c"]


UNDOING: dict[str, Callable[[str, str], Operation]] = {
    "rollback": lambda key, _: requests.rollback(key, None),
    "rollback by id": requests.rollback,
    "replace": lambda key, _: requests.replace(key, ChatMessage.user("z"), None),
    "replace by id": lambda key, mid: requests.replace(key, ChatMessage.user("z"), mid),
    "clear": lambda key, _: requests.clear(key),
    "delete": lambda key, _: requests.delete(key),
}


@pytest.mark.parametrize("reopened", [False, True], ids=["same process", "next process"])
@pytest.mark.parametrize("undoing", UNDOING)
def test_an_append_that_comes_again_after_it_was_undone_stays_undone(
    open_store: Open, undoing: str, reopened: bool
) -> None:
    said = append("s", "a")
    undo = UNDOING[undoing]("s", said.op_id)
    store = open_store()
    apply_all(store, [said, undo])
    left = contents(store, "s")
    if reopened:
        store.close()
        store = open_store()
    assert apply_all(store, [said, undo]) == [
        Outcome(1, duplicate=True),
        Outcome(1, duplicate=True),
    ]
    assert contents(store, "s") == left
    assert store.verify() == []


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one group"])
@pytest.mark.parametrize("undoing", UNDOING)
def test_an_undoing_that_comes_again_leaves_what_was_said_since(
    open_store: Open, undoing: str, together: bool
) -> None:
    said, since = append("s", "a"), append("s", "since")
    undo = UNDOING[undoing]("s", said.op_id)
    with open_store() as store:
        for group in [[said, undo, since]] if together else [[said], [undo], [since]]:
            apply_all(store, group)
        expected = contents(store, "s")
    store = open_store()
    assert all(outcome.duplicate for outcome in apply_all(store, [said, undo, since, undo]))
    assert contents(store, "s") == expected
    assert expected[-1] == "since"


@pytest.mark.parametrize("undoing", UNDOING)
def test_an_undoing_with_nothing_to_do_is_remembered_too(open_store: Open, undoing: str) -> None:
    later = append("s", "later")
    undo = UNDOING[undoing]("s", later.op_id)
    with open_store() as store:
        assert apply_all(store, [undo]) == [Outcome(0)]
        assert not store.exists("s")
    with open_store() as store:
        apply_all(store, [later])
    store = open_store()
    assert apply_all(store, [undo]) == [Outcome(0, duplicate=True)]
    assert contents(store, "s") == ["later"]


@pytest.mark.parametrize("undoing", ["rollback", "replace", "clear"])
def test_an_undoing_of_an_empty_session_is_remembered_too(open_store: Open, undoing: str) -> None:
    undo = UNDOING[undoing]("s", "-")
    with open_store() as store:
        store.describe("s", name="Chat")
        assert apply_all(store, [undo]) == [Outcome(0)]
        say(store, "s", "later")
    store = open_store()
    assert apply_all(store, [undo]) == [Outcome(0, duplicate=True)]
    assert contents(store, "s") == ["later"]


def test_an_append_whose_messages_went_one_by_one_is_still_known(open_store: Open) -> None:
    said = append("s", "a", "b", "c")
    with open_store() as store:
        apply_all(store, [said])
        for number in range(3):
            assert store.remove_last("s"), number
            assert apply_all(store, [said]) == [Outcome(3, duplicate=True)]
    store = open_store()
    assert apply_all(store, [said]) == [Outcome(3, duplicate=True)]
    assert contents(store, "s") == []


def test_a_description_that_comes_again_changes_nothing(open_store: Open) -> None:
    first = requests.describe("s", {"name": "first", "state": "running", "turn_id": "t"})
    with open_store() as store:
        apply_all(store, [first, requests.describe("s", {"name": "second", "state": "idle"})])
    store = open_store()
    assert apply_all(store, [first]) == [Outcome(1, duplicate=True)]
    info = store.session("s")
    assert info is not None
    assert (info.name, info.state, info.turn_id) == ("second", "idle", None)


def test_a_description_again_after_a_delete_does_not_restore_the_session(
    open_store: Open,
) -> None:
    described = requests.describe("s", {"name": "Chat"})
    with open_store() as store:
        apply_all(store, [described])
        store.delete("s")
    store = open_store()
    assert apply_all(store, [described]) == [Outcome(1, duplicate=True)]
    assert not store.exists("s")
    say(store, "s", "new")
    assert apply_all(store, [described]) == [Outcome(1, duplicate=True)]
    info = store.session("s")
    assert info is not None
    assert info.name is None


def test_a_rename_that_comes_again_leaves_later_names_alone(open_store: Open) -> None:
    rename = requests.rename_agent("old", "new")
    with open_store() as store:
        for key in ("a", "b"):
            store.describe(key, agent="old")
        assert apply_all(store, [rename]) == [Outcome(2)]
        store.describe("a", agent="old")
        store.describe("c", agent="old")
    store = open_store()
    assert apply_all(store, [rename]) == [Outcome(2, duplicate=True)]
    assert {info.key: info.agent for info in store.sessions().sessions} == {
        "a": "old",
        "b": "new",
        "c": "old",
    }


def test_a_rename_in_the_middle_of_a_group_is_applied_in_its_place(open_store: Open) -> None:
    group: list[Operation] = [
        requests.describe("before", {"agent": "old"}),
        requests.describe("back", {"agent": "old"}),
        requests.rename_agent("old", "new"),
        requests.describe("after", {"agent": "old"}),
        requests.describe("back", {"agent": "old"}),
    ]
    with open_store() as store:
        apply_all(store, group)
    store = open_store()
    assert all(outcome.duplicate for outcome in apply_all(store, group))
    assert {info.key: info.agent for info in store.sessions().sessions} == {
        "before": "new",
        "after": "old",
        "back": "old",
    }


def test_a_whole_group_that_comes_again_changes_nothing(open_store: Open) -> None:
    a, b, c, d = append("s", "a"), append("s", "b", "B"), append("t", "c"), append("s", "d")
    group: list[Operation] = [
        a,
        b,
        requests.rollback("s", None),
        requests.describe("s", {"agent": "helper", "name": "one"}),
        c,
        requests.delete("s"),
        d,
        requests.describe("s", {"name": "two"}),
        requests.replace("t", ChatMessage.user("C"), c.op_id),
        requests.rename_agent("helper", "other"),
        requests.rollback("nobody", None),
        append("u", "u1", "u2", "u3"),
        requests.clear("u"),
        append("u", "u4"),
    ]
    with open_store() as store:
        outcomes = apply_all(store, group)
        histories = {key: store.load(key) for key in "stu"}
        page = store.sessions()
    for _ in range(2):
        with open_store() as store:
            again = apply_all(store, group)
            assert again == [Outcome(first.affected, duplicate=True) for first in outcomes]
            assert {key: store.load(key) for key in "stu"} == histories
            assert store.sessions() == page
            assert store.verify() == []
    assert [message.content for message in histories["s"]] == ["d"]
    assert [message.content for message in histories["t"]] == ["C"]
    assert [message.content for message in histories["u"]] == ["u4"]


@pytest.mark.parametrize("reached", range(9))
def test_a_group_that_was_applied_in_part_before_is_brought_to_its_end(
    open_store: Open, reached: int
) -> None:
    group: list[Operation] = [
        append("s", "a", "b"),
        requests.rollback("s", None),
        requests.describe("s", {"name": "one"}),
        append("t", "c"),
        requests.delete("s"),
        append("s", "d"),
        append("s", "e", "f"),
        requests.clear("t"),
        append("t", "g"),
    ]
    with open_store() as store:
        apply_all(store, group[:reached])
    with open_store() as store:
        apply_all(store, group)
    store = open_store()
    assert contents(store, "s") == ["d", "e", "f"]
    assert contents(store, "t") == ["g"]
    assert store.session("s") is not None


def test_op_ids_survive_a_cleanup(open_store: Open) -> None:
    said = append("s", "a", "b")
    with open_store() as store:
        apply_all(store, [said])
        store.apply([])
        finish(store.cleanup(-1))
        assert keys(store) == set()
    store = open_store()
    assert apply_all(store, [said]) == [Outcome(2, duplicate=True)]
    assert not store.exists("s")


def test_op_ids_survive_a_compaction_until_they_are_old(open_store: Open) -> None:
    said, gone = append("s", "a", "b"), append("t", "c")
    group = [said, requests.rollback("s", None), gone, requests.delete("t")]
    with open_store() as store:
        apply_all(store, group)
        finish(store.compact(A_WEEK))
    store = open_store()
    assert all(outcome.duplicate for outcome in apply_all(store, group))
    assert contents(store, "s") == ["a"]


def test_nothing_is_applied_of_what_the_contract_refuses(store: StoreUnderTest) -> None:
    with pytest.raises(InvalidInputError):
        store.append("", ChatMessage.user("x"))
    with pytest.raises(InvalidInputError):
        store.append("s", ChatMessage.user("\ud800"))
    with pytest.raises(InvalidInputError):
        store.describe("s", colour="blue")
    assert keys(store) == set()


@pytest.mark.needs("search")
def test_what_was_undone_twice_over_is_found_by_nobody(open_store: Open) -> None:
    said = append("s", "needle one", "needle two")
    with open_store() as store:
        apply_all(store, [said, requests.rollback("s", None), requests.rollback("s", None), said])
    assert found(open_store(), "needle") == set()
