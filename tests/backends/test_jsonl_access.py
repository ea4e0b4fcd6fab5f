"""Who may open a folder of JSONL sessions, and what a reader beside the writer sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Operation
from backscroll_worker.contract.pacing import finish
from backscroll_worker.testing.fixtures import Open
from backscroll_worker.testing.stores import (
    StoreUnderTest,
    contents,
    found,
    open_tested,
    requests,
    say,
)
from tests.backends.files import read_only_directory, unprivileged


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"jsonl://{tmp_path / 'store'}"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


def test_a_missing_directory_is_created(tmp_path: Path) -> None:
    with open_tested(f"jsonl://{tmp_path}/a/b/c") as store:
        say(store, "s", "x")
    assert (tmp_path / "a/b/c/s.jsonl").exists()


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for read_only in (False, True):
        with pytest.raises(StoreUnusableError, match="is a file"):
            open_tested(f"jsonl://{tmp_path}/file", read_only=read_only)
    with pytest.raises(StoreUnavailableError, match="Not a directory"):
        open_tested(f"jsonl://{tmp_path}/file/below")


def test_a_reader_beside_the_writer_sees_what_is_committed(
    directory: Path, store: StoreUnderTest
) -> None:
    say(store, "s", "a")
    with open_tested(f"jsonl://{directory}", read_only=True) as reader:
        assert contents(reader, "s") == ["a"]
        store.append("s", ChatMessage.user("b"), ChatMessage.user("c"))
        assert contents(reader, "s") == ["a", "b", "c"]
        store.clear("s")
        assert contents(reader, "s") == []
        store.delete("s")
        assert not reader.exists("s")


def test_a_reader_does_not_see_half_an_append(directory: Path, store: StoreUnderTest) -> None:
    store.append("s", ChatMessage.user("a"))
    store.append("s", ChatMessage.user("b"), ChatMessage.user("c"))
    path = directory / "s.jsonl"
    content = path.read_bytes()
    with open_tested(f"jsonl://{directory}", read_only=True) as reader:
        for cut in range(content.index(b"\n") + 1, len(content) - 1):
            path.write_bytes(content[:cut])
            assert contents(reader, "s") == ["a"]


def test_a_reader_changes_nothing(directory: Path, open_store: Open) -> None:
    with open_store() as store:
        say(store, "s", "a")
    (directory / ".writing").write_text("the writer is at it")
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with open_tested(f"jsonl://{directory}", read_only=True) as reader:
        writes: list[Operation] = [
            requests.append("s", (ChatMessage.user("b"),), None),
            requests.delete("s"),
            requests.rename_agent("a", "b"),
        ]
        for write in writes:
            with pytest.raises(StoreUnusableError, match="open for reading only"):
                reader.apply([write])
        for work in (reader.cleanup, reader.compact):
            with pytest.raises(StoreUnusableError, match="open for reading only"):
                finish(work(0))
        assert finish(reader.cleanup(0, dry_run=True)).sessions == 1
        assert found(reader, "a") == {"a"}
        assert reader.verify() == []
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


def test_a_reader_does_not_create_a_directory(tmp_path: Path) -> None:
    with pytest.raises(
        StoreUnavailableError, match=r"No such file or directory\. Is the path right"
    ):
        open_tested(f"jsonl://{tmp_path}/nowhere", read_only=True)
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("below", ["", "new"])
def test_a_directory_that_cannot_be_written_is_named(below: str) -> None:
    advice = pytest.raises(StoreUnavailableError, match="may this user write there")
    with read_only_directory() as directory, unprivileged(), advice as caught:
        open_tested(f"jsonl://{directory}/{below}")
    assert str(directory) in str(caught.value)
