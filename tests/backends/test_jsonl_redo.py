"""Redoing a journal onto files as a power cut, or an edit by hand, has left them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backscroll_worker.testing.stores import Clock, StoreUnderTest, contents, keys, open_tested, say

JOURNAL = ".journal.1"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def crashed(directory: Path, clock: Clock) -> Iterator[StoreUnderTest]:
    """A store with `s`, more of it in its journal, as after a crash."""
    with open_tested(f"jsonl://{directory}", clock=clock) as before:
        say(before, "s", "a", "b")
    store = open_tested(f"jsonl://{directory}", clock=clock)
    say(store, "s", "c", "d")
    yield store
    store.close()


@pytest.mark.parametrize("left", [b"", b"\0" * 30, b"\0" * 5_000])
def test_a_file_cut_short_or_zeroed_gets_its_lines_and_its_time_back(
    directory: Path, crashed: StoreUnderTest, left: bytes
) -> None:
    path = directory / "s.jsonl"
    content, mtime_ns = path.read_bytes(), path.stat().st_mtime_ns
    two = b"".join(content.splitlines(keepends=True)[:2])
    path.write_bytes((two + left)[: len(content)])
    with open_tested(f"jsonl://{directory}"):
        assert (path.read_bytes(), path.stat().st_mtime_ns) == (content, mtime_ns)


def test_a_session_removed_by_hand_stays_removed_and_is_logged(
    directory: Path, crashed: StoreUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    (directory / "s.jsonl").unlink()
    with open_tested(f"jsonl://{directory}") as store:
        assert keys(store) == set()
    assert "removed by hand" in caplog.text


def test_lines_added_by_hand_stay(directory: Path, crashed: StoreUnderTest) -> None:
    with (directory / "s.jsonl").open("a") as file:
        file.write('{"role":"user","content":"by hand"}\n')
    with open_tested(f"jsonl://{directory}") as store:
        assert contents(store, "s") == ["a", "b", "c", "d", "by hand"]


@pytest.mark.parametrize("kept", [[], [0], [1], [0, 2], [1, 3], [3, 2, 1, 0]], ids=str)
def test_a_file_edited_by_hand_keeps_its_lines_and_gets_those_it_lacks(
    directory: Path, crashed: StoreUnderTest, kept: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    path = directory / "s.jsonl"
    raw = path.read_bytes().splitlines(keepends=True)
    by_hand = b'{"role":"user","content":"by hand"}'
    path.write_bytes(b"".join(raw[number] for number in kept) + by_hand)
    with open_tested(f"jsonl://{directory}") as store:
        edited = [*("abcd"[number] for number in kept), "by hand"]
        missing = [text for text in "cd" if text not in edited]
        assert contents(store, "s") == edited + missing
        assert store.verify() == []
    assert "changed by hand" in caplog.text
    assert path.read_bytes().startswith(b"".join(raw[number] for number in kept) + by_hand)


def test_what_was_rolled_back_does_not_come_back_into_a_newer_file(
    directory: Path, crashed: StoreUnderTest
) -> None:
    """As in a copy that was made while the store was written to: a file newer than the journal."""
    old_journal = (directory / JOURNAL).read_bytes()
    crashed.remove_last("s")
    crashed.close()
    (directory / JOURNAL).write_bytes(old_journal)
    with open_tested(f"jsonl://{directory}") as store:
        assert contents(store, "s") == ["a", "b", "c"]


@pytest.mark.parametrize("act", ["remove_last", "delete", "clear"])
def test_a_file_edited_before_its_replacement_is_redone_is_kept_aside(
    directory: Path, crashed: StoreUnderTest, act: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = directory / "s.jsonl"
    getattr(crashed, act)("s")
    path.write_text('{"role":"user","content":"by hand"}\n')
    with open_tested(f"jsonl://{directory}") as store:
        left = {"remove_last": ["a", "b", "c"], "delete": [], "clear": []}
        assert contents(store, "s") == left[act]
        (finding,) = store.verify()
        assert finding.where == "s.jsonl.edited"
    assert "by hand" in (directory / finding.where).read_text()
    assert "kept as" in caplog.text


@pytest.mark.parametrize("act", ["remove_last", "delete", "clear"])
def test_the_old_file_is_not_taken_for_an_edited_one(
    directory: Path, crashed: StoreUnderTest, act: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = directory / "s.jsonl"
    old, time = path.read_bytes(), path.stat().st_mtime_ns
    getattr(crashed, act)("s")
    path.write_bytes(old)  # as if the rename had not got to the disk
    os.utime(path, ns=(time, time))
    with open_tested(f"jsonl://{directory}") as store:
        left = {"remove_last": ["a", "b", "c"], "delete": [], "clear": []}
        assert contents(store, "s") == left[act]
        assert store.verify() == []
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_longer_old_file_that_is_torn_is_not_taken_for_its_replacement(
    directory: Path, clock: Clock
) -> None:
    """The rename was lost, and of the old file what was written first."""
    path = directory / "s.jsonl"
    crashed = open_tested(f"jsonl://{directory}", clock=clock)
    say(crashed, "s", *(letter * 100 for letter in "abcdefgh"))
    old = path.read_bytes()
    crashed.clear("s")
    new, journal = path.read_bytes(), (directory / JOURNAL).read_bytes()
    assert len(new) < len(old)
    crashed.close()
    for lost in (len(new), len(new) + 10, len(new) // 2, len(old)):
        path.write_bytes(bytes(lost) + old[lost:])
        (directory / JOURNAL).write_bytes(journal)
        with open_tested(f"jsonl://{directory}", clock=clock) as store:
            assert contents(store, "s") == []
            assert store.verify() == []
