"""What deletions leave in the file: a compaction gives it back, and no slice of it lasts long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.pacing import Slices, T, finish
from backscroll_worker.stores.sqlite.maintenance import erasure
from backscroll_worker.testing.stores import (
    StoreUnderTest,
    apply_all,
    found,
    open_tested,
    requests,
    say,
)

SESSIONS: Final = 100
MESSAGES: Final = 20_000
LONGEST_SLICE_SECONDS: Final = 0.1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[StoreUnderTest]:
    with open_tested(f"sqlite://{path}") as store:
        yield store


def fill(store: StoreUnderTest) -> None:
    """Messages dealt out to sessions, so that those of one are on every page."""
    for start in range(0, MESSAGES, 2_000):
        apply_all(
            store,
            [
                requests.append(
                    f"k{number % SESSIONS}",
                    (ChatMessage.user(f"quagga {number} " + f"stripe{number % 997} " * 20),),
                    None,
                )
                for number in range(start, start + 2_000)
            ],
        )


def measured(store: StoreUnderTest, slices: Slices[T]) -> tuple[T, float]:
    """The end of the slices, and what the longest took of the processor; others write meanwhile."""
    longest = 0.0
    while True:
        started = time.thread_time()
        try:
            next(slices)
        except StopIteration as stop:
            return stop.value, longest
        longest = max(longest, time.thread_time() - started)
        say(store, "meanwhile", "hay")


def fresh_size(path: Path) -> int:
    """What the same rows take in a file that never held others."""
    copy = path.with_suffix(".fresh")
    connection = apsw.Connection(str(path))
    connection.execute("VACUUM INTO ?", (str(copy),))
    connection.close()
    return copy.stat().st_size


def test_after_half_the_messages_went_the_file_is_nearly_as_small_as_new(
    store: StoreUnderTest, path: Path
) -> None:
    fill(store)
    before = store.size_bytes()
    apply_all(store, [requests.delete(f"k{number}") for number in range(0, SESSIONS, 2)])
    report, longest = measured(store, store.compact(168))
    assert longest < LONGEST_SLICE_SECONDS
    assert report.bytes_after < 0.75 * before
    assert path.stat().st_size < 1.3 * fresh_size(path)
    assert len(store.load("k1")) == MESSAGES // SESSIONS
    assert store.load("k2") == []
    left = [number for number in range(1, MESSAGES, 997) if number % SESSIONS % 2]
    assert len(found(store, "stripe1")) == len(left)
    assert store.verify(deep=True) == []


def test_an_edited_message_keeps_its_versions_when_its_page_is_packed(path: Path) -> None:
    with open_tested(f"sqlite://{path}", keep_edits=True) as store:
        fill(store)
        message_id = store.load("k1", 1)[0].message_id
        store.replace("k1", ChatMessage.user("horse"), message_id)
        apply_all(store, [requests.delete(f"k{number}") for number in range(0, SESSIONS, 2)])
        finish(store.compact(168))
        (message,) = store.load("k1", 1, include_edits=True)
    assert message.content == "horse"
    assert [edit.content[:7] for edit in message.edits] == ["quagga "]


def test_an_erasure_makes_nobody_wait_for_long(store: StoreUnderTest, path: Path) -> None:
    fill(store)
    apply_all(store, [requests.describe(f"k{number}", {"sender": "zebra"}) for number in range(50)])
    receipt, longest = measured(store, store.erase(sender="zebra"))
    assert receipt.messages == MESSAGES // 2
    assert longest < LONGEST_SLICE_SECONDS
    assert len(store.load("meanwhile")) > 5
    assert store.verify() == []


def test_a_reader_that_keeps_the_log_is_reported_and_compaction_finishes(
    store: StoreUnderTest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasure, "PATIENCE_SECONDS", 0.1)
    say(store, "z", "quagga")
    reader = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM messages").fetchall()
    say(store, "other", "hay")
    receipt = finish(store.erase(key="z"))
    assert receipt.log_is_held
    assert store.load("z") == []
    files = [path, path.with_name(f"{path.name}-wal")]
    assert any(b"quagga" in file.read_bytes() for file in files)
    reader.close()
    finish(store.compact(168))
    assert not any(b"quagga" in file.read_bytes() for file in files)
