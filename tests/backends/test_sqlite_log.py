"""The log: who watches it, and how it is put into the database."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from backscroll.contract.errors import StoreUnavailableError
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.sqlite import wal
from backscroll_worker.stores.sqlite.wal import waiting_frames
from backscroll_worker.testing.stores import StoreUnderTest, open_tested, say


def test_each_who_watches_hears_of_each_commit(tmp_path: Path) -> None:
    """Also when another begins or ends meanwhile, as an erasure does during a compaction."""
    first, second = list[int](), list[int]()
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        log = store._log
        with log.watched(first.append):
            say(store, "k", "one")
            with log.watched(second.append):
                say(store, "k", "two")
            with log.unbounded():
                say(store, "k", "three")
            say(store, "k", "four")
        say(store, "k", "five")
    assert len(first) == 4
    assert first == sorted(first)
    assert second == first[1:2]


@pytest.fixture
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any log is long."""
    monkeypatch.setattr(wal, "CHECKPOINT_PAGES", 1)


def waiting(store: StoreUnderTest) -> int:
    """How many pages are not in the database after another commit, and what follows it."""
    store._log._beside.wait()
    say(store, "k", "more")
    store._log._beside.wait()
    return waiting_frames(store._connection)


@pytest.mark.usefixtures("_short")
def test_a_long_log_is_put_into_the_database_unless_somebody_prevents_it(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        log = store._log
        assert waiting(store) == 0
        with log.unbounded():
            with log.watched(lambda _frames: None), log.unbounded():
                assert waiting(store) > 0
            assert waiting(store) > 0
        assert waiting(store) == 0
        with log.watched(lambda _frames: None):
            assert waiting(store) > 0
        assert waiting(store) == 0


@pytest.mark.usefixtures("_short")
@pytest.mark.parametrize("slices", [1, 5, 1_000])
def test_the_log_is_put_into_the_database_again_after_a_compaction(
    tmp_path: Path, slices: int
) -> None:
    """Also after one that was given up."""
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        say(store, "k", *("hay " * 500 for _ in range(100)))
        compaction = store.compact(168)
        for _, _ in zip(range(slices), compaction, strict=False):
            pass
        compaction.close()
        assert waiting(store) == 0
        finish(store.compact(168))


@pytest.mark.usefixtures("_short")
def test_whenever_a_store_is_closed_all_is_in_it(tmp_path: Path) -> None:
    """While the thread begins, works, or has just ended."""
    url, said = f"sqlite://{tmp_path / 'store.db'}", list[str]()
    for number in range(20):
        with open_tested(url) as store:
            said += [f"{number} {index} " + "hay " * 2_000 for index in range(number)]
            say(store, "k", *said[len(said) - number :])
            time.sleep(number / 10_000)
        assert not (tmp_path / "store.db-wal").exists()
        with open_tested(url) as store:
            assert [message.content for message in store.load("k")] == said


@pytest.mark.usefixtures("_short")
def test_a_log_is_bounded_even_where_no_thread_can_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(wal, "_LONGEST_BYTES", 100_000)
    monkeypatch.setattr(wal, "_TRY_AGAIN_BYTES", 0)
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        monkeypatch.setattr(threading.Thread, "start", fail)
        for _ in range(20):
            say(store, "k", "hay " * 5_000)
            assert (tmp_path / "store.db-wal").stat().st_size < 200_000


@pytest.mark.usefixtures("_short")
def test_the_thread_leaves_a_database_alone_that_takes_the_place_of_its_own(tmp_path: Path) -> None:
    path, other = tmp_path / "store.db", tmp_path / "other.db"
    with open_tested(f"sqlite://{other}") as store:
        say(store, "k", "another")
    before = other.read_bytes()
    with open_tested(f"sqlite://{path}") as store:
        assert waiting(store) == 0  # which opens its connection
        with store._log.unbounded():
            say(store, "k", "not in the database yet")
        other.replace(path)
        store._log._beside.begin()
        store._log._beside.wait()
        with pytest.raises(StoreUnavailableError):
            say(store, "k", "nor this")
    assert path.read_bytes() == before
