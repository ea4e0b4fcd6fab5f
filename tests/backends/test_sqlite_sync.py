"""When SQLite waits for the disk: at every commit of a group, and at no slice of maintenance."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll.contract.results import CleanupReport, CompactReport
from backscroll_worker.contract.pacing import Slices, finish
from backscroll_worker.stores.sqlite import scrub as scrubbing
from backscroll_worker.stores.sqlite import wal
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    apply_all,
    open_tested,
    requests,
    say,
)

Event = tuple[str, str, int]
"""What was done, to which kind of file, and by which thread."""


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Event]]:
    """Every write and sync of SQLite's, and every sync of ours, as they are made."""
    seen: list[Event] = []
    real_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        is_log = str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith("-wal")
        seen.append(("sync", "log" if is_log else "database", threading.get_ident()))

    monkeypatch.setattr(os, "fsync", fsync)

    class File(apsw.VFSFile):
        def __init__(self, name: Any, flags: list[int]) -> None:
            super().__init__("unix", name, flags)
            self._kind = "log" if flags[0] & apsw.SQLITE_OPEN_WAL else "database"
            self._begins_log = False

        def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
            seen.append(("write", self._kind, threading.get_ident()))
            self._begins_log = self._kind == "log" and offset == 0
            super().xWrite(data, offset)

        def xSync(self, flags: int) -> None:  # noqa: N802
            if not self._begins_log:  # once a checkpoint has done with all of the log
                seen.append(("sync", self._kind, threading.get_ident()))
            super().xSync(flags)

    class Files(apsw.VFS):
        def xOpen(self, name: Any, flags: list[int]) -> File:  # noqa: N802
            return File(name, flags)

    files = Files("seen", "unix", makedefault=True)
    yield seen
    files.unregister()


@pytest.fixture
def store(tmp_path: Path, events: list[Event]) -> Iterator[StoreUnderTest]:
    """A store in which all is idle for longer than an hour."""
    clock, message = Clock(), ChatMessage.user("some words")
    with open_tested(f"sqlite://{tmp_path / 'store.db'}", clock=clock) as store:
        apply_all(store, [requests.append(f"s{n}", (message,) * 20, None) for n in range(500)])
        clock.advance(hours=2)
        events.clear()
        yield store


def test_no_slice_of_a_cleanup_waits_for_the_disk_and_every_append_does(
    store: StoreUnderTest, events: list[Event]
) -> None:
    ours = threading.get_ident()
    for _ in store.cleanup(1):
        assert ("sync", ours) not in [event[::2] for event in events]
        say(store, "meanwhile", "hay")
        assert ("sync", "log", ours) in events
        events.clear()


def test_the_slices_of_an_erasure_wait_for_the_disk_only_at_its_end(
    store: StoreUnderTest, events: list[Event]
) -> None:
    ours, waits = threading.get_ident(), list[bool]()
    by_ann = ChatMessage.user("some words", author="ann")
    apply_all(store, [requests.append(f"s{n}", (by_ann,) * 5, None) for n in range(400)])
    slices = store.erase(author="ann")
    events.clear()
    for _ in slices:
        waits.append(("sync", ours) in [event[::2] for event in events])
        say(store, "meanwhile", "hay")
        events.clear()
    assert len(waits) > 20
    assert sum(waits) <= 3
    assert not any(waits[1:-3])  # the first is that of the request itself


@pytest.mark.parametrize(
    "maintenance",
    [lambda store: store.cleanup(1), lambda store: store.compact(0)],
    ids=["clean", "pack"],
)
@pytest.mark.parametrize("readers", [0, 1])
def test_what_maintenance_reports_is_on_the_disk(
    store: StoreUnderTest,
    tmp_path: Path,
    events: list[Event],
    maintenance: Callable[[StoreUnderTest], Slices[CleanupReport | CompactReport]],
    readers: int,
) -> None:
    store.delete("s1")
    with ExitStack() as stack:
        for _ in range(readers):  # then a checkpoint has nothing to do, and syncs nothing
            reader = stack.enter_context(closing(apsw.Connection(str(tmp_path / "store.db"))))
            reader.execute("BEGIN; SELECT count(*) FROM messages").fetchall()
        finish(maintenance(store))
    assert [what for what, kind, _ in events if kind == "log"][-1] == "sync"


@pytest.mark.parametrize("key", ["s1", "s499"])
def test_what_an_erasure_has_wiped_is_on_the_disk(
    store: StoreUnderTest, events: list[Event], key: str
) -> None:
    finish(store.erase(key=key))
    for kind in ("database", "log"):
        assert [what for what, of, _ in events if of == kind][-1] == "sync"


def test_no_commit_waits_for_a_checkpoint(
    store: StoreUnderTest, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wal, "CHECKPOINT_PAGES", 1)
    ours = threading.get_ident()
    for _ in range(3):
        say(store, "meanwhile", "hay")
    store._log._beside.wait()
    synced = [thread for what, kind, thread in events if (what, kind) == ("sync", "database")]
    assert synced
    assert ours not in synced


def test_no_commit_waits_for_a_reader_of_our_own(
    store: StoreUnderTest, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where the log is too long: while it is read, a commit cannot shorten it."""
    ours, waits = threading.get_ident(), list[bool]()
    monkeypatch.setattr(wal, "_LONGEST_BYTES", 0)

    def append() -> bool:
        store._log._try_at = 0
        events.clear()
        say(store, "meanwhile", "hay")
        return ("sync", "database", ours) in events

    begun, seen = threading.Event(), threading.Event()

    def look(_path: Path) -> None:
        begun.set()
        assert seen.wait(30)

    monkeypatch.setattr(scrubbing, "_refuse_damaged", look)
    assert append()
    for _ in store.erase(key="s1"):
        if begun.is_set() and not waits:
            waits.append(append())
            seen.set()
    assert waits == [False]
    assert append()
