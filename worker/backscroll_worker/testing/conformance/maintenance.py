"""What every store promises of cleanup, compaction and verification."""

from __future__ import annotations

import pytest

from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    found,
    keys,
    requests,
    say,
)


@pytest.mark.needs("search")
def test_cleanup_removes_idle_sessions_and_says_what_went(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        say(store, "old", "a", "b")
        say(store, "older/one", "c")
        clock.advance(hours=5)
        say(store, "fresh", "d")
        report = finish(store.cleanup(4))
    assert (report.sessions, report.messages) == (2, 3)
    assert set(report.keys) == {"old", "older/one"}
    assert (report.ttl_hours, report.dry_run) == (4, False)
    assert report.seconds >= 0
    store = open_store()
    assert keys(store) == {"fresh"}
    assert store.load("old") == []
    assert found(store, "a") == set()
    assert store.verify() == []


def test_a_dry_run_removes_nothing_and_counts_the_same(store: StoreUnderTest, clock: Clock) -> None:
    say(store, "old", "a", "b")
    store.describe("empty", name="x")
    clock.advance(hours=5)
    say(store, "fresh", "c")
    dry = finish(store.cleanup(4, dry_run=True))
    assert dry.dry_run
    assert keys(store) == {"old", "empty", "fresh"}
    assert contents(store, "old") == ["a", "b"]
    wet = finish(store.cleanup(4))
    assert (dry.sessions, dry.messages, set(dry.keys)) == (
        wet.sessions,
        wet.messages,
        set(wet.keys),
    )


def test_pinned_sessions_stay(store: StoreUnderTest, clock: Clock) -> None:
    say(store, "pinned", "a")
    say(store, "was pinned", "b")
    for key in ("pinned", "was pinned"):
        store.describe(key, pinned=True)
    store.describe("was pinned", pinned=False)
    clock.advance(hours=100)
    assert finish(store.cleanup(1)).keys == ("was pinned",)
    assert keys(store) == {"pinned"}


def test_a_session_goes_when_idle_for_longer_than_the_ttl_not_before(
    store: StoreUnderTest, clock: Clock
) -> None:
    say(store, "s", "a")
    clock.advance(hours=4)
    assert finish(store.cleanup(4)).sessions == 0
    clock.advance(micros=1)
    assert finish(store.cleanup(4)).sessions == 1


def test_a_session_of_the_future_lets_the_others_and_their_op_ids_live(
    open_store: Open, clock: Clock
) -> None:
    said = requests.append("s", (ChatMessage.user("a"),), None)
    future = clock.now + 80 * 8_760 * HOUR
    with open_store() as store:
        apply_all(store, [said])
        apply_all(store, [ImportSession(new_op_id(), clock.now, "odd", (), {}, clock.now, future)])
    with open_store() as store:
        assert finish(store.cleanup(1)).sessions == 0
        assert keys(store) == {"s", "odd"}
        store.delete("s")
        finish(store.compact(1))
        assert [outcome.duplicate for outcome in apply_all(store, [said])] == [True]
        clock.advance(hours=2)
        assert finish(store.compact(1)).op_ids_purged > 0


def test_a_session_imported_with_a_future_time_keeps_no_session_for_ever(
    open_store: Open, clock: Clock
) -> None:
    future = clock.now + 50 * 8_760 * HOUR
    with open_store() as store:
        odd = ImportSession(new_op_id(), clock.now, "odd", (), {}, future, future)
        apply_all(store, [odd])
        info = store.session("odd")
        assert info is not None
        assert (info.created_at, info.last_activity) == (from_micros(clock.now),) * 2
    store = open_store()
    say(store, "s", "a")
    clock.advance(hours=5)
    assert finish(store.cleanup(4)).sessions == 2
    assert keys(store) == set()


def test_a_clock_that_was_ahead_for_a_while_deletes_nothing(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        say(store, "a", "before")
    clock.advance(hours=20_000)
    with open_store() as store:
        say(store, "b", "with a wrong clock")
    clock.advance(hours=-20_000)
    with open_store() as store:
        say(store, "c", "after")
        assert finish(store.cleanup(1)).sessions == 0
        clock.advance(hours=-40)
        assert finish(store.cleanup(1)).sessions == 0, "nor does one that was set back"
        clock.advance(hours=42)
        assert "a" in finish(store.cleanup(1)).keys


def test_describing_is_no_reason_to_keep_a_session(store: StoreUnderTest, clock: Clock) -> None:
    say(store, "s", "a")
    clock.advance(hours=5)
    store.describe("s", name="named")
    assert finish(store.cleanup(4)).sessions == 1


def test_nothing_to_clean_up_is_no_error(store: StoreUnderTest) -> None:
    report = finish(store.cleanup(1))
    assert (report.sessions, report.messages, report.keys) == (0, 0, ())


@pytest.mark.needs("search")
def test_a_key_can_be_used_again_after_a_cleanup(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        say(store, "s", "old")
        store.describe("s", name="Old")
        clock.advance(hours=2)
        finish(store.cleanup(1))
        say(store, "s", "new")
    store = open_store()
    assert contents(store, "s") == ["new"]
    assert found(store, "old") == set()
    session = store.session("s")
    assert session is not None
    assert (session.name, session.message_count) == (None, 1)


def test_a_session_written_to_between_slices_stays_whole_or_begins_anew(
    store: StoreUnderTest, clock: Clock
) -> None:
    names = [f"s{number}" for number in range(450)]
    apply_all(store, [requests.append(key, (ChatMessage.user("old"),) * 3, None) for key in names])
    clock.advance(hours=2)
    slices, written = store.cleanup(1), list[str]()
    for _ in slices:
        if len(written) < 40:
            key = names[-1 - 7 * len(written)]
            say(store, key, "new")
            written.append(key)
    assert len(written) > 3
    for key in written:
        assert contents(store, key) in (["new"], ["old"] * 3 + ["new"])
    assert keys(store) == set(written)
    assert contents(store, written[-1])[-1] == "new"
    assert store.verify() == []


def test_a_session_pinned_between_slices_stays_or_was_gone_before(
    store: StoreUnderTest, clock: Clock
) -> None:
    for number in range(60):
        say(store, f"s{number:02}", "old")
    clock.advance(hours=2)
    slices = store.cleanup(1)
    next(slices)
    survivors = keys(store)
    for key in survivors:
        store.describe(key, pinned=True)
    finish(slices)
    assert keys(store) == survivors


@pytest.mark.needs("search")
def test_a_cleanup_that_is_abandoned_leaves_a_sound_store(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        apply_all(
            store,
            [
                requests.append(f"s{number}", (ChatMessage.user("old"),) * 9, None)
                for number in range(300)
            ],
        )
        clock.advance(hours=2)
        slices = store.cleanup(1)
        next(slices)
        next(slices)
        slices.close()
    with open_store() as store:
        assert store.verify() == []
        finish(store.cleanup(1))
        assert keys(store) == set()
        assert found(store, "old") == set()


@pytest.mark.needs("search")
def test_appends_go_on_between_slices_of_a_compaction(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        for number in range(120):
            say(store, f"s{number}", "a", "b")
            store.remove_last(f"s{number}")
        clock.advance(hours=200)
        expected = []
        for step, _ in enumerate(store.compact(168)):
            say(store, f"s{step % 120}", f"meanwhile {step}")
            expected.append(f"meanwhile {step}")
        assert expected
        assert found(store, "meanwhile") == set(expected)
    store = open_store()
    assert found(store, "meanwhile") == set(expected)
    assert contents(store, "s119")[0] == "a"
    assert store.verify() == []


def test_compaction_changes_nothing_that_can_be_read(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        for key in ("s", "a/b", "x" * 300):
            store.append(key, *(ChatMessage.user(text, n=1) for text in "abcd"))
            store.remove_last(key)
            store.describe(key, agent="helper", state="running", turn_id="t", pinned=True)
        store.clear("s")
        store.delete("a/b")
        clock.advance(hours=1_000)
        before = [store.load(key) for key in ("s", "a/b", "x" * 300)], store.sessions()
        finish(store.compact(1))
        finish(store.compact(1))
        assert ([store.load(key) for key in ("s", "a/b", "x" * 300)], store.sessions()) == before
    store = open_store()
    assert ([store.load(key) for key in ("s", "a/b", "x" * 300)], store.sessions()) == before
    assert store.verify() == []


def test_compaction_purges_old_op_ids_and_counts_them(store: StoreUnderTest, clock: Clock) -> None:
    say(store, "s", "a", "b")
    store.remove_last("s")
    clock.advance(hours=10)
    say(store, "t", "c")
    store.remove_last("t")
    assert finish(store.compact(11)).op_ids_purged == 0
    assert finish(store.compact(5)).op_ids_purged > 0
    assert finish(store.compact(5)).op_ids_purged == 0


def test_compaction_gives_space_back_and_says_how_much(store: StoreUnderTest) -> None:
    for number in range(20):
        store.append("s", ChatMessage.user(f"{number} " + "words " * 5_000))
    store.clear("s")
    report = finish(store.compact(0))
    assert report.bytes_after <= report.bytes_before
    assert report.bytes_after == store.size_bytes()
    assert report.bytes_after < 300_000
    assert report.corrupt_lines == 0
    assert report.seconds >= 0


def test_a_new_store_is_sound(store: StoreUnderTest) -> None:
    assert store.verify() == []
    assert store.size_bytes() >= 0


def test_a_store_is_sound_after_everything(open_store: Open, clock: Clock) -> None:
    with open_store() as store:
        ids = store.append("s", *(ChatMessage.user(text) for text in "abc"))
        store.remove("s", ids[1])
        store.replace("s", ChatMessage.user("日本語"))
        store.describe("s", name="x")
        say(store, "t", "a")
        store.clear("t")
        say(store, "u", "a")
        store.delete("u")
        say(store, "v", "a")
        clock.advance(hours=9)
        say(store, "s", "again")
        finish(store.cleanup(8))
        finish(store.compact(0))
        assert store.verify() == []
    store = open_store()
    assert store.verify() == []
    assert contents(store, "s") == ["a", "日本語", "again"]


def test_a_negative_age_forgets_every_op_id(store: StoreUnderTest) -> None:
    say(store, "s", "a")
    store.delete("s")
    finish(store.compact(-1))
    assert finish(store.compact(-1)).op_ids_purged == 0


@pytest.mark.parametrize("hours", [0, 0.5, 1e8])
def test_any_ttl_is_taken(store: StoreUnderTest, clock: Clock, hours: float) -> None:
    say(store, "s", "a")
    clock.advance(hours=1)
    assert finish(store.cleanup(hours)).sessions == (1 if hours < 1 else 0)
