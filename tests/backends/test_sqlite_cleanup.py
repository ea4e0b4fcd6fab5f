"""Cleanup of an SQLite store: what a killed one left, and a clock that goes back."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.archiving import REMOVALS_PER_FILE
from backscroll_worker.contract.pacing import Pace, finish
from backscroll_worker.contract.retention import Retention
from backscroll_worker.stores.sqlite.maintenance import cleanup
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    found,
    keys,
    open_tested,
    requests,
    say,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backscroll.db"


def fill(store: StoreUnderTest, clock: Clock) -> None:
    message = ChatMessage.user("some words")
    apply_all(store, [requests.append(f"s{n}", (message,) * 20, None) for n in range(100)])
    clock.advance(hours=2)


def test_what_a_killed_cleanup_left_goes_with_the_next_whatever_its_order(path: Path) -> None:
    clock = Clock()
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        fill(store, clock)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE sessions SET key = NULL WHERE id % 2")
    connection.close()
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        assert finish(store.cleanup(1)).sessions == 50
        assert found(store, "words") == set()
        assert store.verify() == []
    left = apsw.Connection(str(path)).execute("SELECT count(*) FROM messages").get
    assert left == 0


def test_messages_sent_while_the_clock_is_back_do_not_expire_early(
    path: Path,
) -> None:
    clock = Clock()
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        say(store, "old", "a")
    clock.advance(hours=-40)
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        say(store, "new", "b")
    clock.advance(hours=41)
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        assert finish(store.cleanup(2)).sessions == 0
        assert keys(store) == {"old", "new"}


def test_a_session_of_more_messages_than_a_round_has_goes_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detached, "MESSAGES_PER_ROUND", 7)
    clock = Clock()
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        fill(store, clock)
        assert finish(store.cleanup(1)).messages == 2_000
        assert store.verify() == []
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT count(*) FROM messages").get == 0
    assert connection.execute("SELECT count(*) FROM sessions").get == 0


def test_a_cap_counts_each_of_many_sessions_once(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "Pace", lambda *_: Pace(1, most=1))  # slices within a session
    rules = tmp_path / "retention.toml"
    rules.write_text("[default]\nkeep_messages = 1\n")
    message = ChatMessage.user("words")
    with open_tested(f"sqlite://{path}") as store:
        apply_all(
            store,
            [
                requests.append(f"s{number}", (message,) * 3, None)
                for number in range(REMOVALS_PER_FILE + 20)
            ],
        )
        for dry_run in (True, False):
            report = finish(store.cleanup(Retention.load(rules, None), dry_run=dry_run))
            assert report.capped == 2 * (REMOVALS_PER_FILE + 20)
