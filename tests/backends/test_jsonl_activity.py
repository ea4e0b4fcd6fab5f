"""The last activity of a session is recorded by the store, whatever sets its file's time."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage, to_micros
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.jsonl import writer
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import HOUR, Clock, StoreUnderTest, keys, open_tested, say
from tests.backends.jsonl_files import write_as_the_original

DAY = 24 * HOUR


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


def touch(path: Path, micros: int) -> None:
    os.utime(path, ns=(micros * 1000, micros * 1000))


def activity(store: StoreUnderTest, key: str) -> int:
    info = store.session(key)
    assert info is not None
    return to_micros(info.last_activity)


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("offset", [-10_000 * DAY, 10_000 * DAY, -30 * DAY])
def test_a_touched_file_is_neither_older_nor_younger(
    open_store: Open, directory: Path, clock: Clock, offset: int, is_restarted: bool
) -> None:
    store = open_store()
    say(store, "s", "x")
    if is_restarted:
        store.close()
    touch(directory / "s.jsonl", clock.now + offset)
    if is_restarted:
        store = open_store()
    assert activity(store, "s") == clock.now
    assert finish(store.cleanup(1)).sessions == 0
    clock.advance(hours=1.1)
    touch(directory / "s.jsonl", clock.now)
    assert finish(store.cleanup(1)).sessions == 1


def test_a_copy_with_new_times_changes_no_activity(
    open_store: Open, directory: Path, tmp_path: Path, clock: Clock
) -> None:
    store = open_store()
    for key in ("old", "young"):
        say(store, key, "x")
        clock.advance(hours=2)
    store.close()
    shutil.copytree(directory, tmp_path / "copy", copy_function=shutil.copy)
    with open_tested(f"jsonl://{tmp_path / 'copy'}", clock=clock) as copy:
        assert finish(copy.cleanup(3)).sessions == 1
        assert keys(copy) == {"young"}


def test_a_killed_writer_loses_no_last_activity(
    open_store: Open, directory: Path, clock: Clock
) -> None:
    store = open_store()
    say(store, "s", "x")
    clock.advance(hours=2)
    say(store, "t", "x")
    store._writer.shut_down()
    for name in ("s.jsonl", "t.jsonl"):
        touch(directory / name, clock.now - 300 * DAY)
    store = open_store()
    assert activity(store, "t") == clock.now
    assert activity(store, "s") == clock.now - 2 * HOUR


def test_a_line_added_by_hand_makes_a_session_active_and_never_older(
    open_store: Open, directory: Path, clock: Clock
) -> None:
    store = open_store()
    say(store, "s", "x")
    path, wrote = directory / "s.jsonl", clock.now
    for offset, expected in ((-DAY, wrote), (HOUR, wrote + HOUR), (9_000 * DAY, wrote + 2 * HOUR)):
        with path.open("a") as file:
            file.write('{"role":"user","content":"by hand"}\n')
        touch(path, wrote + offset)
        clock.now = wrote + 2 * HOUR
        assert activity(store, "s") == expected
    clock.advance(hours=1)
    touch(path, clock.now)
    assert activity(store, "s") == wrote + 2 * HOUR


def test_a_store_without_a_record_takes_the_files_times_once(
    open_store: Open, directory: Path, clock: Clock
) -> None:
    directory.mkdir()
    write_as_the_original(directory / "old.jsonl", "x")
    write_as_the_original(directory / "future.jsonl", "x")
    touch(directory / "old.jsonl", clock.now - 2 * HOUR)
    touch(directory / "future.jsonl", clock.now + 9_000 * DAY)
    store = open_store()
    touch(directory / "old.jsonl", clock.now)
    assert activity(store, "old") == clock.now - 2 * HOUR
    assert activity(store, "future") == clock.now
    store.close()
    touch(directory / "future.jsonl", clock.now + 9_000 * DAY)
    clock.advance(hours=3)
    store = open_store()
    assert finish(store.cleanup(2)).sessions == 2


def test_a_damaged_record_loses_only_the_damaged_lines(
    open_store: Open, directory: Path, clock: Clock
) -> None:
    store = open_store()
    for key in ("s", "t"):
        say(store, key, "x")
    store.close()
    record = directory / ".activity"
    record.write_bytes(record.read_bytes()[:-3] + b"\n\xff\0 1 2\n")
    store = open_store()
    assert activity(store, "s") == activity(store, "t") == clock.now
    say(store, "s", "more")
    store.close()
    assert activity(open_store(), "s") == clock.now


def test_an_append_writes_and_syncs_only_its_own_file(
    open_store: Open, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store()
    say(store, "s", "x")
    assert not (directory / ".activity").exists()
    monkeypatch.setattr(writer, "JOURNAL_BYTES", 10_000)
    for _ in range(50):
        store.append("s", ChatMessage.user("x" * 1_000))
    store.close()
    assert len((directory / ".activity").read_bytes()) < 3_000


def test_the_record_stays_small_and_forgets_removed_sessions(
    open_store: Open, directory: Path, clock: Clock
) -> None:
    for _ in range(4):
        store = open_store()
        for number in range(400):
            say(store, f"s{number}", "x")
        store.close()
    assert (directory / ".activity").stat().st_size < 100_000
    store = open_store()
    clock.advance(hours=2)
    assert finish(store.cleanup(1)).sessions == 400
    store.close()
    assert store.size_bytes() < 150_000
