"""What every store promises of a session's own time to live, `ttl_hours`."""

from __future__ import annotations

from typing import Any

import pytest

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.retention import Retention
from backscroll_worker.testing.fixtures import Open, Rules
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    keys,
    requests,
    say,
)

FOR_EVER = Retention.of_hours(None)


def cleaned(store: StoreUnderTest, retention: Any) -> set[str]:
    """What a cleanup deletes, which a dry run names before."""
    dry = finish(store.cleanup(retention, dry_run=True))
    wet = finish(store.cleanup(retention))
    assert set(wet.details) == set(dry.details)
    return {each.key for each in wet.details if each.is_whole}


def ttl_of(store: StoreUnderTest, key: str) -> float | None:
    info = store.session(key)
    assert info is not None
    return info.ttl_hours


def test_cleanup_obeys_a_sessions_own_ttl_instead_of_the_rule_for_all(
    open_store: Open, clock: Clock
) -> None:
    with open_store() as store:
        for key in ("plain", "short", "long", "kept", "again"):
            say(store, key, "a")
        store.append("told", ChatMessage.user("a"), session={"ttl_hours": 2})
        for key, hours in {"short": 1, "long": 100, "kept": 0, "again": 1}.items():
            store.describe(key, ttl_hours=hours)
        store.describe("again", ttl_hours=None)
    with open_store() as store:
        assert {info.key: info.ttl_hours for info in store.sessions()} == {
            "plain": None, "short": 1.0, "long": 100.0, "kept": 0.0, "again": None, "told": 2.0,
        }  # fmt: skip
        clock.advance(hours=1)
        assert cleaned(store, 10) == set()
        clock.advance(micros=1)
        assert cleaned(store, 10) == {"short"}
        clock.advance(hours=4)
        assert cleaned(store, 10) == {"told"}
        clock.advance(hours=6)
        assert cleaned(store, 10) == {"plain", "again"}
        clock.advance(hours=90)
        assert cleaned(store, 10) == {"long"}
        clock.advance(hours=1_000_000)
        assert cleaned(store, 10) == set()
        store.describe("kept", ttl_hours=None)
        assert cleaned(store, 10) == {"kept"}
        assert store.verify() == []


def test_an_own_ttl_holds_where_no_rule_has_one_and_until_the_session_is_pinned(
    store: StoreUnderTest, clock: Clock
) -> None:
    for key in ("plain", "short", "pinned", "active"):
        say(store, key, "a")
        if key != "plain":
            store.describe(key, ttl_hours=1, pinned=key == "pinned")
    clock.advance(hours=2)
    say(store, "active", "b")
    assert cleaned(store, FOR_EVER) == {"short"}
    store.describe("pinned", pinned=False)
    store.describe("plain", ttl_hours=1.5)
    assert cleaned(store, FOR_EVER) == {"pinned", "plain"}
    assert keys(store) == {"active"}


def test_the_rules_caps_hold_beside_an_own_ttl_and_the_report_names_both(
    store: StoreUnderTest, clock: Clock, rules: Rules
) -> None:
    for key in ("log a", "log b", "log c"):
        say(store, key, *"abcd")
    store.describe("log a", ttl_hours=1)
    store.describe("log b", ttl_hours=0)
    clock.advance(hours=2)
    text = '[default]\nttl = "1h"\n[[rule]]\nkey = "log*"\nttl = "forever"\nkeep_messages = 3'
    report = finish(store.cleanup(rules(text)))
    assert {(each.key, each.rule, each.messages) for each in report.details} == {
        ("log a", "own", 4), ("log b", "key=log*", 1), ("log c", "key=log*", 1),
    }  # fmt: skip
    assert {each.rule: (each.sessions, each.messages, each.capped) for each in report.rules} == {
        "own": (1, 4, 0), "key=log*": (0, 0, 2),
    }  # fmt: skip
    assert contents(store, "log b") == list("bcd")


def test_what_begins_with_a_session_has_its_ttl_and_what_ends_in_it_has_not(
    open_store: Open, clock: Clock
) -> None:
    with open_store() as store:
        say(store, "s", "a")
        store.describe("s", ttl_hours=5)
        store.fork("s", "fork")
        assert (ttl_of(store, "s"), ttl_of(store, "fork")) == (5, 5)
        reset = requests.reset("s")
        apply_all(store, [reset])
        assert (ttl_of(store, "s"), ttl_of(store, reset.past_key)) == (5, 5)
        apply_all(store, [requests.rename("s", "renamed")])
        store.clear("renamed")
        assert ttl_of(store, "renamed") == 5
        say(store, "into", "b")
        apply_all(store, [requests.merge("fork", "into")])
        assert ttl_of(store, "into") is None
        store.delete("renamed")
        say(store, "renamed", "a new one")
        assert ttl_of(store, "renamed") is None
    with open_store() as store:
        clock.advance(hours=6)
        assert cleaned(store, FOR_EVER) == {reset.past_key}
        assert contents(store, "into") == ["a", "b"]


@pytest.mark.needs("archive")
def test_a_session_that_went_by_its_own_ttl_comes_back_with_it(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", "a")
    store.describe("s", ttl_hours=1)
    clock.advance(hours=2)
    (gone,) = finish(store.cleanup(FOR_EVER, archive=archive)).details
    assert (gone.key, gone.rule, keys(store)) == ("s", "own", set())
    assert bring_back(store, archive, "s").messages == 1
    assert ttl_of(store, "s") == 1
    assert finish(store.cleanup(FOR_EVER, archive=archive)).keys == ("s",)


@pytest.mark.needs("archive")
@pytest.mark.parametrize("hours", [None, 0, 50])
def test_a_ttl_changed_while_it_is_archived_keeps_the_session(
    store: StoreUnderTest, clock: Clock, archive: Archive, hours: float | None
) -> None:
    say(store, "s", "a")
    store.describe("s", ttl_hours=1)
    clock.advance(hours=2)
    slices, is_changed = store.cleanup(FOR_EVER, archive=archive), False
    for _ in slices:
        if archive.files() and not is_changed:
            store.describe("s", ttl_hours=hours)
            is_changed = True
    assert is_changed
    assert contents(store, "s") == ["a"]
    assert archive.files() == []


@pytest.mark.parametrize(
    "wrong", [True, -1, -0.001, float("nan"), float("inf"), 1e9, 10**400, "5", "never", [1]]
)
def test_hours_that_are_none_are_refused(store: StoreUnderTest, wrong: Any) -> None:
    say(store, "s", "a")
    with pytest.raises(InvalidInputError, match="ttl_hours: must be a number from 0 to 1e9"):
        store.describe("s", ttl_hours=wrong)
    with pytest.raises(InvalidInputError, match="ttl_hours"):
        store.append("s", ChatMessage.user("b"), session={"ttl_hours": wrong})
    assert (ttl_of(store, "s"), contents(store, "s")) == (None, ["a"])
