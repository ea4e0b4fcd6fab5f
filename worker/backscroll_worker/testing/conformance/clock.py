"""What every store promises though its clock is set back and ahead, rightly or wrongly."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backscroll.contract.messages import ChatMessage, SessionInfo, from_micros
from backscroll.contract.operations import Describe, Erase, Write
from backscroll_worker.contract.clock import Elapsed
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession, RestoreSession
from backscroll_worker.stores import store_at
from backscroll_worker.testing.conformance.erasure import append, op_id
from backscroll_worker.testing.fixtures import Open, UrlAt
from backscroll_worker.testing.stores import (
    HOUR,
    Clock,
    StoreUnderTest,
    apply_all,
    keys,
    open_tested,
    say,
)

NEEDS = "clock"

DAY = 24 * HOUR
YEAR = 365 * DAY
TTL_HOURS = 48
TTL = TTL_HOURS * HOUR


@dataclass
class Time:
    """Real time, and a clock that is wrong by so much."""

    real: int = 1_750_000_000_000_000
    wrong: int = 0
    boot: int = 0
    booted_at: int = 0

    def wall(self) -> int:
        return self.real + self.wrong

    def elapsed(self) -> Elapsed:
        return Elapsed(str(self.boot), self.real - self.booted_at)


@contextmanager
def measured(url: str, time: Time) -> Iterator[StoreUnderTest]:
    """A store that is told the time since boot as well."""
    with open_tested(url, clock=time.wall, elapsed=time.elapsed) as store:
        yield store


def clean(store: StoreUnderTest, hours: float = TTL_HOURS) -> int:
    return finish(store.cleanup(hours)).sessions


@pytest.mark.parametrize("ahead_hours", [30 * 24, 24 * 365 * 10])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_one_write_while_the_clock_is_ahead_keeps_no_other_session(
    open_store: Open, clock: Clock, ahead_hours: int, is_restarted: bool
) -> None:
    store = open_store()
    say(store, "before", "x")
    clock.advance(hours=ahead_hours)
    say(store, "ahead", "x")
    clock.advance(hours=-ahead_hours)
    if is_restarted:
        store.close()
        store = open_store()
    for number in range(50):
        say(store, f"later{number}", "x")
    clock.advance(hours=TTL_HOURS - 1)
    assert clean(store) == 0
    clock.advance(hours=1.1)
    assert clean(store) == 52


def test_a_session_of_the_future_is_listed_and_expires_as_one_of_now(
    store: StoreUnderTest, clock: Clock
) -> None:
    say(store, "a", "x")
    clock.advance(hours=10_000)
    for key in ("b", "c"):
        say(store, key, "x")
    clock.advance(hours=-9_999)
    say(store, "d", "x")
    listed = store.sessions().sessions
    assert all(info.last_activity <= from_micros(clock.now + 1_000) for info in listed)
    assert all(info.created_at <= info.last_activity for info in listed)
    assert [info.key for info in listed if info.key in "bc"] == ["c", "b"]
    assert listed[-1].key == "a"


def test_what_is_written_while_the_clock_is_back_is_not_old_afterwards(
    store: StoreUnderTest, clock: Clock
) -> None:
    say(store, "before", "x")
    clock.advance(hours=-300)
    say(store, "back", "x")
    assert clean(store) == 0
    clock.advance(hours=301)
    say(store, "after", "x")
    assert clean(store) == 0
    clock.advance(hours=TTL_HOURS + 0.1)
    assert clean(store) == 3


@pytest.mark.parametrize("is_own", [False, True])
def test_ahead_back_and_ahead_again_deletes_nothing_and_keeps_nothing(
    url: str, is_own: bool
) -> None:
    """Whether the ttl is that of a rule or each session's own."""
    time, hours = Time(), 1e8 if is_own else TTL_HOURS
    for number, wrong in enumerate((0, YEAR, 0, YEAR, -YEAR, YEAR, 0)):
        time.wrong = wrong
        with measured(url, time) as store:
            say(store, f"s{number}", "x")
            store.describe(f"s{number}", ttl_hours=TTL_HOURS if is_own else None)
            assert clean(store, hours) == 0
        time.real += HOUR
    with measured(url, time) as store:
        assert len(keys(store)) == 7
        time.real += TTL
        clean(store, hours)
        time.real += TTL
        clean(store, hours)
        assert keys(store) == set()


def test_a_clock_that_goes_ahead_deletes_nothing_that_is_young(url: str) -> None:
    time = Time()
    with measured(url, time) as store:
        say(store, "young", "x")
        time.real += HOUR
        time.wrong = 10 * YEAR
        assert clean(store) == 0
        time.real += TTL
        assert clean(store) == 1


def test_a_boot_with_a_clock_years_ahead_deletes_nothing_that_is_young(url: str) -> None:
    time = Time()
    hours = 10 * 24
    with measured(url, time) as store:
        say(store, "young", "x")
    time.boot, time.booted_at, time.wrong = 1, time.real, 10 * YEAR
    with measured(url, time) as store:
        assert clean(store, hours) == 0
        time.real += 11 * DAY
        assert clean(store, hours) == 1


@pytest.mark.parametrize("hours", [-400, 400])
def test_op_ids_stay_their_hours_and_go_whatever_the_clock_did(url: str, hours: int) -> None:
    time = Time()
    with measured(url, time) as store:
        operations = [append(f"s{number}", "x", number) for number in range(3)]
        for operation, wrong in zip(operations, (0, hours * HOUR, 0), strict=True):
            time.wrong = wrong
            apply_all(store, [operation])
            store.delete(operation.key)
            finish(store.compact(TTL_HOURS))
            time.real += HOUR
        outcomes = apply_all(store, operations)
        assert all(outcome.duplicate for outcome in outcomes)
        for _ in range(2):
            time.real += TTL + HOUR
            finish(store.compact(TTL_HOURS))
        outcomes = apply_all(store, operations)
        assert not any(outcome.duplicate for outcome in outcomes)


@pytest.mark.needs("files")
@pytest.mark.parametrize(
    "wrong_hours",
    [
        (0, -720, 2, 0),
        (0, 8_760),
        (0, 0, 8_760, 0),
        (8_760, 0, 8_761),
        (0, -2, -720, 8, -2, 0),
    ],
)
@pytest.mark.parametrize("killed", [{0}, {1}, {2}, set(range(6))])
def test_a_kill_after_the_clock_jumped_ages_no_op_id(
    url: str, tmp_path: Path, wrong_hours: tuple[int, ...], killed: set[int]
) -> None:
    time, said = Time(), list[Write]()
    for number, hours in enumerate(wrong_hours):
        time.wrong = hours * HOUR
        with measured(url, time) as store:
            said.append(append(f"s{number}", "x", time.wall()))
            apply_all(store, [said[-1]])
            store.delete(f"s{number}")
            said.append(Describe(op_id(), time.wall(), "described", {"name": str(number)}))
            apply_all(store, [said[-1]])
            time.real += HOUR // 10
            if number in killed:  # what lies there now is what a kill leaves
                left = _copied(url, tmp_path / str(number))
        if number in killed:
            url = left
    with measured(url, time) as store:
        finish(store.compact(168))
        assert all(outcome.duplicate for outcome in apply_all(store, said))


def _copied(url: str, directory: Path) -> str:
    """The URL of a copy of a store that is open."""
    scheme, path = url.partition("://")[0], store_at(url).path
    assert path is not None
    shutil.copytree(path if path.is_dir() else path.parent, directory)
    return f"{scheme}://{directory if path.is_dir() else directory / path.name}"


@pytest.mark.needs("erasure")
def test_what_is_said_after_an_erasure_by_a_clock_ahead_is_stored(
    store: StoreUnderTest, clock: Clock
) -> None:
    clock.advance(hours=1_000)
    apply_all(store, [append("z", "old", clock.now - 1)])

    finish(store.store.erase(Erase(op_id(), clock.now, "z")))
    clock.advance(hours=-999)
    apply_all(store, [append("z", "new", clock.now)])
    assert keys(store) == {"z"}
    clock.advance(hours=1_100)
    apply_all(store, [append("z", "later", clock.now)])
    assert len(store.load("z")) == 2


@pytest.mark.needs("erasure")
def test_what_was_erased_stays_away_though_the_clock_is_set_back(
    store: StoreUnderTest, clock: Clock
) -> None:

    asked = clock.now
    finish(store.store.erase(Erase(op_id(), asked, "z")))
    clock.advance(hours=-1_000)
    apply_all(store, [append("z", "old", asked - 1)])
    clock.advance(hours=1_001)
    apply_all(store, [append("z", "old too", asked - 2)])
    assert keys(store) == set()


def test_a_turn_that_began_in_the_future_is_stuck_some_day(
    store: StoreUnderTest, clock: Clock
) -> None:
    store.describe("s", channel="c")
    clock.advance(hours=1_000)
    store.describe("s", state="running")
    clock.advance(hours=-1_000)
    say(store, "t", "x")
    clock.advance(hours=2)
    assert [info.key for info in store.sessions(stuck_seconds=3_600).sessions] == ["s"]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.integers(1, 3 * TTL_HOURS)),
        st.tuples(st.just("wrong by"), st.integers(-2_000, 2_000)),
        st.tuples(st.just("write"), st.integers(0, 4)),
        st.tuples(st.just("clean"), st.just(0)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=25,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_nothing_goes_early_or_stays_whatever_the_clock_does(
    url_at: UrlAt, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    url = url_at(tmp_path_factory.mktemp("clock") / "store")
    time, written = Time(), dict[str, int]()
    store = open_tested(url, clock=time.wall, elapsed=time.elapsed)
    try:
        for what, number in steps:
            if what == "pass":
                time.real += number * HOUR
            elif what == "wrong by":
                time.wrong = number * HOUR
            elif what == "write":
                store.append(f"s{number}", ChatMessage.user("x"))
                written[f"s{number}"] = time.real
            elif what == "restart":
                store.close()
                store = open_tested(url, clock=time.wall, elapsed=time.elapsed)
            else:
                clean(store)
            young = {key for key, at in written.items() if time.real - at <= TTL}
            assert young <= keys(store)
        time.wrong = 0
        clean(store)
        time.real += TTL + HOUR
        clean(store)
        assert keys(store) == set()
    finally:
        store.close()


@pytest.mark.parametrize("how", [ImportSession, RestoreSession])
def test_no_time_of_a_session_from_elsewhere_is_in_the_future(
    store: StoreUnderTest, clock: Clock, how: type[ImportSession | RestoreSession]
) -> None:
    future = clock.now + YEAR
    said = (ChatMessage("user", "x", None, op_id(), from_micros(clock.now)),)
    if how is ImportSession:
        attributes = {"state": "running", "turn_id": "t"}
        taken: Write = ImportSession(
            op_id(), clock.now, "k", said, attributes, future, future, future
        )
    else:
        at = from_micros(future)
        info = SessionInfo("k", at, at, 1, state="running", turn_id="t", turn_started_at=at)
        taken = RestoreSession(op_id(), clock.now, "k", "k", info, said)
    apply_all(store, [taken])
    (seen,) = store.sessions().sessions
    now = from_micros(clock.now)
    assert (seen.created_at, seen.last_activity, seen.turn_started_at) == (now, now, now)
