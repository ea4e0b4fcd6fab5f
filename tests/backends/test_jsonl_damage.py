"""JSONL files that are damaged, torn, foreign, or cannot be written."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backscroll.contract.errors import OperationRefusedError, StoreUnavailableError
from backscroll.contract.messages import ChatMessage
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import finish
from backscroll_worker.contract.retention import Retention, Rule
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    contents,
    keys,
    requests,
    say,
)
from tests.backends.jsonl_files import as_the_original_reads, names, write_as_the_original


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


CORRUPT = (
    b"this is not JSON",
    b'{"role":"user"}',
    b'{"role":"user","content":"cut of',
    b'["role","content"]',
    b"null",
    b"{}",
    b'{"from":"user","text":"x"}',
    b'{"role":null,"content":null}',
    b'{"role":"user","content":"x","extra":' + b'{"a":' * 300 + b"1" + b"}" * 302,
    b"\xff\xfe",
    b"\x00\x00\x00\x00",
    b'{"applied":1}',
    b'{"applied":[["a"]]}',
    b'{"role":"user","content":"x","message_id":"m-1","part":[1,3]}',
    b'{"role":"user","content":"x","message_id":"m","part":[0,3]}',
)


@pytest.mark.parametrize("corrupt", CORRUPT, ids=str)
def test_corrupt_lines_are_skipped_reported_and_dropped_by_compaction(
    directory: Path, open_store: Open, corrupt: bytes
) -> None:
    good = [b'{"role":"user","content":"hello"}', b'{"role":"assistant","content":"world"}']
    path = directory / "s.jsonl"
    path.write_bytes(good[0] + b"\n" + corrupt + b"\n\n" + good[1] + b"\n")
    with open_store() as store:
        before = store.load("s")
        assert [message.content for message in before] == ["hello", "world"]
        (finding,) = store.verify()
        assert finding.where == "s.jsonl:2"
        assert finding.advice
        report = finish(store.compact(168))
        assert report.corrupt_lines == 1
        assert store.load("s") == before
        assert store.verify() == []
        assert finish(store.compact(168)).corrupt_lines == 0
    assert path.read_bytes().count(b"\n") == 2
    assert as_the_original_reads(path) == [("user", "hello"), ("assistant", "world")]


def test_reading_and_appending_leave_corrupt_lines_alone(directory: Path, open_store: Open) -> None:
    path = directory / "s.jsonl"
    path.write_bytes(b"corrupt\n")
    with open_store() as store:
        assert store.load("s") == []
        say(store, "s", "a")
    assert path.read_bytes().startswith(b"corrupt\n")


def test_compaction_keeps_good_lines_byte_for_byte_and_the_files_time(
    directory: Path, store: StoreUnderTest
) -> None:
    store.append("s", ChatMessage.user("a", n=1), ChatMessage.user("b"))
    path = directory / "s.jsonl"
    good, time = path.read_bytes(), path.stat().st_mtime_ns
    with path.open("ab") as file:
        file.write(b"corrupt\n")
    os.utime(path, ns=(time, time))
    assert finish(store.compact(168)).corrupt_lines == 1
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (good, time)


def test_compaction_leaves_a_sound_file_alone(directory: Path, store: StoreUnderTest) -> None:
    store.append("s", ChatMessage.user("a"), ChatMessage.user("b"))
    before = (directory / "s.jsonl").stat()
    finish(store.compact(168))
    after = (directory / "s.jsonl").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_blank_lines_and_windows_line_ends_are_not_corruption(
    directory: Path, open_store: Open
) -> None:
    (directory / "s.jsonl").write_bytes(
        b'\n  \n{"role":"user","content":"a"}\r\n\r\n{"role":"user","content":"b"}'
    )
    store = open_store()
    assert contents(store, "s") == ["a", "b"]
    assert store.verify() == []


def test_a_last_line_without_a_line_feed_is_not_joined_to_the_next(
    directory: Path, open_store: Open
) -> None:
    (directory / "s.jsonl").write_text('{"role":"user","content":"a"}')
    with open_store() as store:
        assert contents(store, "s") == ["a"]
        say(store, "s", "b")
    assert contents(open_store(), "s") == ["a", "b"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_an_append_torn_at_any_byte_is_there_whole_or_not_at_all(
    directory: Path, open_store: Open, count: int
) -> None:
    first = requests.append("s", (ChatMessage.user("first"),), None)
    torn = requests.append("s", tuple(ChatMessage.user(f"t{n}é") for n in range(count)), None)
    later = requests.append("s", (ChatMessage.user("later"), ChatMessage.user("latest")), None)
    with open_store() as store:
        apply_all(store, [first])
        start = (directory / "s.jsonl").stat().st_size
        apply_all(store, [torn])
    content = (directory / "s.jsonl").read_bytes()
    whole = [f"t{n}é" for n in range(count)]
    for cut in range(start, len(content) + 1):
        (directory / "s.jsonl").write_bytes(content[:cut])
        with open_store() as store:
            seen = contents(store, "s")
            assert seen in (["first"], ["first", *whole])
            info = store.session("s")
            assert info is not None
            assert info.message_count == len(seen)
            apply_all(store, [later])
            assert contents(store, "s") == [*seen, "later", "latest"]
            apply_all(store, [torn, later, first])
            assert sorted(contents(store, "s")) == sorted(["first", *whole, "later", "latest"])
            finish(store.compact(168))
            assert store.verify() == []
            assert sorted(contents(store, "s")) == sorted(["first", *whole, "later", "latest"])


@pytest.mark.parametrize("name", ["my notes.jsonl", "%zz.jsonl", "a%2f.jsonl", "x%~12.jsonl"])
def test_a_file_without_a_sessions_name_is_reported_and_left_alone(
    directory: Path, open_store: Open, name: str
) -> None:
    write_as_the_original(directory / name, "not ours")
    store = open_store()
    assert keys(store) == set()
    assert [finding.where for finding in store.verify()] == [name]
    finish(store.cleanup(0))
    finish(store.compact(0))
    assert names(directory) == {name}


def test_other_files_in_the_folder_are_left_alone(directory: Path, open_store: Open) -> None:
    for name in ("notes.txt", "old.jsonl.migrated", "x.json"):
        (directory / name).write_text("x")
    store = open_store()
    assert keys(store) == set()
    assert store.verify() == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_damaged_sidecar_loses_the_attributes_not_the_messages(
    directory: Path, open_store: Open, damage: bytes
) -> None:
    with open_store() as store:
        say(store, "s", "a")
        store.describe("s", name="Chat")
    (directory / "s.meta.json").write_bytes(damage)
    store = open_store()
    assert contents(store, "s") == ["a"]
    (finding,) = store.verify()
    assert finding.where == "s.meta.json"
    say(store, "s", "b")
    store.describe("s", name="Again")
    assert store.verify() == []
    assert contents(store, "s") == ["a", "b"]


def test_invalid_times_count_as_missing(directory: Path, open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "needle")
    (directory / "s.meta.json").write_bytes(
        b'{"version":1,"key":"s","name":"Chat","created_at":999999999999999999,'
        b'"turn_started_at":999999999999999999}'
    )
    store = open_store()
    (info,) = store.sessions().sessions
    assert (info.name, info.turn_started_at) == ("Chat", None)
    assert info.created_at == info.last_activity
    assert [hit.key for hit in store.search("needle")] == ["s"]
    assert finish(store.cleanup(1)).sessions == 0


@pytest.mark.parametrize("with_archive", [True, False])
def test_cleanup_skips_a_session_with_an_unreadable_sidecar(
    directory: Path,
    store: StoreUnderTest,
    clock: Clock,
    archive: Archive,
    with_archive: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for key in ("pinned", "old"):
        say(store, key, *"abcd")
    store.describe("pinned", pinned=True)
    sidecar = directory / "pinned.meta.json"
    sidecar.write_bytes(sidecar.read_bytes()[:-9])
    clock.advance(hours=2)
    capped = Retention(Rule("default", None, 2))
    for retention in (1, capped):
        finish(store.cleanup(retention, archive=archive if with_archive else None))
        assert contents(store, "pinned") == list("abcd")
        assert keys(store) == {"pinned"}
    assert "skipped 1 sessions" in caplog.text


@pytest.mark.parametrize(
    ("hours", "is_obeyed"),
    [("1", True), ("0.5", True), ("0", False), ("-1", False), ("true", False), ('"1"', False),
     ("1e400", False), ("null", False)],
)  # fmt: skip
def test_a_ttl_that_another_program_wrote_into_a_sidecar_counts_if_it_is_one(
    directory: Path, store: StoreUnderTest, clock: Clock, hours: str, is_obeyed: bool
) -> None:
    say(store, "s", "a")
    store.describe("s", name="n")
    finish(store.cleanup(1_000))
    sidecar = directory / "s.meta.json"
    content = sidecar.read_text()
    sidecar.write_text(content.replace("{", f'{{"ttl_hours":{hours},', 1))
    clock.advance(hours=2)
    assert finish(store.cleanup(1_000)).keys == (("s",) if is_obeyed else ())
    if not is_obeyed:
        info = store.session("s")
        assert info is not None
        assert info.ttl_hours == (0 if hours == "0" else None)


def test_a_sidecar_that_cannot_be_read_keeps_no_other_session_from_going(
    directory: Path, store: StoreUnderTest, clock: Clock
) -> None:
    for key in ("unreadable", "own"):
        say(store, key, "a")
        store.describe(key, ttl_hours=1)
    assert finish(store.compact(1)).corrupt_lines == 0  # nothing is in the journal any more
    sidecar = directory / "unreadable.meta.json"
    sidecar.unlink()
    sidecar.mkdir()
    clock.advance(hours=2)
    assert finish(store.cleanup(1_000)).keys == ("own",)


def test_an_erasure_counts_sessions_with_an_unreadable_sidecar(
    directory: Path, store: StoreUnderTest
) -> None:
    for key in ("zebra", "damaged"):
        say(store, key, "a")
        store.describe(key, sender="zebra")
    sidecar = directory / "damaged.meta.json"
    sidecar.write_bytes(sidecar.read_bytes()[:-9])
    receipt = finish(store.erase(sender="zebra"))
    assert (receipt.sessions, receipt.unreadable) == (1, 1)
    assert "whose 1 more" in receipt.summary()
    receipt = finish(store.erase(key="damaged"))
    assert (receipt.sessions, receipt.unreadable) == (1, 0)
    assert finish(store.erase(room="zoo")).unreadable == 0
    assert names(directory) == {".erased.json"}


def test_a_sidecar_of_a_newer_version_is_refused(directory: Path, open_store: Open) -> None:
    with open_store() as store:
        store.describe("s", name="Chat")
    sidecar = directory / "s.meta.json"
    sidecar.write_bytes(sidecar.read_bytes().replace(b'"version":1', b'"version":2'))
    with pytest.raises(OperationRefusedError, match="newer"):
        open_store().describe("s", name="x")


def test_temporary_files_of_a_killed_process_are_removed(directory: Path, open_store: Open) -> None:
    (directory / ".writing").write_text("half a fi")
    open_store()
    assert names(directory) == set()


def test_a_sidecar_without_a_session_is_ignored_and_removed(
    directory: Path, open_store: Open
) -> None:
    with open_store() as store:
        store.describe("s", name="Old")
        store.describe("🙂" * 100, name="Old")
    for path in directory.glob("*.jsonl"):
        path.unlink()
    with open_store() as store:
        assert keys(store) == set()
        say(store, "s", "a")
        info = store.session("s")
        assert info is not None
        assert info.name is None
        finish(store.compact(0))
    assert names(directory) == {"s.jsonl", "s.meta.json"}


def test_a_messages_file_that_cannot_be_written_is_named(
    directory: Path, store: StoreUnderTest
) -> None:
    (directory / "s.jsonl").mkdir()
    with pytest.raises(StoreUnavailableError, match=r"s\.jsonl"):
        say(store, "s", "a")
    say(store, "t", "still works")
    assert contents(store, "t") == ["still works"]


@pytest.mark.parametrize("room", [0, 1, 60, 200])
def test_a_file_that_cannot_grow_is_unchanged_and_takes_the_group_later(
    directory: Path, open_store: Open, room: int
) -> None:
    with open_store() as store:
        say(store, "s", "a" * 5_000)
    store = open_store()  # with a journal that can grow
    path = directory / "s.jsonl"
    before = path.read_bytes(), path.stat().st_mtime_ns
    group = [
        requests.append("s", (ChatMessage.user("b" * 50), ChatMessage.user("c" * 50)), None),
        requests.append("s", (ChatMessage.user("d"),), None),
    ]
    for _ in range(3):
        with file_size_limit(len(before[0]) + room), pytest.raises(StoreUnavailableError) as caught:
            store.apply(group)
        assert os.strerror(errno.EFBIG) in str(caught.value)
        assert str(path) in str(caught.value)
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert not any(outcome.duplicate for outcome in apply_all(store, group))
    assert contents(store, "s") == ["a" * 5_000, "b" * 50, "c" * 50, "d"]


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond `size`: a real failure, with a real partial write before it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
