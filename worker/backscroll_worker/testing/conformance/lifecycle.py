"""What every store promises of sessions that live on: taken back, renamed, closed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest

from backscroll.contract.errors import ConflictError, InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Write
from backscroll.contract.results import Outcome
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.conformance.late import spooled
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    requests,
    say,
)

W = TypeVar("W", bound=Write)


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
        again = requests.append("s", (ChatMessage.user("new"),), None, {"name": "plans"})
        rewind = requests.rewind("s", str(kept.message_id))
        answers = apply_all(store, [many, rewind, again])
        assert [answer.affected for answer in answers] == [1_100, 1_100, 1]
        assert found(store, "gone") == set()
        assert contents(store, "s") == ["w0", "last", "new"]
        assert store.totals().messages == 3
        assert store.verify(deep=True) == []
        store.append("s", *_numbered(1_100))
        assert store.rewind("s", again.op_id) == 1_100
        assert store.verify(deep=True) == []
    with open_store() as store:
        finish(store.compact(1_000))
        assert store.verify(deep=True) == []
        assert store.rewind("s", str(first.message_id)) == 2
        assert contents(store, "s") == ["w0"]


def _at(operation: W, at: int, *, is_spooled: bool = False) -> W:
    """The operation, requested at another time."""
    moved: Any = replace(operation, at=at)
    return cast(W, spooled(moved)) if is_spooled else cast(W, moved)


def test_a_renamed_session_has_all_that_it_had(open_keeping: Open, clock: Clock) -> None:
    full = ChatMessage.user("hi", author="42", author_name="Ada", platform_id="p", mood="good")
    with open_keeping() as store:
        store.append("a", full, ChatMessage.assistant("helo"), session={"room": "r", "name": "n"})
        store.replace("a", ChatMessage.assistant("hello"))
        say(store, "other", "x")
        before, said = store.session("a"), store.load("a", include_edits=True)
        clock.advance(seconds=60)
        rename = requests.rename("a", "b")
        assert before is not None
        assert _outcome(store, rename) == Outcome(1)
        assert store.session("b") == replace(before, key="b")
    with open_keeping() as store:
        assert _outcome(store, rename) == Outcome(1, duplicate=True)
        assert (store.session("a"), store.session("b")) == (None, replace(before, key="b"))
        assert store.load("b", include_edits=True) == said
        assert [edit.content for edit in said[1].edits] == ["helo"]
        assert [info.key for info in store.sessions(room="r")] == ["b"]
        assert [info.key for info in store.sessions(author="42")] == ["b"]
        assert [info.key for info in store.sessions(name="n")] == ["b"]
        assert {hit.key for hit in store.search("hello")} == {"b"}
        assert store.verify(deep=True) == []
        say(store, "b", "more")
        assert contents(store, "b") == ["hi", "hello", "more"]


def test_a_resend_under_either_key_makes_no_second_copy(open_store: Open, clock: Clock) -> None:
    clock.now = requests.session("a").at + 3_600_000_000
    append, late = requests.append("a", _numbered(2), "1"), requests.append("a", _numbered(1), "2")
    describe = requests.describe("a", {"agent": "x"})
    with open_store() as store:
        apply_all(store, [append, describe, requests.rename("a", "b"), late])
    with open_store() as store:
        again = [append, describe, late, replace(append, key="b"), replace(late, key="b")]
        assert all(answer.duplicate for answer in apply_all(store, again))
        assert keys(store) == {"b"}
        assert contents(store, "b") == ["w0", "w1", "w0"]
    with open_store() as store:  # and where something new has taken the old key
        fresh = requests.append("a", _numbered(1), None)
        answers = apply_all(store, [fresh, append, describe, late])
        assert [answer.duplicate for answer in answers] == [False, True, True, True]
        assert (len(store.load("a")), len(store.load("b"))) == (1, 3)


def test_a_session_is_not_renamed_onto_another_one(open_store: Open) -> None:
    with open_store() as store:
        say(store, "a", "1")
        say(store, "b", "2")
        rename = requests.rename("a", "b")
        assert _outcome(store, rename) == Outcome(0, conflict=True)
        with pytest.raises(ConflictError, match="a session 'b' already"):
            store.rename("a", "b")
        store.delete("b")
    with open_store() as store:
        assert _outcome(store, rename) == Outcome(0, duplicate=True, conflict=True)
        assert store.rename("nobody", "somebody") is False
        again = [requests.rename("a", "c") for _ in range(2)]  # of two adapters
        assert [each.affected for each in apply_all(store, reversed(again))] == [1, 0]
        store.rename("c", "a")
        assert keys(store) == {"a"}
        with pytest.raises(InvalidInputError):
            store.rename("a", "a")


@pytest.mark.parametrize("is_spooled", [False, True])
def test_what_was_requested_before_a_rename_is_for_the_session(
    open_store: Open, clock: Clock, is_spooled: bool
) -> None:
    first = requests.append("a", _numbered(1), None)
    asked = clock.now = first.at
    late = _at(
        requests.append("a", (ChatMessage.user("late"),), None), asked, is_spooled=is_spooled
    )
    back = _at(requests.rollback("a", first.op_id), asked, is_spooled=is_spooled)
    described = _at(requests.describe("a", {"agent": "x"}), asked, is_spooled=is_spooled)
    with open_store() as store:
        clock.advance(hours=1)
        apply_all(store, [first, requests.rename("a", "b"), requests.rename("b", "c")])
    with open_store() as store:
        apply_all(store, [late, back, described])
        assert keys(store) == {"c"}
        assert contents(store, "c") == ["late"]
        assert [info.key for info in store.sessions(agent="x")] == ["c"]
        say(store, "a", "new")
        apply_all(store, [_at(requests.append("a", (ChatMessage.user("too"),), None), asked)])
        assert (contents(store, "a"), contents(store, "c")) == (["new"], ["late", "too"])


def test_a_key_that_was_given_back_is_the_sessions_again(
    store: StoreUnderTest, clock: Clock
) -> None:
    clock.now = requests.session("a").at + 1_000_000
    say(store, "a", "1")
    early = requests.append("a", (ChatMessage.user("2"),), None)
    apply_all(store, [requests.rename("a", "b"), requests.rename("b", "a"), early])
    assert contents(store, "a") == ["1", "2"]
    say(store, "b", "other")
    assert keys(store) == {"a", "b"}


@pytest.mark.needs("erasure")
def test_what_was_emptied_under_any_key_stays_away(open_store: Open, clock: Clock) -> None:
    clock.now = requests.session("a").at + 3_600_000_000
    early = [requests.append(key, (ChatMessage.user("gone"),), None) for key in ("a", "b", "a")]
    with open_store() as store:
        say(store, "a", "x")
        apply_all(store, [requests.clear("a")])
        kept = [spooled(requests.append("a", (ChatMessage.user("kept"),), None))]
        apply_all(store, [requests.delete("b"), requests.rename("a", "b")])
    with open_store() as store:
        apply_all(store, [spooled(each) for each in early[:2]])
        assert contents(store, "b") == []
        apply_all(store, kept)  # another session had the key when it was deleted
        assert contents(store, "b") == ["kept"]
        store.clear("b")
        apply_all(store, [spooled(early[2])])
        assert (keys(store), contents(store, "b")) == ({"b"}, [])


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("subject", [{"key": "b"}, {"room": "r"}])
def test_an_erasure_is_about_the_earlier_keys_too(
    open_store: Open, clock: Clock, subject: dict[str, str]
) -> None:
    clock.now = requests.session("a").at + 3_600_000_000
    with open_store() as store:
        store.append("a", ChatMessage.user("secret"), session={"room": "r"})
        late = requests.append("a", (ChatMessage.user("late"),), None)
        store.rename("a", "b")
        say(store, "a", "another")
        assert finish(store.erase(**subject)).sessions == 1
    with open_store() as store:
        assert apply_all(store, [late]) == [Outcome(0)]
        assert keys(store) == {"a"}
        assert contents(store, "a") == ["another"]
        say(store, "b", "new")
        assert contents(store, "b") == ["new"]


def test_renames_are_forgotten_with_the_op_ids(open_store: Open, clock: Clock) -> None:
    clock.now = requests.session("a").at + 3_600_000_000
    with open_store() as store:
        say(store, "a", "x")
        early = requests.append("a", (ChatMessage.user("late"),), None)
        store.rename("a", "b")
        clock.advance(hours=2)
        finish(store.compact(1))
        apply_all(store, [early])
        assert keys(store) == {"a", "b"}
        assert store.verify(deep=True) == []


def test_a_closed_session_takes_no_more_messages(open_store: Open) -> None:
    refused = requests.append("s", _numbered(1), None)
    turn = requests.begin_turn("s", _numbered(1))
    with open_store() as store:
        say(store, "s", "1")
        store.close_session("s")
        assert apply_all(store, [refused, turn]) == [Outcome(0, conflict=True)] * 2
    with open_store() as store:
        with pytest.raises(ConflictError):
            store.append("s", *_numbered(2), session={"closed": False, "agent": "x"})
        info = store.session("s")
        assert info is not None
        assert (info.closed, info.agent, info.state, info.message_count) == (True, None, "idle", 1)
        assert store.replace("s", ChatMessage.user("one"))
        store.rename("s", "t")
        with pytest.raises(ConflictError):
            say(store, "t", "2")
        store.reopen_session("t")
        say(store, "t", "2")
    with open_store() as store:
        again = [replace(refused, key="t"), turn]
        assert apply_all(store, again) == [Outcome(0, duplicate=True, conflict=True)] * 2
        assert contents(store, "t") == ["one", "2"]
        assert [info.closed for info in store.sessions()] == [False]
        assert store.verify(deep=True) == []


def test_a_group_can_close_a_session_and_begin_another(store: StoreUnderTest) -> None:
    first, second, third = (requests.append("s", _numbered(1), None) for _ in range(3))
    closing, opening = (requests.describe("s", {"closed": flag}) for flag in (True, False))
    group = [first, closing, second, requests.delete("s"), third, closing, opening]
    assert [answer.conflict for answer in apply_all(store, group)] == [
        *(False, False, True), *(False, False, False, False),
    ]  # fmt: skip
    say(store, "s", "more")
    assert contents(store, "s") == ["w0", "more"]
    store.append("s", ChatMessage.user("last"), session={"closed": True})
    with pytest.raises(ConflictError):
        say(store, "s", "no")
    store.clear("s")
    with pytest.raises(ConflictError):
        say(store, "s", "no")


def test_a_session_without_messages_can_be_closed(store: StoreUnderTest) -> None:
    store.close_session("s")
    with pytest.raises(ConflictError):
        say(store, "s", "no")
    say(store, "other", "no")
    with pytest.raises(ConflictError, match="'s' that has messages already or is closed"):
        store.fork("other", "s")
    assert contents(store, "s") == []
