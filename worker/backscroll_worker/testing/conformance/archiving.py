"""What every store promises of a cleanup with an archive: nothing goes that is not kept there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.archive.directory import Archive
from backscroll_worker.archive.disk import ArchiveError
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import Rules, UrlAt
from backscroll_worker.testing.interruptions import failing, killed_at
from backscroll_worker.testing.stores import (
    Clock,
    StoreUnderTest,
    bring_back,
    keys,
    open_tested,
    say,
)

NEEDS = "archive"


def everything(store: StoreUnderTest, archive: Archive) -> dict[str, list[ChatMessage]]:
    """All messages of all sessions, when what the archive has is back."""
    names = {key for file in archive.files() for key in file.check().keys}
    for key in names:
        bring_back(store, archive, key)
    return {key: store.load(key) for key in keys(store)}


CAP_AND_TTL = '[default]\nttl = "1h"\n[[rule]]\nkey = "cap"\nttl = "none"\nkeep_messages = 2'


def prepare(url: str, clock: Clock) -> dict[str, list[ChatMessage]]:
    with open_tested(url, clock=clock) as store:
        for key in ("a", "b", "cap"):
            say(store, key, *"12345")
        return {key: store.load(key) for key in keys(store)}


@pytest.mark.needs("files")
def test_killed_at_any_step_it_loses_and_doubles_nothing(
    url_at: UrlAt, tmp_path: Path, rules: Rules
) -> None:
    retention = rules(CAP_AND_TTL)
    for step in range(400):
        clock, archive = Clock(), Archive(tmp_path / f"archive{step}")
        url = url_at(tmp_path / f"store{step}")
        before = prepare(url, clock)
        clock.advance(hours=2)

        def clean(url: str = url, clock: Clock = clock, archive: Archive = archive) -> None:
            with open_tested(url, clock=clock) as store:
                for _ in store.cleanup(retention, archive=archive):
                    (tmp_path / "slice").touch()  # a step of its own: between two slices

        was_killed = killed_at(step, clean)
        with open_tested(url, clock=clock) as store:
            there = {key: store.load(key) for key in keys(store)}
            assert archive.verify() == []
            if was_killed and step % 2:
                finish(store.cleanup(retention, archive=archive))
                assert keys(store) == {"cap"}
            assert all(set(map(_id, there[key])) <= set(map(_id, before[key])) for key in there)
            assert everything(store, archive) == before
            assert store.verify() == []
        if not was_killed:
            break
    assert step > 15


def _id(message: ChatMessage) -> str | None:
    return message.message_id


@pytest.mark.needs("files")
def test_while_the_archives_disk_is_full_nothing_goes(
    url_at: UrlAt, tmp_path: Path, rules: Rules
) -> None:
    retention, clock = rules(CAP_AND_TTL), Clock()
    url, archive = url_at(tmp_path / "store"), Archive(tmp_path / "archive")
    before = prepare(url, clock)
    clock.advance(hours=2)
    with open_tested(url, clock=clock) as store:
        archive.directory.mkdir()
        for step in range(3):
            with failing(step), pytest.raises(ArchiveError, match="nothing was deleted"):
                finish(store.cleanup(retention, archive=archive))
            assert {key: store.load(key) for key in keys(store)} == before
            assert archive.files() == []
            say(store, "other", "goes on")
            store.delete("other")
        assert finish(store.cleanup(retention, archive=archive)).sessions == 2
        assert everything(store, archive) == before


def test_what_goes_is_on_the_archives_disk_before(
    store: StoreUnderTest, clock: Clock, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        real_fsync(descriptor)
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    def rename(source: Path, target: Path) -> None:
        real_rename(source, target)
        synced.pop(Path(target).parent.stat().st_ino, None)

    def is_durable(path: Path) -> bool:
        status = path.stat()
        return path.is_dir() or synced.get(status.st_ino) == status.st_size

    for key in "abc":
        say(store, key, "words")
    clock.advance(hours=2)
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    for _ in store.cleanup(1, archive=archive):
        if keys(store) != {"a", "b", "c"}:
            break
    files = [path for path in archive.directory.rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert all(map(is_durable, files))
    assert all(path.parent.stat().st_ino in synced for path in files)


def test_a_dry_run_writes_no_archive(store: StoreUnderTest, clock: Clock, archive: Archive) -> None:
    say(store, "s", "a")
    clock.advance(hours=2)
    assert finish(store.cleanup(1, archive=archive, dry_run=True)).sessions == 1
    assert not archive.directory.exists()
    assert finish(store.cleanup(5, archive=archive)).sessions == 0
    assert not archive.directory.exists(), "nor does a cleanup that has nothing to remove"
