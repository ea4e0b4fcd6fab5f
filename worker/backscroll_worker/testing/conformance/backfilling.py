"""What every store promises of messages of earlier that get their places in a session."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Backfill, Erase
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.attachments import CAT, OF_CAT, with_data
from backscroll_worker.testing.conformance.merging import NOON
from backscroll_worker.testing.conformance.waiting import edit, undo
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    requests,
    say,
)

_DAWN = NOON - HOUR


def at(second: int, platform_id: str | None = None, author: str | None = None) -> ChatMessage:
    """What was said at that second, whose platform id is the second's number if it is not given."""
    return ChatMessage.user(
        f"at {second}",
        platform_id=platform_id or str(second),
        author=author,
        created_at=from_micros(_DAWN + second * 1_000_000),
    )


def backfill(key: str, *messages: ChatMessage) -> Backfill:
    return requests.backfill(key, messages)


def test_earlier_messages_come_before_those_of_a_living_session(open_keeping: Open) -> None:
    early = backfill("s", at(1), replace(at(2), reply_to="1"), at(10), at(15), at(20), at(40))
    with open_keeping() as store:
        live = store.append("s", *map(at, (10, 20, 30)), session={"name": "N"})
        store.replace("s", ChatMessage.user("edited"), live[1])
        say(store, "s", "without an id")  # now, which is later
        say(store, "other", "x")
        before = store.load("s", include_edits=True)
        (outcome,) = apply_all(store, [early])
        named = list(early.message_ids)
        named[2], named[4] = live[0], live[1]
        assert outcome == Outcome(4, message_ids=tuple(named))
    with open_keeping() as store:
        assert [each.duplicate for each in apply_all(store, [early])] == [True]
        order = [f"at {second}" for second in (1, 2, 10, 15)]
        assert contents(store, "s") == [*order, "edited", "at 30", "at 40", "without an id"]
        after = store.load("s", include_edits=True)
        assert [each for each in after if each in before] == before
        assert before[1].edits
        assert [each.message_id for each in after[:2]] == list(early.message_ids[:2])
        assert (after[1].reply_to, after[1].created_at) == ("1", at(2).created_at)
        info = store.session("s")
        assert info is not None
        assert (info.message_count, info.created_at, info.name) == (8, at(1).created_at, "N")
        assert {hit.message.content for hit in store.search("15")} == {"at 15"}
        assert found(store, "edited") == {"edited"}
        assert store.rewind("s", live[1]) == 3
        assert store.verify(deep=True) == []


def test_what_is_there_or_was_there_is_not_filled_in_again(open_store: Open) -> None:
    with open_store() as store:
        apply_all(store, [backfill("s", *map(at, range(5)))])
        apply_all(store, [undo("s", "1"), edit("s", "2", "as it is here")])
        assert apply_all(store, [backfill("s", *map(at, range(5)))])[0].affected == 0
        assert apply_all(store, [backfill("s", *map(at, range(6)))])[0].affected == 1
        shown = ["at 0", "as it is here", "at 3", "at 4", "at 5"]
        assert contents(store, "s") == shown
        store.clear("s")
        assert apply_all(store, [backfill("s", *map(at, range(7)))])[0].affected == 1
    assert contents(open_store(), "s") == ["at 6"]


@pytest.mark.parametrize("size", [2, 3, 20])
def test_the_order_of_a_history_wins_over_its_times(open_store: Open, size: int) -> None:
    said = [at(second) for second in (5, 3, 9, 1, 1_000, 6, 4, 12)]
    said += [at(7, platform_id="twice"), at(7, platform_id="twice")]
    with open_store() as store:
        store.append("s", at(8, platform_id="live"), at(2_000, platform_id="later"))
        starts = range(0, len(said), size - 1)
        batches = [backfill("s", *said[start : start + size]) for start in starts]
        assert sum(each.affected for each in apply_all(store, batches)) == 9
        apply_all(store, [backfill("s", at(4), at(100), at(12))])
    store = open_store()
    order = [each.content for each in store.load("s") if each.platform_id not in ("live", "later")]
    filled = [*said[:7], at(100), *said[7:9]]
    assert order == [each.content for each in filled]
    live = [each.platform_id for each in store.load("s")]
    assert live.index("live") == 2
    assert live[-1] == "later"
    assert store.verify(deep=True) == []


def test_a_backfill_opens_nothing_and_needs_ids_and_times(store: StoreUnderTest) -> None:
    say(store, "s", "x")
    store.close_session("s")
    assert apply_all(store, [backfill("s", at(1))]) == [Outcome(0, conflict=True)]
    assert contents(store, "s") == ["x"]
    for message in (ChatMessage.user("x", platform_id="1"), replace(at(1), platform_id=None)):
        with pytest.raises(InvalidInputError, match="each needs a"):
            backfill("s", message)
    with pytest.raises(InvalidInputError, match="no condition"):
        requests.backfill("s", (at(1),), None, "")


def test_what_waits_is_carried_out_where_its_message_goes(store: StoreUnderTest) -> None:
    store.append("s", at(10))
    apply_all(store, [undo("s", "1"), edit("s", "2", "edited")])
    assert apply_all(store, [backfill("s", *map(at, (1, 2, 3)))])[0].affected == 2
    assert contents(store, "s") == ["edited", "at 3", "at 10"]


@pytest.mark.needs("attachments")
def test_attachments_stay_where_messages_move(open_store: Open) -> None:
    with open_store() as store:
        cat = with_data(CAT)
        store.append("s", replace(cat, created_at=at(10).created_at), at(20))
        apply_all(store, [backfill("s", at(1), at(15))])
        finish(store.compact(1_000))
    with open_store() as store:
        assert contents(store, "s") == ["at 1", cat.content, "at 15", "at 20"]
        assert store.attachment("s", OF_CAT) == CAT


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("subject", ["author", "key", "room", "sender"])
def test_nothing_erased_is_filled_in_again(todays: Open, subject: str) -> None:
    with todays() as store:
        past = [at(second, author="ada") for second in range(3)]
        about = {} if subject in ("author", "key") else {subject: "r"}
        value = {"author": "ada", "key": "s"}.get(subject, "r")
        store.append("s", *past, session=about or None)
        finish(store.erase(**{subject: value}))
        erased = store.load("s")
        later = replace(past[2], platform_id="new", created_at=from_micros(2**52))
        answers = apply_all(store, [requests.backfill("s", (*past, later), about or None)])
        assert [each.affected for each in answers] == [1]
        assert [each.platform_id for each in store.load("s")] == ["new"]
        assert (erased, store.verify(deep=True)) == ([], [])


@pytest.mark.needs("erasure")
def test_an_erasure_under_way_finds_what_a_backfill_moves(store: StoreUnderTest) -> None:
    said = [at(second, author=("eve", "ada")[second % 2]) for second in range(100, 300)]
    store.append("s", *said)
    erase = requests.erase(author="ada")
    assert isinstance(erase, Erase)
    apply_all(store, [erase])
    slices = store.store.erase(erase)
    next(slices)
    apply_all(store, [backfill("s", at(1), at(150, platform_id="new"), *said[150:153])])
    receipt = finish(slices)
    assert receipt.messages == 100
    shown = store.load("s")
    assert (len(shown), {each.author for each in shown}) == (102, {"eve", None})
    assert all(one.created_at <= other.created_at for one, other in pairwise(shown))  # type: ignore[operator]
    info = store.session("s")
    assert info is not None
    assert info.message_count == 102
    assert store.verify(deep=True) == []
