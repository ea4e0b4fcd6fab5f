"""Forks that are copied in slices: what happens meanwhile, and what a kill leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import Outcome
from backscroll_worker.contract import forks
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.forks import begun, done, fork, numbered
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import StoreUnderTest, contents, found, keys, say

LARGE = 400


@pytest.fixture(autouse=True)
def _ten_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "MOST_AT_ONCE", 10)


CHANGES: dict[str, Callable[[StoreUnderTest, list[str]], Any]] = {
    "append": lambda store, _: say(store, "f", "after"),
    "delete": lambda store, _: store.delete("s"),
    "clear": lambda store, _: store.clear("s"),
    "rewind": lambda store, ids: store.rewind("s", ids[2]),
    "remove": lambda store, ids: store.remove("s", ids[2]),
    "replace": lambda store, ids: store.replace("s", ChatMessage.user("edited"), ids[2]),
    "erase": lambda store, _: finish(store.erase(key="s")),
    "compact": lambda store, _: finish(store.compact(1_000)),
    "again": lambda store, _: store.fork("f", "g"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_happens_while_it_is_copied_is_after_it(store: StoreUnderTest, change: str) -> None:
    ids = store.append("s", *numbered(LARGE))
    finish_it = begun(store, fork())
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
