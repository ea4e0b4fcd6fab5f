"""What every store promises of forks: copies of a session up to a message, all of them or none."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from backscroll.contract.errors import ConflictError, OperationRefusedError
from backscroll.contract.forks import Fork
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Write
from backscroll.contract.results import Outcome
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import Unfinished, finish
from backscroll_worker.testing.conformance.erasure import EARLY, erase, op_id
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    keys,
    requests,
    say,
)

LARGE = 1_200
ANN: dict[str, Any] = {"author": "ann", "author_name": "Ann"}


def numbered(count: int, first: int = 0) -> tuple[ChatMessage, ...]:
    return tuple(
        ChatMessage.user(f"w{number}", author=f"a{number % 3}", platform_id=f"p{number}")
        for number in range(first, first + count)
    )


def fork(key: str = "s", new_key: str = "f", upto: str | None = None) -> Fork:
    return requests.fork(key, new_key, upto, None)


def done(store: StoreUnderTest, operation: Write) -> Any:
    """What comes of an operation in the end."""
    (answer,) = store.apply([operation])
    return finish(answer.slices) if isinstance(answer, Unfinished) else answer


def begun(store: StoreUnderTest, operation: Fork, slices: int = 3) -> Callable[[], Any]:
    """Begin to copy; the rest is carried out by a call of what is returned."""
    (answer,) = store.apply([operation])
    if not isinstance(answer, Unfinished):
        return lambda: answer
    seen = set[int]()
    for _ in range(slices):
        try:
            next(answer.slices)
        except StopIteration as end:
            outcome = end.value
            return lambda: outcome
        info = store.session(operation.new_key)
        seen |= set() if info is None else {info.message_count}
        assert len(seen) <= 1, "it is seen in one piece"
    return lambda: finish(answer.slices)


def test_a_fork_has_copies_of_all_up_to_a_message(open_store: Open) -> None:
    with open_store() as store:
        store.describe("s", name="Trip", channel="c", room="r", sender="x", agent="A", pinned=True)
        store.describe("s", meta={"a": 1}, state="running", turn_id="t")
        store.set_state("s", {"step": 2}, "plan")
        first = ChatMessage("tool", "one", {"x": [1]}, platform_id="p1", tokens=3, **ANN)
        (one,) = store.append("s", first)
        (two,) = store.append("s", ChatMessage.user("two", platform_id="p2", reply_to="p1"))
        store.replace("s", ChatMessage.user("two, edited"), two)
        store.append("s", ChatMessage.summary("sum", upto=one), ChatMessage.assistant("three"))
        originals = store.load("s")
        assert store.fork("s", "f", originals[2].message_id) == 3
        copies = store.load("f")
        for original, copy in zip(originals, copies, strict=False):
            assert copy.message_id not in {each.message_id for each in originals}
            named = {"message_id": copy.message_id, "upto": copy.upto}
            assert copy.to_dict() == {**original.to_dict(), **named} or copy.upto is None
        assert [each.content for each in copies] == ["one", "two, edited", "sum"]
        assert copies[2].upto == copies[0].message_id
        assert copies[1].reply_to == "p1"
        assert [each.content for each in store.load("f", active=True)] == ["sum", "two, edited"]
        info, source = store.session("f"), store.session("s")
        assert info is not None
        assert source is not None
        for name in ("name", "channel", "room", "sender", "agent", "meta"):
            assert getattr(info, name) == getattr(source, name)
        assert (info.state, info.turn_id, info.pinned, source.pinned) == ("idle", None, False, True)
        assert (info.forked_from, info.forked_upto) == ("s", originals[2].message_id)
        assert store.get_state("f", "plan").value == {"step": 2}
        assert [each.key for each in store.sessions(forked_from="s")] == ["f"]
        assert store.sessions(forked_from="f").sessions == ()
    with open_store() as store:
        assert store.load("f") == copies
        assert store.append("f", *numbered(3)[1:]) != []  # it has "p1" and "p2" already
        assert contents(store, "f") == ["one", "two, edited", "sum"]
        store.delete("s")
        assert store.load("f") == copies
        assert store.verify(deep=True) == []


def test_each_of_a_group_sees_the_fork_before_it(store: StoreUnderTest) -> None:
    said = requests.append("s", numbered(3), None)
    more, late = (requests.append("f", (ChatMessage.user(x),), None) for x in ("new", "late"))
    by_platform_id = requests.fork("f", "g", None, "p1")
    edit = requests.replace("s", ChatMessage.user("edited"), None)
    back = requests.rollback("f", None, "p2")
    operations = [said, fork(), edit, more, back, by_platform_id, late, said, fork("g", "h")]
    answers = apply_all(store, operations)
    assert [answer.affected for answer in answers] == [3, 3, 1, 1, 1, 2, 1, 3, 2]
    assert contents(store, "s") == ["w0", "w1", "edited"]
    assert contents(store, "f") == ["w0", "w1", "new", "late"]
    assert contents(store, "g") == contents(store, "h") == ["w0", "w1"]
    assert apply_all(store, operations) == [
        Outcome(each.affected, True, message_ids=each.message_ids) for each in answers
    ]
    assert store.verify(deep=True) == []


def test_a_session_that_was_emptied_may_be_a_fork_again(open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "hello")
        for operation in (fork(), requests.clear("f"), requests.clear("s"), fork()):
            assert isinstance(done(store, operation), Outcome)
        say(store, "t", "elsewhere")
        first = [fork("t", "g"), requests.clear("g"), requests.clear("t")]
        apply_all(store, [*first, fork("t", "g")])
    with open_store() as store:
        for key, origin in (("f", "s"), ("g", "t")):
            info = store.session(key)
            assert info is not None
            assert (info.forked_from, info.forked_upto, info.message_count) == (origin, None, 0)


def test_what_cannot_be_forked_is_refused(open_store: Open) -> None:
    with open_store() as store:
        ids = say(store, "s", "one", "two")
        (other,) = say(store, "other", "x")
        store.remove("s", ids[1])
        conflict = fork("s", "other")
        assert done(store, conflict).conflict
        for operation in (fork("nobody"), fork("s", "f", ids[1]), fork("s", "f", other)):
            assert isinstance(done(store, operation), OperationRefusedError)
        with pytest.raises(ConflictError, match="'other'"):
            store.fork("s", "other")
        assert keys(store) == {"s", "other"}
        store.delete("other")
    with open_store() as store:
        assert done(store, conflict) == Outcome(0, True, conflict=True)
        assert keys(store) == {"s"}
        store.describe("other", room="own", meta={"a": 1})
        store.clear("s")
        store.describe("s", room="theirs", channel="c")
        assert store.fork("s", "other") == 0
        info = store.session("other")
        assert info is not None
        assert (info.room, info.channel, info.meta) == ("own", "c", {"a": 1})
        assert (info.forked_from, info.forked_upto) == ("s", None)


def test_what_the_source_had_may_be_said_in_the_fork(store: StoreUnderTest) -> None:
    store.append("s", *numbered(3))
    (upto,) = (each.message_id for each in store.load("s")[1:2])
    store.remove("s", platform_id="p0")
    assert store.fork("s", "f", upto) == 1
    store.append("f", *numbered(3))
    assert contents(store, "f") == ["w1", "w0", "w2"]


def test_a_fork_that_is_being_copied_has_its_messages_once(store: StoreUnderTest) -> None:
    store.append("s", *numbered(LARGE))
    finish_it = begun(store, fork())
    store.append("f", *numbered(2, LARGE - 1))
    assert finish_it() == Outcome(LARGE)
    assert contents(store, "f")[-2:] == [f"w{LARGE - 1}", f"w{LARGE}"]
    assert len(store.load("f")) == LARGE + 1


@pytest.mark.needs("search")
def test_a_large_fork_is_there_when_all_of_it_is_copied(open_store: Open) -> None:
    with open_store() as store:
        ids = store.append("s", *numbered(LARGE))
        store.append("s", ChatMessage.summary("sum", upto=ids[5]), *numbered(1, LARGE))
        operation = fork(upto=store.load("s")[-2].message_id)
        finish_it = begun(store, operation)
        store.append("s", ChatMessage.user("later"))
        store.replace("s", ChatMessage.user("w-edited"), ids[-1])
        assert len(found(store, "w1000")) == 1
        assert finish_it() == Outcome(LARGE + 1)
        copies = store.load("f")
        assert [each.content for each in copies[-2:]] == [f"w{LARGE - 1}", "sum"]
        assert [each.content for each in copies[:-1]] == [each.content for each in numbered(LARGE)]
        assert copies[-1].upto == copies[5].message_id
        assert copies[-1].message_id == operation.copy_id(LARGE + 1)
        info = store.session("f")
        assert info is not None
        assert info.message_count == LARGE + 1
        assert contents(store, "s")[-1] == "later"
        assert len(store.search("w1000", limit=10)) == 2
    with open_store() as store:
        assert done(store, operation) == Outcome(LARGE + 1, duplicate=True)
        assert store.load("f") == copies
        assert store.verify(deep=True) == []


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("erased", ["s", "f"])
def test_a_late_fork_brings_nothing_back(store: StoreUnderTest, erased: str) -> None:
    say(store, "s", "one")
    say(store, erased, "two")
    finish(store.store.erase(erase(erased)))
    assert done(store, Fork(op_id(), EARLY, "s", "f")) == Outcome(0)
    assert "f" not in keys(store)


@pytest.mark.needs("erasure")
@pytest.mark.parametrize("subject", ["author", "sender"])
def test_a_large_fork_of_what_was_said_after_an_erasure_stays(
    open_store: Open, subject: str
) -> None:
    copied = fork()
    with open_store() as store:
        store.append("s", *numbered(LARGE))
        erasure = requests.erase(**{subject: "ann"})
        after = requests.append("s", (ChatMessage.user("after", **ANN),), None, {"sender": "ann"})
        apply_all(store, [erasure, replace(after, at=erasure.at + 1)])
        assert done(store, copied).affected == LARGE + 1
    with open_store() as store:  # as after a kill, before the erasure has seen all
        assert finish(store.store.erase(erasure)).messages == 0
        assert contents(store, "f") == contents(store, "s")
        assert len(contents(store, "f")) == LARGE + 1


@pytest.mark.needs("erasure")
def test_a_fork_forgets_the_earlier_key_of_what_is_erased(
    store: StoreUnderTest, clock: Clock
) -> None:
    clock.now = time.time_ns() // 1000
    say(store, "s", "one")
    store.fork("s", "f")
    clock.advance(seconds=1)
    store.rename("s", "t")
    assert [each.key for each in store.sessions(forked_from="s")] == ["f"]
    clock.advance(seconds=1)
    finish(store.erase(key="t"))
    assert keys(store) == {"f"}
    assert store.sessions(forked_from="s").sessions == ()


@pytest.mark.needs("archive")
def test_the_archive_keeps_where_a_fork_comes_from(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    (upto,) = say(store, "s", "one")
    store.fork("s", "f")
    before = store.session("f")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    assert keys(store) == set()
    bring_back(store, archive, "f")
    assert store.session("f") == before
    assert before is not None
    assert (before.forked_from, before.forked_upto) == ("s", upto)
