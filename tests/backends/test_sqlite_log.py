"""The one hook that SQLite has after a commit: who watches the log, and the checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.sqlite.wal import CHECKPOINT_PAGES
from backscroll_worker.testing.stores import open_tested, say


def test_each_who_watches_hears_of_each_commit(tmp_path: Path) -> None:
    """Also when another begins or ends meanwhile, as an erasure does during a compaction."""
    first, second = list[int](), list[int]()
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        log, connection = store._log, store._connection
        with log.watched(first.append):
            say(store, "k", "one")
            with log.watched(second.append):
                say(store, "k", "two")
            with log.unbounded():
                say(store, "k", "three")
            say(store, "k", "four")
            assert connection.pragma("wal_autocheckpoint") == 0
        say(store, "k", "five")
    assert len(first) == 4
    assert first == sorted(first)
    assert second == first[1:2]


def test_commits_checkpoint_again_after_all_who_prevent_it(tmp_path: Path) -> None:
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        log, connection = store._log, store._connection
        with log.unbounded():
            with log.watched(lambda _frames: None), log.unbounded():
                pass
            assert connection.pragma("wal_autocheckpoint") == 0
        assert connection.pragma("wal_autocheckpoint") == CHECKPOINT_PAGES


@pytest.mark.parametrize("slices", [1, 5, 1_000])
def test_commits_checkpoint_again_after_a_compaction(tmp_path: Path, slices: int) -> None:
    """Also after one that was given up."""
    with open_tested(f"sqlite://{tmp_path / 'store.db'}") as store:
        say(store, "k", *("hay " * 500 for _ in range(100)))
        compaction = store.compact(168)
        for _, _ in zip(range(slices), compaction, strict=False):
            pass
        compaction.close()
        assert store._connection.pragma("wal_autocheckpoint") == CHECKPOINT_PAGES
        finish(store.compact(168))
