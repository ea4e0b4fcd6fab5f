"""What a cleanup does to the search index of an SQLite store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from producer.messages import ChatMessage
from tests.backends.stores import Clock, apply_all, found, requests
from worker.archive import Archive
from worker.archive_disk import ArchiveError
from worker.backends import SessionBackend, open_backend
from worker.backends.base import finish


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backscroll.db"


def setting(path: Path, name: str) -> Any:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    return connection.execute("SELECT v FROM message_index_config WHERE k = ?", (name,)).get


def fill(store: SessionBackend, clock: Clock) -> None:
    message = ChatMessage.user("some words")
    apply_all(store, [requests.append(f"s{n}", (message,) * 20, None) for n in range(100)])
    clock.advance(hours=2)


def test_merging_is_put_off_while_a_cleanup_deletes_and_taken_up_afterwards(path: Path) -> None:
    clock = Clock()
    with open_backend(f"sqlite://{path}", clock=clock) as store:
        fill(store, clock)
        slices = store.cleanup(1)
        next(slices)
        assert setting(path, "automerge") == 0
        slices.close()
        assert finish(store.cleanup(1)).sessions == 100
        assert setting(path, "automerge") == 4
        assert found(store, "words") == set()
        assert store.verify() == []


def test_merging_is_taken_up_after_a_cleanup_that_failed(path: Path, tmp_path: Path) -> None:
    clock, place = Clock(), tmp_path / "archive"
    place.write_text("not a directory")
    with open_backend(f"sqlite://{path}", clock=clock) as store:
        fill(store, clock)
        with pytest.raises(ArchiveError):
            finish(store.cleanup(1, archive=Archive(place)))
        assert setting(path, "automerge") == 4


def test_a_deletion_never_rewrites_the_index(path: Path) -> None:
    with open_backend(f"sqlite://{path}"):
        assert setting(path, "deletemerge") == 0


def test_what_a_killed_cleanup_left_goes_with_the_next_whatever_its_order(path: Path) -> None:
    clock = Clock()
    with open_backend(f"sqlite://{path}", clock=clock) as store:
        fill(store, clock)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE sessions SET key = NULL WHERE id % 2")
    connection.close()
    with open_backend(f"sqlite://{path}", clock=clock) as store:
        assert finish(store.cleanup(1)).sessions == 50
        assert found(store, "words") == set()
        assert store.verify() == []
    left = apsw.Connection(str(path)).execute("SELECT count(*) FROM messages").get
    assert left == 0
