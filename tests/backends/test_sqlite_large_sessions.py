"""SQLite deletes a large session later: nobody sees it meanwhile, and no group waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll.contract.results import Outcome
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.sqlite.maintenance import purge as detached
from backscroll_worker.testing.conformance.erasure import traces
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    bring_back,
    contents,
    found,
    keys,
    open_tested,
    requests,
    say,
)

COUNT = 50


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path / 'store.db'}"


@pytest.fixture
def store(url: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreUnderTest]:
    """One to which a session with 50 messages is large."""
    monkeypatch.setattr(detached, "MOST_AT_ONCE", COUNT - 1)
    with open_tested(url, clock=clock) as store:
        yield store


def fill(store: StoreUnderTest) -> list[str]:
    store.describe("s", name="Stripes", sender="zebra", pinned=True)
    return say(store, "s", *(f"quagga {number}" for number in range(COUNT)))


def is_unseen(store: StoreUnderTest) -> bool:
    """Whether nothing shows that there were such messages."""
    totals, hits = store.totals(), store.search("quagga")
    return (totals.messages, list(hits), contents(store, "s"), store.verify(deep=True)) == (
        0, [], [], [],
    )  # fmt: skip


def test_a_large_session_goes_at_once_and_off_the_disk_with_a_compaction(
    store: StoreUnderTest,
) -> None:
    fill(store)
    assert store.delete("s")
    assert not store.exists("s")
    assert is_unseen(store)
    assert traces(store, "quagga")  # or this shows nothing
    assert list(store.sessions(name="stri")) == []
    finish(store.compact(1_000))
    assert traces(store, "quagga", "Stripes") == set()
    assert is_unseen(store)


def test_clearing_a_large_session_keeps_what_describes_it(store: StoreUnderTest) -> None:
    fill(store)
    (before,) = store.sessions()
    assert store.clear("s") == COUNT
    (after,) = store.sessions(name="stri")
    assert _described(after) == _described(before)
    assert (after.message_count, is_unseen(store)) == (0, True)
    say(store, "s", "next")
    finish(store.compact(1_000))
    assert contents(store, "s") == ["next"]
    assert traces(store, "quagga") == set()


def _described(info: SessionInfo) -> dict[str, object]:
    return {**info.to_dict(), "message_count": None, "last_activity": None}


def test_what_is_said_in_the_group_that_deletes_has_its_order(store: StoreUnderTest) -> None:
    fill(store)
    more = tuple(ChatMessage.user(f"quagga {number}") for number in range(COUNT))
    operations = [
        requests.append("s", (ChatMessage.user("quagga"),), None),
        requests.delete("s"),
        requests.append("s", more, None),
        requests.clear("s"),
        requests.append("s", (ChatMessage.user("last"),), None),
    ]
    expected = [Outcome(1), Outcome(1), Outcome(COUNT), Outcome(COUNT), Outcome(1)]
    assert apply_all(store, operations) == expected
    assert contents(store, "s") == ["last"]
    assert found(store, "quagga") == set()
    assert apply_all(store, operations) == [Outcome(it.affected, duplicate=True) for it in expected]


def test_an_erasure_takes_what_was_deleted_before_it(store: StoreUnderTest) -> None:
    fill(store)
    store.delete("s")
    finish(store.erase(key="s"))
    assert traces(store, "quagga", "Stripes") == set()


def test_a_session_comes_back_whole_while_its_old_messages_are_still_there(
    store: StoreUnderTest, clock: Clock
) -> None:
    fill(store)
    said = tuple(store.load("s"))
    store.delete("s")
    taken = ImportSession(requests.clear("s").op_id, clock.now, "s", said, {}, clock.now, clock.now)
    assert apply_all(store, [taken]) == [Outcome(COUNT)]
    assert store.load("s") == list(said)
    finish(store.compact(1_000))
    assert store.load("s") == list(said)
    assert store.verify(deep=True) == []


def test_a_session_is_restored_though_a_copy_of_it_waits_to_be_deleted(
    store: StoreUnderTest, clock: Clock, archive: Archive
) -> None:
    say(store, "s", *(f"quagga {number}" for number in range(COUNT)))
    said = store.load("s")
    clock.advance(hours=2)
    finish(store.cleanup(1, archive=archive))
    bring_back(store, archive, "s")
    store.delete("s")
    assert keys(store) == set()
    assert bring_back(store, archive, "s").messages == COUNT
    assert store.load("s") == said
    finish(store.compact(1_000))
    assert store.load("s") == said


@pytest.mark.parametrize("how", ["delete", "clear"])
def test_a_group_writes_no_more_for_a_larger_session(url: str, clock: Clock, how: str) -> None:
    written = []
    with open_tested(url, clock=clock) as store:
        log = Path(url.removeprefix("sqlite://") + "-wal")
        for count in (2_000, 16_000):
            many = tuple(ChatMessage.user(f"quagga {number}") for number in range(1_000))
            for _ in range(count // len(many)):
                store.append("s", *many)
            finish(store.compact(1_000))  # which empties the log
            before = log.stat().st_size
            getattr(store, how)("s")
            written.append(log.stat().st_size - before)
    assert written[1] <= written[0] + 10 * 4_096
