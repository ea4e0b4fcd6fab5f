"""Forks that are copied in slices: what happens meanwhile, and what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest

from backscroll.contract.forks import Fork
from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll.contract.states import SessionState
from backscroll_worker.contract import forks
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.attachments import CAT, OF_CAT, blobs, with_data
from backscroll_worker.testing.conformance.forks import begun, done, fork, numbered
from backscroll_worker.testing.fixtures import Open, Rules
from backscroll_worker.testing.interruptions import killed_at
from backscroll_worker.testing.stores import StoreUnderTest, contents, found, keys, open_tested, say

LARGE = 400


@pytest.fixture(autouse=True)
def _ten_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "MOST_AT_ONCE", 10)


EARLY = ChatMessage.user("early", platform_id="early", created_at=datetime(2020, 1, 1, tzinfo=UTC))

CHANGES: dict[str, Callable[[StoreUnderTest, list[str]], Any]] = {
    "append": lambda store, _: say(store, "f", "after"),
    "delete": lambda store, _: store.delete("s"),
    "delete by prefix": lambda store, _: store.delete(prefix="s"),
    "clear": lambda store, _: store.clear("s"),
    "rewind": lambda store, ids: store.rewind("s", ids[2]),
    "splice": lambda store, ids: store.splice("s", remove=[ids[2]]),
    "pop": lambda store, _: store.pop("s", 3),
    "empty": lambda store, _: store.splice("s", remove="all"),
    "remove": lambda store, ids: store.remove("s", ids[2]),
    "backfill": lambda store, _: store.backfill("s", EARLY),
    "more": lambda store, _: say(store, "s", "more"),
    "rename": lambda store, _: store.rename("s", "renamed"),
    "reset": lambda store, _: store.reset("s"),
    "merge": lambda store, _: [say(store, "t", "other"), store.merge("s", "t")],
    "merge into": lambda store, _: [store.backfill("t", EARLY), store.merge("t", "s")],
    "platform's deletion": lambda store, _: store.remove("s", platform_id="p2"),
    "replace": lambda store, ids: store.replace("s", ChatMessage.user("edited"), ids[2]),
    "erase": lambda store, _: finish(store.erase(key="s")),
    "compact": lambda store, _: finish(store.compact(1_000)),
    "again": lambda store, _: store.fork("f", "g"),
}


@pytest.mark.parametrize("slices", [0, 3])
@pytest.mark.parametrize("change", CHANGES)
def test_what_happens_while_it_is_copied_is_after_it(
    store: StoreUnderTest, change: str, slices: int
) -> None:
    ids = store.append("s", *numbered(LARGE))
    finish_it = begun(store, fork(), slices)
    CHANGES[change](store, ids)
    assert finish_it() == Outcome(LARGE)
    copied = contents(store, "f")
    assert copied[:LARGE] == [each.content for each in numbered(LARGE)]
    assert copied[LARGE:] == (["after"] if change == "append" else [])
    if change == "again":
        assert contents(store, "g") == copied
    finish(store.compact(1_000))
    assert store.verify() == []


@pytest.mark.parametrize("is_sent_again", [False, True])
@pytest.mark.parametrize("slices", [0, 2, 5])
def test_a_fork_that_is_killed_half_way_goes_on(
    open_store: Open, slices: int, is_sent_again: bool
) -> None:
    operation = fork()
    with open_store() as store:
        store.append("s", *numbered(LARGE))
        begun(store, operation, slices)
        store.append("s", ChatMessage.user("later"))
    with open_store() as store:
        assert "f" not in keys(store) or len(store.load("f")) == LARGE
        say(store, "other", "new")
        if is_sent_again:
            assert done(store, operation) in (Outcome(LARGE), Outcome(LARGE, duplicate=True))
        else:
            while store.maintain_while_idle():
                pass
        assert contents(store, "f") == [each.content for each in numbered(LARGE)]
        assert done(store, operation) == Outcome(LARGE, duplicate=True)
        assert store.verify(deep=True) == []


def test_an_erased_author_leaves_a_fork_that_is_being_copied(store: StoreUnderTest) -> None:
    store.append("s", *numbered(LARGE))
    finish_it = begun(store, fork(), 2)
    erasing = store.erase(author="a1")
    next(erasing)
    finish_late = begun(store, fork("s", "g"), 2)
    receipt = finish(erasing)
    finish_it()
    finish_late()
    left = [f"w{number}" for number in range(LARGE) if number % 3 != 1]
    assert contents(store, "s") == contents(store, "f") == contents(store, "g") == left
    assert receipt.messages >= LARGE // 3
    assert found(store, "w1") == set()
    assert store.verify(deep=True) == []


@pytest.mark.parametrize("count", [2, LARGE])
def test_an_erasure_of_the_source_leaves_its_key_nowhere(store: StoreUnderTest, count: int) -> None:
    store.describe("s", sender="x")
    store.append("s", *numbered(count))
    finish_it = begun(store, fork())
    finish(store.erase(key="s"))
    finish_it()
    info = store.session("f")
    assert info is not None
    assert (info.message_count, info.sender) == (count, "x")
    assert (info.forked_from, info.forked_upto) == (None, None)
    finish_it = begun(store, fork("f", "g"))
    finish(store.erase(sender="x"))
    finish_it()
    assert keys(store) == set()
    assert store.verify() == []


@pytest.mark.parametrize("reopens", [False, True])
def test_a_fork_has_what_its_source_had_when_it_was_begun(open_store: Open, reopens: bool) -> None:
    with open_store() as store:
        store.append("s", *numbered(LARGE), session={"name": "n", "agent": "a", "meta": {"m": 1}})
        store.set_state("s", 1)
        finish_it = begun(store, fork(), 1)
        store.describe("s", name="other", room="r", meta={"m": 2})
        store.append("s", *numbered(1), session={"sender": "x"})
        store.set_state("s", 2)
        assert store.rename_agent("a", "b") == 2
        assert reopens or finish_it() == Outcome(LARGE)
    with open_store() as store:
        while store.maintain_while_idle():
            pass
        finish(store.compact(1_000))
        info = store.session("f")
        assert info is not None
        assert (info.message_count, info.name, info.agent) == (LARGE, "n", "b")
        assert (info.room, info.sender, info.meta, info.forked_from) == (None, None, {"m": 1}, "s")
        assert store.get_state("f") == SessionState(1, 1)


def test_a_fork_keeps_what_was_attached_when_its_source_goes(store: StoreUnderTest) -> None:
    store.append("s", with_data(CAT))
    store.append("s", *numbered(LARGE))
    finish_it = begun(store, fork(), 1)
    finish(store.compact(1_000))
    store.delete("s")
    assert finish_it() == Outcome(LARGE + 1)
    finish(store.compact(1_000))
    assert store.attachment("f", OF_CAT) == CAT
    assert blobs(store) == 1


def test_two_who_copy_the_same_fork_make_one(store: StoreUnderTest) -> None:
    store.append("s", *numbered(LARGE))
    operation = fork()
    finish_first, finish_second = (begun(store, operation, slices) for slices in (2, 1))
    assert finish_second() == Outcome(LARGE, duplicate=True)
    say(store, "f", "more")
    assert finish_first() == Outcome(LARGE)
    assert contents(store, "f") == [*(each.content for each in numbered(LARGE)), "more"]
    assert store.verify() == []


@pytest.mark.parametrize("slices", [0, 1, 2, 4])
def test_a_message_cap_takes_nothing_from_a_fork(
    store: StoreUnderTest, rules: Rules, slices: int
) -> None:
    store.append("s", *numbered(LARGE))
    cap = rules('[default]\nttl = "none"\n[[rule]]\nkey = "s"\nttl = "none"\nkeep_messages = 2')
    capping = store.cleanup(cap)
    for _ in zip(range(slices), capping, strict=False):
        pass
    there = contents(store, "s")
    finish_it = begun(store, fork())
    finish(capping)
    assert finish_it() == Outcome(len(there))
    assert contents(store, "f") == there
    finish(store.cleanup(cap))
    assert len(contents(store, "s")) == 2
    assert store.verify() == []


def test_killed_at_any_step_there_is_all_of_the_fork_or_none(tmp_path: Path) -> None:
    said = [each.content for each in numbered(30)]
    for step in range(0, 400, 3):
        url, operation = f"jsonl://{tmp_path}/store{step}", fork()
        with open_tested(url) as store:
            store.append("s", *numbered(30))
            store.describe("f", name="N")

        def copy(url: str = url, operation: Fork = operation) -> None:
            with open_tested(url) as store:
                done(store, operation)
                say(store, "f", "more")

        was_killed = killed_at(step, copy)
        with open_tested(url) as store:
            assert contents(store, "f") in ([], said, [*said, "more"])
            assert done(store, operation) in (Outcome(30), Outcome(30, duplicate=True))
            assert contents(store, "f")[:30] == said
            say(store, "f", "last")
        with open_tested(url) as store:
            assert contents(store, "f")[30:] in (["last"], ["more", "last"])
            assert store.verify() == []
            info = store.session("f")
            assert info is not None
            assert (info.name, info.forked_from) == ("N", "s")
        if not was_killed:
            break
    assert step > 20


def test_a_source_that_is_damaged_holds_up_nothing_but_its_fork(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with open_tested(f"sqlite://{path}") as store:
        store.append("s", *numbered(30))
        with closing(apsw.Connection(str(path))) as connection:
            damage = "UPDATE messages SET content = CAST(x'ff' AS TEXT) WHERE id = 7"
            connection.execute(damage)
        operation = fork()
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                done(store, operation)
        finish(store.compact(1_000))
        assert keys(store) == {"s"}
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("UPDATE messages SET content = 'w6' WHERE id = 7")
        assert done(store, operation) == Outcome(30)
        assert store.verify(deep=True) == []


def test_a_source_that_is_damaged_holds_up_no_erasure(tmp_path: Path) -> None:
    path, operation = tmp_path / "store", fork()
    with open_tested(f"sqlite://{path}") as store:
        say(store, "other", "x")
        store.append("s", *numbered(LARGE))
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("UPDATE messages SET content = CAST(x'ff' AS TEXT) WHERE id = 7")
        begun(store, operation, slices=1)  # which does not come to the damaged one
        assert finish(store.erase(key="other")).messages == 1
        assert keys(store) == {"s"}
        with pytest.raises(UnicodeDecodeError):
            done(store, operation)
        while store.maintain_while_idle():
            pass
