"""When an SQLite store merges the pieces of its search index."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import apsw
import pytest

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores.sqlite import backend
from backscroll_worker.stores.sqlite.fts_merge import AUTOMERGE, hold_merging
from backscroll_worker.testing.stores import Clock, apply_all, found, open_tested, requests
from tests.backends.files import index_pieces

WORDS: Final = ChatMessage.user("some words")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "backscroll.db"


def setting(path: Path, name: str, index: str = "message_index") -> Any:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    return connection.execute(f"SELECT v FROM {index}_config WHERE k = ?", (name,)).get  # noqa: S608


def test_deletions_merge_nothing(path: Path) -> None:
    clock = Clock()
    with open_tested(f"sqlite://{path}", clock=clock) as store:
        for _ in range(40):  # enough to be merged, once there is a reason
            apply_all(store, [requests.append(f"s{n}", (WORDS,) * 20, None) for n in range(10)])
            clock.advance(hours=2)
        before = index_pieces(path)
        for _ in store.cleanup(1):
            assert index_pieces(path) == before
            assert setting(path, "automerge") == AUTOMERGE
        assert before == 40 > AUTOMERGE
        assert found(store, "words") == set()
        assert store.verify() == []


def test_small_groups_are_never_merged_with_large_ones_all_at_once(path: Path) -> None:
    with open_tested(f"sqlite://{path}") as store:
        for number in range(20):
            apply_all(store, [requests.append(f"s{number}", (WORDS,), None)])
    assert index_pieces(path) == 20


@pytest.mark.parametrize("index", ["message_index", "name_index"])
def test_opening_resumes_the_merging_that_a_killed_compaction_held(path: Path, index: str) -> None:
    with open_tested(f"sqlite://{path}"):
        pass
    with apsw.Connection(str(path)) as connection:
        hold_merging(connection, index)
    assert setting(path, "automerge", index) == 0
    with open_tested(f"sqlite://{path}") as store:
        assert setting(path, "automerge", index) == AUTOMERGE
        finish(store.compact(1))
        assert setting(path, "automerge", index) == AUTOMERGE


@pytest.mark.parametrize("index", ["message_index", "name_index"])
def test_a_store_made_before_a_setting_was_gets_it_when_it_opens(path: Path, index: str) -> None:
    with open_tested(f"sqlite://{path}"):
        pass
    with apsw.Connection(str(path)) as connection:
        connection.execute(f"DELETE FROM {index}_config WHERE k = 'hashsize'")  # noqa: S608
    with open_tested(f"sqlite://{path}"):
        assert setting(path, "hashsize", index) == 8 * 1024 * 1024


@pytest.mark.parametrize("index", ["message_index", "name_index"])
def test_a_deletion_never_rewrites_the_index(path: Path, index: str) -> None:
    with open_tested(f"sqlite://{path}"):
        assert setting(path, "deletemerge", index) == 0
        assert setting(path, "crisismerge", index) == 256


def test_at_rest_it_merges_in_bites_what_groups_left(path: Path) -> None:
    with open_tested(f"sqlite://{path}") as store:
        assert not store.maintain_while_idle()
        for number in range(40):
            apply_all(store, [requests.append(f"s{number}", (WORDS,), None)])
            assert not store.maintain_while_idle()  # it is too little to begin
        for _ in range(30):
            store.describe("s0", channel="telegram")
        assert index_pieces(path) == 40
        assert store.maintain_while_idle()
        while store.maintain_while_idle():
            pass
        assert index_pieces(path) == 1
        assert len(store.search("words", limit=1_000).hits) == 40
        assert store.verify(deep=True) == []


def test_a_store_that_was_left_untidy_is_tidied_too_and_a_bite_is_not_all(path: Path) -> None:
    words = [" ".join(f"word{number * step}" for number in range(300)) for step in range(1, 200)]
    with open_tested(f"sqlite://{path}") as store:
        for first in range(20):
            group = tuple(ChatMessage.user(text) for text in words[first::20])
            apply_all(store, [requests.append(f"s{first}", group, None)])
    with open_tested(f"sqlite://{path}") as store:
        assert store.maintain_while_idle()
        assert index_pieces(path) > 1
        while store.maintain_while_idle():
            pass
    assert index_pieces(path) == 1


@pytest.mark.parametrize(("groups", "left"), [(7, 7), (8, 1)])
def test_at_rest_it_merges_eight_pieces_of_a_size(path: Path, groups: int, left: int) -> None:
    with open_tested(f"sqlite://{path}") as store:
        for number in range(groups):
            apply_all(store, [requests.append(f"s{number}", (WORDS,), None)])
    with open_tested(f"sqlite://{path}") as store:
        while store.maintain_while_idle():
            pass
    assert index_pieces(path) == left


@pytest.mark.parametrize("error", [apsw.FullError, apsw.CorruptError, apsw.SQLError])
def test_what_cannot_be_tidied_harms_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: type[apsw.Error]
) -> None:
    def failing(*_: Any) -> bool:
        raise error("as the disk or the index is not as it should be")

    with open_tested(f"sqlite://{path}") as store:
        for count in range(70):
            apply_all(store, [requests.append(f"s{count}", (WORDS,), None)])
        with monkeypatch.context() as patched:
            patched.setattr(backend, "merge", failing)
            assert not store.maintain_while_idle()
            assert not store.maintain_while_idle()
        assert store.verify(deep=True) == []
        assert len(store.search("words", limit=1_000).hits) == 70
    with open_tested(f"sqlite://{path}", read_only=True) as reader:
        assert not reader.maintain_while_idle()
