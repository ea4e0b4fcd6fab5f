"""What every store promises of deleting all sessions whose key begins with a text."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.lifecycle import DeleteSessions
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Delete
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.erasure import EARLY, LATE, append, op_id
from backscroll_worker.testing.conformance.late import late, spooled
from backscroll_worker.testing.conformance.listing import ODD_KEYS
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

ASKED = 2_000
MANY = 60
"""Sessions of 20 messages each: more than a group of either store deletes itself."""


def fill(store: StoreUnderTest) -> list[str]:
    """Many sessions of one prefix, and one of another; the ids of their first messages."""
    said = tuple(ChatMessage.user(f"apple {number}") for number in range(20))
    made = [requests.append(f"t/{number}", said) for number in range(MANY)]
    apply_all(store, [*made, requests.append("u/0", said)])
    return [each.message_ids[0] for each in made]


def test_all_sessions_of_a_prefix_are_deleted_and_no_other(store: StoreUnderTest) -> None:
    left = set(ODD_KEYS)
    apply_all(store, [requests.append(key, (ChatMessage.user("x"),)) for key in ODD_KEYS])
    for prefix in ("a_", "%", "a" + "\U0010ffff", "a", "\U0010ffff", "?"):
        gone = {key for key in left if key.startswith(prefix)}
        left -= gone
        assert store.delete(prefix=prefix) == len(gone), prefix
        assert keys(store) == left, prefix
    assert store.verify() == []


def test_what_is_said_before_goes_and_what_is_said_after_stays(store: StoreUnderTest) -> None:
    say(store, "t/0", "old")
    store.describe("t/1", name="empty")
    edit = requests.replace("t/3", ChatMessage.user("early"), platform_id="p")
    group = [
        edit,
        requests.append("t/2", (ChatMessage.user("before"),)),
        requests.delete(None, "t/"),
        requests.append("t/2", (ChatMessage.user("after"),)),
        requests.append("t/3", (ChatMessage.user("new", platform_id="p"),)),
    ]
    assert [each.affected for each in apply_all(store, group)] == [0, 1, 3, 1, 1]
    assert keys(store) == {"t/2", "t/3"}
    assert (contents(store, "t/2"), contents(store, "t/3")) == (["after"], ["new"])
    again = apply_all(store, group)
    assert [(each.affected, each.duplicate) for each in again][2] == (3, True)
    assert all(each.duplicate for each in again)
    assert contents(store, "t/2") == ["after"]


@pytest.mark.parametrize("is_reopened", [False, True])
def test_many_sessions_are_deleted_at_once(open_store: Open, is_reopened: bool) -> None:
    store = open_store()
    first, *_ = fill(store)
    deletion = requests.delete(None, "t/")
    assert apply_all(store, [deletion]) == [Outcome(MANY)]
    if is_reopened:
        store.close()
        store = open_store()
    assert apply_all(store, [deletion]) == [Outcome(MANY, duplicate=True)]
    assert keys(store) == {"u/0"}
    assert [info.key for info in store.sessions(prefix="t/")] == []
    assert store.session("t/1") is None
    assert store.load("t/2") == []
    assert list(store.stream("t/3")) == []
    assert store.get(first) is None
    assert {hit.key for hit in store.search("apple", limit=1_000)} == {"u/0"}
    assert (store.totals().sessions, store.totals().messages) == (1, 20)
    say(store, "t/4", "after")
    for _ in range(5):
        store.maintain_while_idle()
    say(store, "t/5", "after")
    store.close()
    store = open_store()
    assert keys(store) == {"t/4", "t/5", "u/0"}
    finish(store.compact(1_000))
    assert (contents(store, "t/4"), contents(store, "t/5")) == (["after"], ["after"])
    assert found(store, "apple 7") == {"apple 7"}
    assert (store.totals().sessions, store.totals().messages) == (3, 22)
    assert store.delete(prefix="t/") == 2
    assert store.verify(deep=True) == []


@pytest.mark.parametrize("is_reopened", [False, True])
def test_what_was_spooled_before_brings_no_session_back(
    open_store: Open, is_reopened: bool
) -> None:
    store = open_store()
    apply_all(store, [append("t/0", "before", EARLY), DeleteSessions(op_id(), ASKED, "t/")])
    if is_reopened:
        store.close()
        store = open_store()
    apply_all(store, [*late("t/0"), *late("t/unknown"), spooled(append("t", "kept", EARLY))])
    assert keys(store) == {"t"}
    apply_all(store, [append("t/0", "slow clock", EARLY), spooled(append("t/1", "x", LATE))])
    assert (contents(store, "t/0"), contents(store, "t/1")) == (["slow clock"], ["x"])


def test_a_late_deletion_spares_what_was_begun_anew(store: StoreUnderTest) -> None:
    for key in ("t/0", "t/1", "t/2"):
        apply_all(store, [append(key, "before", EARLY)])
    apply_all(store, [Delete(op_id(), ASKED, "t/0"), append("t/0", "anew", LATE)])
    deletion = spooled(DeleteSessions(op_id(), EARLY, "t/"))
    assert apply_all(store, [deletion]) == [Outcome(2)]
    assert keys(store) == {"t/0"}
    assert contents(store, "t/0") == ["anew"]
    other = spooled(replace(deletion, op_id=op_id()))
    apply_all(store, [DeleteSessions(op_id(), LATE, "t/"), append("t/1", "anew", LATE), other])
    assert contents(store, "t/1") == ["anew"]


def test_one_is_to_be_said_a_key_or_a_prefix(store: StoreUnderTest) -> None:
    say(store, "s", "x")
    for wrong in ({}, {"key": "s", "prefix": "s"}, {"prefix": ""}, {"prefix": "a\0"}):
        with pytest.raises(InvalidInputError):
            store.delete(**wrong)
    assert keys(store) == {"s"}
