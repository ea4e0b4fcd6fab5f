"""What every store promises of what comes out of a spool after its session was emptied."""

from __future__ import annotations

from typing import TypeVar

import pytest

from backscroll.contract.codec import decode, encode, mark_spooled
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import (
    Append,
    Clear,
    Delete,
    Describe,
    Erase,
    Operation,
    Replace,
    Rollback,
)
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.erasure import EARLY, LATE, append, op_id
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, contents, keys, say

NEEDS = "erasure"

ASKED = 2_000
T = TypeVar("T", bound=Operation)


def spooled(operation: T) -> Operation:
    """The operation as the worker gets it when it comes out of a spool."""
    return decode(operation.op_id, mark_spooled(encode(operation)))


def late(key: str) -> list[Operation]:
    """All that a spool may hold of a session, from before it was emptied."""
    made = [
        append(key, "late", EARLY),
        Append(op_id(), ASKED, key, (ChatMessage.user("late"), ChatMessage.user("too"))),
        Rollback(op_id(), EARLY, key),
        Replace(op_id(), EARLY, key, ChatMessage.user("late")),
        Clear(op_id(), EARLY, key),
        Delete(op_id(), EARLY, key),
    ]
    return [spooled(operation) for operation in made]


@pytest.mark.parametrize("is_reopened", [False, True])
@pytest.mark.parametrize("is_there", [False, True])
def test_what_was_spooled_before_a_delete_does_not_bring_the_session_back(
    open_store: Open, is_there: bool, is_reopened: bool
) -> None:
    store = open_store()
    if is_there:
        apply_all(store, [append("s", "before", EARLY)])
    apply_all(store, [Delete(op_id(), ASKED, "s")])
    if is_reopened:
        store.close()
        store = open_store()
    describing = spooled(Describe(op_id(), EARLY, "s", {"name": "late"}))
    arriving = [describing, *late("s")]
    assert {outcome.affected for outcome in apply_all(store, arriving)} == {0}
    assert keys(store) == set()
    apply_all(store, [append("s", "new", LATE)])
    assert {outcome.affected for outcome in apply_all(store, arriving)} == {0}
    assert contents(store, "s") == ["new"]
    again = [decode(each.op_id, encode(each)) for each in arriving]  # asked for past the spool
    assert {outcome.affected for outcome in apply_all(store, again)} == {0}
    assert contents(store, "s") == ["new"]
    info = store.session("s")
    assert info is not None
    assert info.name is None
    assert store.verify() == []


@pytest.mark.parametrize("is_reopened", [False, True])
def test_what_was_spooled_before_a_clear_is_dropped_but_for_attributes(
    open_store: Open, is_reopened: bool
) -> None:
    store = open_store()
    apply_all(store, [append("s", "before", EARLY), Clear(op_id(), ASKED, "s")])
    apply_all(store, [append("s", "new", LATE)])
    if is_reopened:
        store.close()
        store = open_store()
    apply_all(store, late("s"))
    assert contents(store, "s") == ["new"]
    apply_all(store, [spooled(Describe(op_id(), EARLY, "s", {"name": "late"}))])
    info = store.session("s")
    assert info is not None
    assert info.name == "late"


@pytest.mark.parametrize("emptying", [Delete, Clear])
def test_an_erasure_out_of_a_spool_is_never_late(
    store: StoreUnderTest, emptying: type[Delete | Clear]
) -> None:
    """What it is to remove may be in the archive, or has come since."""
    erase = Erase(op_id(), EARLY, key="s")
    apply_all(store, [append("s", "before", EARLY), emptying(op_id(), ASKED, "s")])
    apply_all(store, [append("s", "after", LATE), spooled(erase)])
    assert finish(store.store.erase(erase)).sessions == 1
    assert keys(store) == set()


def test_what_was_spooled_after_a_delete_is_stored(store: StoreUnderTest) -> None:
    apply_all(store, [Delete(op_id(), ASKED, "s"), spooled(append("s", "after", LATE))])
    apply_all(store, [spooled(append("other", "of another session", EARLY))])
    assert contents(store, "s") == ["after"]
    assert contents(store, "other") == ["of another session"]


def test_the_last_of_two_deletions_counts_whatever_their_order(store: StoreUnderTest) -> None:
    apply_all(store, [Delete(op_id(), EARLY, "s"), append("s", "x", EARLY)])
    apply_all(store, [Delete(op_id(), ASKED, "s"), append("s", "y", LATE)])
    apply_all(store, [spooled(append("s", "late", ASKED))])
    assert contents(store, "s") == ["y"]
    apply_all(store, [Delete(op_id(), EARLY, "s"), spooled(append("s", "late", ASKED))])
    assert keys(store) == set()


def test_a_slow_clock_loses_nothing_that_was_not_spooled(store: StoreUnderTest) -> None:
    apply_all(store, [Delete(op_id(), ASKED, "s"), append("s", "live", EARLY)])
    assert contents(store, "s") == ["live"]


def test_a_deletion_by_a_clock_that_is_ahead_shuts_nothing_out(
    store: StoreUnderTest, clock: Clock
) -> None:
    apply_all(store, [Delete(op_id(), clock() + 3_600_000_000, "s")])
    apply_all(store, [spooled(append("s", "after", clock() + 1))])
    assert contents(store, "s") == ["after"]


@pytest.mark.parametrize("emptying", [Delete, Clear])
def test_a_deletion_while_all_clocks_were_ahead_excludes_nothing_of_now(
    store: StoreUnderTest, clock: Clock, emptying: type[Delete | Clear]
) -> None:
    clock.advance(hours=1_000)
    ahead = clock()
    apply_all(store, [append("s", "x", ahead), emptying(op_id(), ahead + 1, "s")])
    clock.advance(hours=-1_000)
    apply_all(store, [append("t", "x", clock())])
    apply_all(store, [spooled(append("s", "now", clock()))])
    assert contents(store, "s") == ["now"]
    apply_all(store, [spooled(append("s", "late", ahead - 1))])
    assert contents(store, "s") == ["now"]


def test_a_deletion_is_remembered_for_as_long_as_op_ids_are(open_store: Open, clock: Clock) -> None:
    store = open_store()
    say(store, "s", "x")
    apply_all(store, [Delete(op_id(), ASKED, "s")])
    clock.advance(hours=4)
    finish(store.compact(5))
    apply_all(store, [spooled(append("s", "late", EARLY))])
    assert keys(store) == set()
    clock.advance(hours=2)
    finish(store.compact(5))
    apply_all(store, [spooled(append("s", "very late", EARLY))])
    assert contents(store, "s") == ["very late"]
