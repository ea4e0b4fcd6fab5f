"""The journal: what it protects from, what ends it, and files changed by other programs."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll.contract.results import Outcome
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.jsonl import journal, writer
from backscroll_worker.stores.jsonl.file_names import SessionNames
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.interruptions import failing, killed_at
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    keys,
    open_tested,
    requests,
    say,
)
from tests.backends.jsonl_files import names

JOURNAL = ".journal.1"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


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


def seen_after_a_kill(directory: Path, *keys: str) -> list[list[str]]:
    """The contents of these sessions if the process were killed now."""
    copy = directory.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    with open_tested(f"jsonl://{copy}") as store:
        return [contents(store, key) for key in keys]


def add_to(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def fail_for(monkeypatch: pytest.MonkeyPatch, call: str, name: str) -> None:
    """Make a call on a descriptor of this file fail."""

    def fail(descriptor: int, *args: Any) -> Any:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, *args)

    real = getattr(os, call)
    monkeypatch.setattr(os, call, fail)


def append(key: str, *texts: str) -> Operation:
    return requests.append(key, tuple(ChatMessage.user(text) for text in texts), None)


def test_a_store_that_was_closed_has_no_journal(directory: Path, open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a")
        assert JOURNAL in names(directory)
    assert names(directory) == {"s.jsonl", "s.meta.json"}


def test_a_store_that_is_only_read_has_no_journal(directory: Path, open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a")
    with open_store() as store:
        assert contents(store, "s") == ["a"]
        assert store.verify() == []
        assert JOURNAL not in names(directory)


def test_only_its_owner_may_read_the_journal(directory: Path, store: StoreUnderTest) -> None:
    say(store, "s", "a")
    assert stat.S_IMODE((directory / JOURNAL).stat().st_mode) == 0o600


def test_a_reader_ignores_the_journal(directory: Path, store: StoreUnderTest) -> None:
    say(store, "s", "a")
    (directory / "s.jsonl").write_bytes(b"")  # as a power cut may leave it
    with open_tested(f"jsonl://{directory}", read_only=True) as reader:
        assert keys(reader) == {"s"}
        assert contents(reader, "s") == []
        assert reader.verify() == []
    assert JOURNAL in names(directory)


@pytest.mark.parametrize("kind", ["cleanup", "compact"])
def test_removed_text_is_not_in_the_journal_after_maintenance(
    directory: Path, store: StoreUnderTest, kind: str
) -> None:
    say(store, "s", "secret", "secret")
    say(store, "t", "secret", "public")
    store.delete("s")
    store.remove("t", store.load("t")[0].message_id or "")
    finish(store.cleanup(1) if kind == "cleanup" else store.compact(1))
    assert names(directory) == {"s.gone.json", "t.jsonl", "t.meta.json"}
    assert not any(b"secret" in path.read_bytes() for path in directory.iterdir())


def test_appends_go_on_while_a_full_journal_is_emptied(
    directory: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "JOURNAL_BYTES", 20_000)
    monkeypatch.setattr(writer, "FILES_PER_STEP", 4)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    all_keys = [f"s{number}" for number in range(100)]
    journals, most_at_once = set[str](), 0
    with open_store() as store:
        apply_all(store, [append(key, "first") for key in all_keys])
        for number in range(400):
            before = len(synced)
            apply_all(store, [append(all_keys[number % 100], "x" * 200)])
            most_at_once = max(most_at_once, len(synced) - before)
            there = {name for name in names(directory) if name.startswith(".journal")}
            assert 1 <= len(there) <= 2
            journals |= there
    assert len(journals) > 5
    assert most_at_once <= 16  # of 200 files: in proportion to what was added


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content + b"\0" * 100,
        lambda content: content + content[39:],
        lambda content: content + os.urandom(100),
        lambda content: content + content[39:200],
    ],
    ids=["zeros", "its own frames again", "noise", "half a frame"],
)
def test_bytes_after_the_last_complete_frame_are_ignored(
    directory: Path, crashed: StoreUnderTest, damage: Callable[[bytes], bytes]
) -> None:
    journal, path = directory / JOURNAL, directory / "s.jsonl"
    before = path.read_bytes()
    journal.write_bytes(damage(journal.read_bytes()))
    with open_tested(f"jsonl://{directory}") as store:
        assert contents(store, "s") == ["a", "b", "c", "d"]
    assert path.read_bytes() == before
    assert names(directory) == {"s.jsonl", "s.meta.json"}


@pytest.mark.parametrize("cut", [0, 1, 20, 38, 39, 60, 120, 300])
def test_a_frame_that_is_torn_is_not_redone(
    directory: Path, crashed: StoreUnderTest, cut: int
) -> None:
    journal, path = directory / JOURNAL, directory / "s.jsonl"
    two = len(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    journal.write_bytes(journal.read_bytes()[:cut])
    os.truncate(path, two)
    with open_tested(f"jsonl://{directory}") as store:
        assert contents(store, "s") == ["a", "b"] + ["c"] * (cut >= 300)


def test_a_byte_that_changed_ends_the_journal(directory: Path, crashed: StoreUnderTest) -> None:
    journal, path = directory / JOURNAL, directory / "s.jsonl"
    two = len(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    content = journal.read_bytes()
    os.truncate(path, two)
    for place in range(len(content) - 10, 38, -37):
        changed = bytearray(content)
        changed[place] ^= 1
        journal.write_bytes(changed)
        with open_tested(f"jsonl://{directory}") as store:
            assert contents(store, "s") in (["a", "b"], ["a", "b", "c"])
        os.truncate(path, two)


def test_a_frame_of_an_old_journal_is_not_valid_in_a_new_one(
    directory: Path, crashed: StoreUnderTest
) -> None:
    journal, path = directory / JOURNAL, directory / "s.jsonl"
    content = journal.read_bytes()
    other = content.replace(content[21:37], b"0123456789abcdef", 1)
    assert zlib.crc32(other[:38]) != zlib.crc32(content[:38])
    journal.write_bytes(other)
    path.write_bytes(b"")
    with open_tested(f"jsonl://{directory}") as store:
        assert contents(store, "s") == []


def test_a_journal_of_a_newer_version_is_refused_and_kept(
    directory: Path, crashed: StoreUnderTest
) -> None:
    path = directory / JOURNAL
    path.write_bytes(path.read_bytes().replace(b"journal 2", b"journal 3", 1))
    with pytest.raises(StoreUnusableError, match="newer"):
        open_tested(f"jsonl://{directory}")
    assert path.exists()


def test_a_journal_of_version_1_is_redone(
    directory: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(journal, "_VERSION", 1)
        earlier.setattr(StoreClock, "must_save", False)  # its journal has no history of the clock
        store = open_tested(f"jsonl://{directory}", clock=clock)
        say(store, "s", "a", "b")
    assert (directory / JOURNAL).read_bytes().startswith(b"backscroll journal 1 ")
    (directory / SessionNames.of("s").messages).write_bytes(b"")  # as after a power cut
    assert seen_after_a_kill(directory, "s") == [["a", "b"]]
    store.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_group_that_failed_is_not_in_the_journal(
    directory: Path, open_store: Open, clock: Clock, error: int
) -> None:
    """The next writer must not find what was reported to the caller as failed."""
    failed = append("s", "failed")
    for step in range(6):  # the frame, its sync, the file: after that there is nothing to fail
        store = open_store()
        apply_all(store, [append("s", "before")])
        before = contents(store, "s")
        with suppress(StoreUnavailableError), failing(step, error):
            store.apply([failed])
            assert step >= 4
        is_stored = step >= 4
        expected = before + ["failed"] * is_stored
        assert seen_after_a_kill(directory, "s") == [expected]
        assert contents(store, "s") == expected
        with open_tested(f"jsonl://{directory}", clock=clock) as next_one:
            assert contents(next_one, "s") == expected
        assert apply_all(open_store(), [failed]) == [Outcome(1, duplicate=is_stored)]
        store = open_store()
        store.delete("s")
        failed = append("s", "failed")


def test_changes_that_cannot_be_undone_are_completed(
    directory: Path, store: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(store, [append("s", "before"), append("t", "before")])
    group = [append("s", "more"), append("t", "more")]

    fail_for(monkeypatch, "write", "t.jsonl")
    fail_for(monkeypatch, "ftruncate", "s.jsonl")
    with pytest.raises(StoreUnavailableError):
        store.apply(group)
    monkeypatch.undo()
    assert seen_after_a_kill(directory, "s", "t") == [["before", "more"]] * 2
    assert apply_all(store, group) == [Outcome(1, duplicate=True)] * 2
    assert contents(store, "s") == contents(store, "t") == ["before", "more"]


def test_a_frame_that_could_not_be_undone_at_once_is_undone_later(
    store: StoreUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_all(store, [append("s", "before")])
    failed = append("s", "failed")
    fail_for(monkeypatch, "fdatasync", JOURNAL)
    fail_for(monkeypatch, "ftruncate", JOURNAL)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError):
            store.apply([failed])
    monkeypatch.undo()
    assert contents(store, "s") == ["before"]
    assert apply_all(store, [failed]) == [Outcome(1)]


def test_a_kill_while_a_group_is_undone_leaves_all_of_it_or_nothing(
    directory: Path, clock: Clock
) -> None:
    group = [append(key, f"{key}1", f"{key}2") for key in "stu"]
    seen = set()
    for step in range(40):
        place = directory / str(step)
        with open_tested(f"jsonl://{place}", clock=clock) as store:
            apply_all(store, [append(key, "before") for key in "stu"])

        def act(place: Path = place, step: int = step) -> None:
            store = open_tested(f"jsonl://{place}", clock=clock)
            with suppress(StoreUnavailableError), failing(6):  # when the second file is written
                store.apply(group)

        if not killed_at(step, act):
            break
        with open_tested(f"jsonl://{place}", clock=clock) as store:
            now = tuple(len(contents(store, key)) for key in "stu")
            assert now in ((1, 1, 1), (3, 3, 3))
            seen.add(now)
    assert step > 8
    assert seen == {(1, 1, 1), (3, 3, 3)}


def test_the_caller_can_work_while_the_journal_is_synced(
    directory: Path, store: StoreUnderTest
) -> None:
    seen: list[bool] = []
    apply_all(store, [append("s", "a")])
    store.apply(
        [append("s", "needle")],
        prepare_next=lambda: seen.append(b"needle" in (directory / JOURNAL).read_bytes()),
    )
    assert seen == [True]
    assert contents(store, "s") == ["a", "needle"]


def test_what_the_caller_does_during_the_sync_may_fail(
    directory: Path, store: StoreUnderTest
) -> None:
    def fail() -> None:
        raise ValueError("meanwhile")

    apply_all(store, [append("s", "a")])
    group = [append("s", "b"), append("t", "c")]
    with pytest.raises(ValueError, match="meanwhile"):
        store.apply(group, prepare_next=fail)
    assert seen_after_a_kill(directory, "s", "t") == [["a"], []]
    assert apply_all(store, group) == [Outcome(1), Outcome(1)]


def test_a_line_that_another_program_adds_during_a_commit_is_seen(
    directory: Path, store: StoreUnderTest
) -> None:
    apply_all(store, [append("s", "a")])
    line = b'{"role":"user","content":"theirs"}\n'
    store.apply([append("s", "b")], prepare_next=lambda: add_to(directory / "s.jsonl", line))
    assert contents(store, "s") == ["a", "theirs", "b"]
    apply_all(store, [append("s", "c")])
    info = store.session("s")
    assert info is not None
    assert info.message_count == 4
    assert seen_after_a_kill(directory, "s") == [["a", "theirs", "b", "c"]]


def test_a_journal_that_another_process_wrote_to_is_noticed(
    directory: Path, store: StoreUnderTest
) -> None:
    say(store, "s", "a")
    add_to(directory / JOURNAL, b"?")
    with pytest.raises(StoreUnavailableError, match="another process"):
        say(store, "s", "b")
    say(store, "s", "c")
    assert contents(store, "s") == ["a", "c"]


def test_a_second_writer_is_noticed_before_anything_is_acknowledged(
    directory: Path, store: StoreUnderTest
) -> None:
    say(store, "s", "a")
    with open_tested(f"jsonl://{directory}") as other:
        say(other, "s", "b")
        with pytest.raises(StoreUnavailableError, match="another process"):
            say(store, "s", "c")
    say(store, "s", "d")
    assert contents(store, "s") == ["a", "b", "d"]
