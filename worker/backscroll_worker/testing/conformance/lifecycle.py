"""What every store promises of sessions that live on: taken back, renamed, closed."""

from __future__ import annotations

from typing import Any

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Write
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


def _numbered(count: int) -> tuple[ChatMessage, ...]:
    return tuple(ChatMessage.user(f"w{number}") for number in range(count))


def _outcome(store: StoreUnderTest, operation: Write) -> Any:
    (answer,) = store.apply([operation])
    return answer


def test_a_rewind_drops_what_came_after_the_message(open_store: Open) -> None:
    with open_store() as store:
        ids = say(store, "s", "one", "two", "three")
        say(store, "other", "three")
        rewind = requests.rewind("s", ids[0])
        assert _outcome(store, rewind) == Outcome(2)
        assert contents(store, "s") == ["one"]
        say(store, "s", "four")
    with open_store() as store:
        assert _outcome(store, rewind) == Outcome(2, duplicate=True)
        assert contents(store, "s") == ["one", "four"]
        assert contents(store, "other") == ["three"]
        (info,) = (each for each in store.sessions() if each.key == "s")
        assert info.message_count == 2
        assert store.verify(deep=True) == []


def test_a_rewind_to_what_is_not_there_changes_nothing(store: StoreUnderTest) -> None:
    first, last = say(store, "s", "one", "two")
    (elsewhere,) = say(store, "other", "x")
    store.remove("s", first)
    before = store.session("s")
    for to in (first, last, elsewhere, "0" * 32):
        assert store.rewind("s", to) == 0
    assert store.rewind("nobody", last) == 0
    assert store.session("s") == before
    assert keys(store) == {"s", "other"}


def test_a_rewind_sees_what_its_group_has_done(store: StoreUnderTest) -> None:
    first, more = (requests.append("s", _numbered(3), None) for _ in range(2))
    rewind = requests.rewind("s", first.message_ids[1])
    back = requests.rollback("s", None)
    answers = apply_all(store, [first, more, rewind, back, more])
    assert [answer.affected for answer in answers] == [3, 3, 4, 1, 3]
    assert contents(store, "s") == ["w0"]


@pytest.mark.needs("search")
def test_a_rewind_of_thousands_leaves_nothing_to_be_found(open_store: Open) -> None:
    with open_store() as store:
        store.append("s", *_numbered(1), ChatMessage.user("last", author="ann"))
        (first, kept) = store.load("s")
        many = requests.append("s", tuple(ChatMessage.user("gone") for _ in range(1_100)), None)
        again = requests.append("s", (ChatMessage.user("new"),), None)
        rewind = requests.rewind("s", str(kept.message_id))
        answers = apply_all(store, [many, rewind, again])
        assert [answer.affected for answer in answers] == [1_100, 1_100, 1]
        assert found(store, "gone") == set()
        assert contents(store, "s") == ["w0", "last", "new"]
        assert store.totals().messages == 3
    with open_store() as store:
        finish(store.compact(1_000))
        assert store.verify(deep=True) == []
        assert store.rewind("s", str(first.message_id)) == 2
        assert contents(store, "s") == ["w0"]
