"""What every store promises of a message that is asked for by its id alone."""

from __future__ import annotations

import pytest

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.filters import FoundMessage
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import StoreUnderTest, apply_all, requests, say


def test_a_message_is_found_by_its_id_alone(open_store: Open) -> None:
    whole = ChatMessage.tool("x", platform_id="p", author="42", tokens=3, tool_call_id="c")
    with open_store() as store:
        say(store, "quote", "y")
        ids = [*store.append("s", ChatMessage.user("first"), whole), *say(store, "t", "z")]
        store.append("later", ChatMessage.user("quotes it", reply_to=ids[1], message_id=ids[1]))
    store = open_store()
    assert store.get(ids[1]) == FoundMessage("s", store.load("s")[1])
    assert store.get(ids[2]) == FoundMessage("t", store.load("t")[0])
    for unknown in (new_op_id(), f"{ids[0]}-7", "gone 1", "%", "x" * 512):
        assert store.get(unknown) is None
    for wrong in ("", "x" * 513, 5):
        with pytest.raises(InvalidInputError, match="message_id"):
            store.get(wrong)  # type: ignore[arg-type]


def test_a_message_is_found_where_it_is_by_now(store: StoreUnderTest) -> None:
    first, second, third = say(store, "s", "a", "b", "c")
    store.replace("s", ChatMessage.user("B"), second)
    store.remove("s", third)
    copies = store.fork("s", "fork")
    store.rename("s", "new")
    found = store.get(second)
    assert found is not None
    assert (found.key, found.message.content, copies) == ("new", "B", 2)
    copy = store.get(str(store.load("fork")[0].message_id))
    assert copy is not None
    assert copy.key == "fork"
    assert store.get(third) is None
    store.delete("new")
    assert store.get(first) is None


def test_a_message_is_found_by_a_read_of_the_same_group(store: StoreUnderTest) -> None:
    append = requests.append("s", (ChatMessage.user("a"), ChatMessage.user("b")))
    ids = append.message_ids
    gets = [requests.get(id_) for id_ in ids]
    delete = requests.delete("s")
    _, *found, _, gone = store.apply([append, *gets, delete, gets[0]])
    assert [each.message.content for each in found if isinstance(each, FoundMessage)] == ["a", "b"]
    assert gone is None


def test_the_id_that_a_dedup_key_gives_is_known_before(store: StoreUnderTest) -> None:
    id_ = store.message_id("s", "update 7")
    assert store.get(id_) is None
    assert store.append("s", ChatMessage.user("a"), dedup_key="update 7") == [id_]
    found = store.get(id_)
    assert found is not None
    assert found.message.content == "a"
    assert store.message_id("t", "update 7") != id_
    for key, dedup_key in (("", "x"), ("s", ""), ("s", "x" * 513), ("a\0", "x")):
        with pytest.raises(InvalidInputError):
            store.message_id(key, dedup_key)


def test_nothing_of_an_erased_session_is_found(store: StoreUnderTest) -> None:
    ids = say(store, "s", *"abc")
    apply_all(store, [requests.erase(key="s")])  # as a write: the rest is not removed yet
    assert [store.get(id_) for id_ in ids] == [None] * 3
