"""What every store promises of the messages around one, as they are shown for a hit."""

from __future__ import annotations

import pytest

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll.contract.reads import DEFAULT_AROUND, Load
from backscroll_worker.testing.stores import StoreUnderTest, open_tested, say


@pytest.mark.parametrize(
    ("at", "limit", "expected"),
    [
        (10, 1, "k"),
        (10, 2, "jk"),
        (10, 3, "jkl"),
        (10, 4, "ijkl"),
        (10, 5, "ijklm"),
        (0, 5, "abc"),
        (1, 5, "abcd"),
        (25, 5, "xyz"),
        (24, 5, "wxyz"),
        (24, 2, "xy"),
        (10, 1_000, "abcdefghijklmnopqrstuvwxyz"),
    ],
)
def test_the_message_stands_in_the_middle(
    store: StoreUnderTest, at: int, limit: int, expected: str
) -> None:
    ids: list[str] = []
    for letter in "abcdefghijklmnopqrstuvwxyz":
        ids += say(store, "s", letter)
        say(store, "another", "between")
    found = store.load("s", limit=limit, around=ids[at])
    assert "".join(message.content for message in found) == expected
    assert ids[at] in [message.message_id for message in found]


def test_without_a_limit_there_are_as_many_before_it_as_after_it(store: StoreUnderTest) -> None:
    ids = say(store, "s", *map(str, range(60)))
    found = store.load("s", around=ids[30])
    assert [message.message_id for message in found] == ids[20:41]
    assert len(found) == DEFAULT_AROUND


@pytest.mark.needs("edits")
def test_earlier_versions_come_along_if_asked_for(url: str) -> None:
    with open_tested(url, keep_edits=True) as store:
        ids = say(store, "s", "a", "b", "c", "d")
        store.replace("s", ChatMessage.user("B"), ids[1])
        before, it, after = store.load("s", 3, around=ids[1], include_edits=True)
        assert [message.content for message in (before, it, after)] == ["a", "B", "c"]
        assert [edit.content for edit in it.edits] == ["b"]
        assert not store.load("s", 3, around=ids[1])[1].edits


def test_a_message_that_is_not_in_the_session_is_refused(store: StoreUnderTest) -> None:
    (elsewhere,) = say(store, "another", "x")
    ids = say(store, "s", "a", "b")
    store.remove("s", ids[0])
    for message_id in (elsewhere, ids[0], "unknown"):
        with pytest.raises(OperationRefusedError, match="around: the session has no message"):
            store.load("s", around=message_id)
    assert store.load("nobody", around=ids[1]) == []


def test_it_goes_not_with_paging_back(store: StoreUnderTest) -> None:
    (message_id,) = say(store, "s", "a")
    with pytest.raises(InvalidInputError, match="around"):
        store.load("s", before=message_id, around=message_id)


def test_a_worker_that_does_not_know_it_is_not_told_of_it() -> None:
    operation = Load(new_op_id(), 1, "s", 5)
    assert operation.arguments() == {"at": 1, "key": "s", "limit": 5}
