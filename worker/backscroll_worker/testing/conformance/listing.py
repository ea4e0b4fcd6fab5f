"""What every store promises of a listing's filters and of paging through it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage, SessionInfo, from_micros
from backscroll.contract.operations import Describe
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import Clock, StoreUnderTest, apply_all, keys, requests, say

NAMES = {
    "cafe": "Café plans",
    "trip": "Trip to Berlin, planned",
    "ai": "人工知能の話",
    "mixed": "STRASSE & Straße",
    "arabic": "قَهْوَة",
}


def named(store: StoreUnderTest, typed: str) -> set[str]:
    return {info.key for info in store.sessions(name=typed).sessions}


def pages(store: StoreUnderTest, limit: int, **where: Any) -> Iterator[list[SessionInfo]]:
    """The pages of a listing; the next is asked for only when it is wanted."""
    cursor = None
    while True:
        page = store.sessions(limit=limit, cursor=cursor, **where)
        assert len(page.sessions) <= limit
        yield list(page.sessions)
        if page.cursor is None:
            return
        cursor = page.cursor


def all_keys(store: StoreUnderTest, limit: int, **where: Any) -> list[str]:
    return [info.key for page in pages(store, limit, **where) for info in page]


@pytest.fixture
def names(store: StoreUnderTest) -> StoreUnderTest:
    for key, name in NAMES.items():
        store.describe(key, name=name)
    say(store, "nameless", "Café plans")
    return store


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("cafe", {"cafe"}),
        ("CAFÉ", {"cafe"}),
        ("plans cafe", {"cafe"}),
        ("c", {"cafe"}),
        ("plan", {"cafe", "trip"}),
        ("plan ", set()),  # a word that is finished
        ("cafe pl", {"cafe"}),
        ("caf plans", set()),  # only the last one may be unfinished
        ('"to ber', set()),
        ('"to berlin', {"trip"}),
        ("plan* -trip", {"cafe"}),
        ("知能", {"ai"}),
        ("人工知", {"ai"}),
        ("strasse", {"mixed"}),
        ("قهو", {"arabic"}),
        ("afe", set()),
        ("!?", set()),
        ("-", set()),
        ("*", set()),
        ("' OR 1 --", set()),
    ],
)
def test_sessions_are_listed_by_the_words_of_their_name(
    names: StoreUnderTest, typed: str, found: set[str]
) -> None:
    assert named(names, typed) == found


def test_a_name_is_found_as_it_is_now(open_store: Open) -> None:
    with open_store() as store:
        store.describe("a", name="first")
        store.describe("b", name="first")
        store.describe("a", name="second")
        store.describe("b", agent="x")
        assert (named(store, "first"), named(store, "second")) == ({"b"}, {"a"})
        store.describe("b", name=None)
        assert named(store, "first") == set()
        store.describe("b", name="second thoughts")
        say(store, "b", "x")
        store.clear("b")
    store = open_store()
    assert named(store, "second") == {"a", "b"}
    assert store.verify() == []


def test_a_name_goes_with_its_session(store: StoreUnderTest, clock: Clock) -> None:
    for key in ("deleted", "idle", "stays"):
        store.describe(key, name=f"plan {key}")
        say(store, key, "x")
    store.delete("deleted")
    clock.advance(hours=2)
    say(store, "stays", "x")
    finish(store.cleanup(1))
    assert named(store, "plan") == {"stays"}
    for key in ("deleted", "idle"):  # whoever comes after has no name
        say(store, key, "x")
    assert named(store, "plan") == {"stays"}
    assert store.verify() == []


def test_an_imported_session_is_found_by_its_name(store: StoreUnderTest, clock: Clock) -> None:
    said = ChatMessage("user", "x", None, "0" * 32, from_micros(5))
    attributes: dict[str, str | bool | None] = {"name": "Café plans"}
    apply_all(store, [ImportSession("1" * 32, clock.now, "s", (said,), attributes, 5, 5)])
    assert named(store, "cafe") == {"s"}
    assert store.verify() == []


def test_a_description_that_comes_twice_names_once(store: StoreUnderTest) -> None:
    store.describe("a", name="before")
    again = requests.describe("a", {"name": "after"})
    first, second = store.apply([again, again])
    assert (named(store, "before"), named(store, "after")) == (set(), {"a"})
    assert first != second  # the second is a duplicate


def test_sessions_are_listed_by_when_they_were_active(store: StoreUnderTest, clock: Clock) -> None:
    began = clock.now
    for key in "abcde":
        say(store, key, "x")
        clock.advance(seconds=1)

    def at(seconds: int) -> datetime:
        return from_micros(began) + timedelta(seconds=seconds)

    def active(since: datetime | None, until: datetime | None) -> str:
        page = store.sessions(active_since=since, active_until=until)
        return "".join(info.key for info in page.sessions)

    assert active(at(2), None) == "edc"
    assert active(None, at(2)) == "ba"
    assert active(at(1), at(3)) == "cb"
    assert active(at(2), at(2)) == ""
    assert active(at(3), at(1)) == ""
    assert active(from_micros(0), at(99)) == "edcba"


@pytest.mark.parametrize("name", ["active_since", "active_until"])
@pytest.mark.parametrize("moment", [datetime(2026, 1, 1), "2026-01-01", 5, True])
def test_a_time_without_a_zone_is_refused(store: StoreUnderTest, name: str, moment: object) -> None:
    bound: dict[str, Any] = {name: moment}
    with pytest.raises(InvalidInputError, match=name):
        store.sessions(**bound)


FILTERS: list[dict[str, Any]] = [
    {},
    {"channel": "slack"},
    {"room": "r1", "channel": "slack"},
    {"sender": "me"},
    {"agent": "main"},
    {"state": "running"},
    {"pinned": True},
    {"pinned": False},
    {"name": "pla"},
    {"name": "plan odd", "channel": "slack"},
    {"stuck_seconds": 1.0},
    {"meta": {"odd": True}},
    {"meta": {"odd": False, "third": 1}, "channel": "web"},
    {"prefix": "s1"},
    {"prefix": "s", "channel": "slack", "name": "plan"},
    {"active_since": from_micros(1_750_000_000_000_003)},
    {"active_until": from_micros(1_750_000_000_000_009), "channel": "slack"},
]


def test_pages_with_any_filter_hold_what_passes_once_and_in_order(
    store: StoreUnderTest, clock: Clock
) -> None:
    fill(store, clock)
    everything = [info for page in pages(store, 1_000) for info in page]
    assert len(everything) == 24
    for where in FILTERS:
        expected = [info.key for info in everything if passes(info, where, clock)]
        assert expected, where
        for limit in (1, 3, 40):
            assert all_keys(store, limit, **where) == expected, (where, limit)


def fill(store: StoreUnderTest, clock: Clock) -> None:
    """Sessions of all kinds, three at each moment."""
    for first in range(0, 24, 3):
        apply_all(store, [described(number) for number in range(first, first + 3)])
        clock.advance(micros=2)
    clock.advance(seconds=2)


def described(number: int) -> Describe:
    is_odd = bool(number % 2)
    attributes = {
        "channel": "slack" if is_odd else "web",
        "room": f"r{number % 3}",
        "sender": "me" if number < 9 else "you",
        "agent": "main" if number % 5 else None,
        "name": f"plan {'odd' if is_odd else 'even'}" if number % 4 else None,
        "state": "running" if number % 3 else "idle",
        "pinned": number % 3 == 1,
        "meta": {"odd": is_odd, "third": number % 3} if number % 4 else None,
    }
    return requests.describe(f"s{number}", attributes)


def passes(info: SessionInfo, where: dict[str, Any], clock: Clock) -> bool:
    """The filter again, in other words."""
    given = dict(where)
    words = given.pop("name", "").split()
    prefix = given.pop("prefix", "")
    since, until = given.pop("active_since", None), given.pop("active_until", None)
    stuck, meta = given.pop("stuck_seconds", None), given.pop("meta", {})
    latest = from_micros(clock.now) - timedelta(seconds=stuck or 0)
    return (
        info.key.startswith(prefix)
        and all(getattr(info, name) == value for name, value in given.items())
        and meta.items() <= info.meta.items()
        and all(word in (info.name or "") for word in words)
        and (since is None or info.last_activity >= since)
        and (until is None or info.last_activity < until)
        and (stuck is None or (info.turn_started_at is not None and info.turn_started_at < latest))
    )


LAST, BEFORE_SURROGATES = "\U0010ffff", "\ud7ff"
ODD_KEYS = [
    "a", "a%", "a%b", "a_", "a_b", "a*", "A", "ab", "a/b", "b", "é", "éa", "ê", BEFORE_SURROGATES,
    BEFORE_SURROGATES + "x", "\ue000", LAST, LAST * 2, LAST + "a", "a" + LAST, "a" + LAST + "b",
    "a" * 512,
]  # fmt: skip


def test_a_prefix_of_keys_is_taken_literally(store: StoreUnderTest) -> None:
    say_in = [requests.append(key, (ChatMessage.user("x"),)) for key in ODD_KEYS]
    apply_all(store, say_in)
    for prefix in (*ODD_KEYS, "%", "_", "?", "*", "a" * 511, "a\u0300"):
        expected = {key for key in ODD_KEYS if key.startswith(prefix)}
        assert set(all_keys(store, 5, prefix=prefix)) == expected, prefix
    for wrong in ("", "x" * 513, "a\0", 5):
        with pytest.raises(InvalidInputError, match="prefix"):
            store.sessions(prefix=wrong)


@pytest.mark.parametrize("where", [{}, {"channel": "slack"}, {"name": "plan"}])
def test_paging_shows_nothing_twice_and_all_that_stays_unchanged(
    store: StoreUnderTest, clock: Clock, where: dict[str, Any]
) -> None:
    for number in range(12):
        store.describe(f"s{number}", channel="slack", name="plan")
        clock.advance(seconds=1)
    began = from_micros(clock.now)
    seen = list[str]()
    for number, page in enumerate(pages(store, 3, **where)):
        seen += [info.key for info in page]
        clock.advance(seconds=1)
        say(store, "s11", "shown already")
        say(store, "s0", "not shown yet")
        store.describe(f"new{number}", channel="slack", name="plan")
    assert len(seen) == len(set(seen))
    assert set(seen) == keys(store) - {"s0"} - {key for key in keys(store) if "new" in key}
    moved = all_keys(store, 100, active_since=began, **where)
    assert "s0" in moved  # as documented: what moved to the front is found there
