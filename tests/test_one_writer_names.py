"""One store under several names, or at a place that moves, has one writer all the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from backscroll import StoreUnavailableError, StoreUnusableError
from backscroll.contract.errors import BackscrollError
from backscroll_worker.testing.stores import StoreUnderTest, open_tested, say
from tests.test_one_writer import HOLD, another_process


@pytest.fixture(params=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path / 'here' / 'store'}"


@pytest.fixture
def path(url: str) -> Path:
    return Path(url.split("://")[1])


@pytest.fixture
def store(url: str) -> Iterator[StoreUnderTest]:
    with open_tested(url) as store:
        yield store


@pytest.mark.parametrize("kind", ["symlink", "symlinked directory", "hard link"])
def test_another_name_of_a_store_lets_no_second_writer_in(
    url: str, path: Path, tmp_path: Path, kind: str
) -> None:
    with another_process(HOLD, url):
        scheme, other = url.split("://", maxsplit=1)[0], tmp_path / "other"
        if kind == "symlink":
            other.symlink_to(path)
        elif kind == "symlinked directory":
            other.symlink_to(path.parent)
            other = other / path.name
        elif path.is_dir():
            pytest.skip("directories have no hard links")
        else:
            other.hardlink_to(path)
        with pytest.raises(StoreUnavailableError, match=r"one writer|hard links"):
            open_tested(f"{scheme}://{other}")


def test_a_bind_mount_of_a_store_lets_no_second_writer_in(
    url: str, path: Path, tmp_path: Path
) -> None:
    scheme, other = url.split("://", maxsplit=1)[0], tmp_path / "other"
    with (
        another_process(HOLD, url),
        mounted(path, other, "--bind"),
        pytest.raises(BackscrollError, match=r"one writer|mounted by itself"),
    ):
        open_tested(f"{scheme}://{other}")


def test_a_database_mounted_without_its_directory_is_not_opened(
    tmp_path: Path,
) -> None:
    """As with `docker run -v FILE:FILE`: a kill would leave the log in the container."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    open_tested(f"sqlite://{one}").close()
    with mounted(one, other, "--bind"):
        for read_only in (False, True):
            with pytest.raises(StoreUnusableError, match="Mount its directory instead"):
                open_tested(f"sqlite://{other}", read_only=read_only)
    open_tested(f"sqlite://{one}").close()


@contextmanager
def mounted(source: Path, target: Path, *options: str) -> Iterator[None]:
    """A mount, where that may be done."""
    target.mkdir() if source.is_dir() else target.touch()
    done = subprocess.run(["mount", *options, source, target], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", target], check=True)  # also with the file still open


def test_a_database_with_two_names_is_neither_written_nor_read(tmp_path: Path) -> None:
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    with open_tested(f"sqlite://{one}") as store:
        say(store, "k", "a")
    other.hardlink_to(one)
    for path in (one, other):
        for read_only in (False, True):
            with pytest.raises(StoreUnavailableError, match=r"2 names .* remove all but one"):
                open_tested(f"sqlite://{path}", read_only=read_only)
    other.unlink()
    with open_tested(f"sqlite://{one}", read_only=True) as store:
        assert [message.content for message in store.load("k")] == ["a"]


def test_a_database_with_a_second_name_is_not_written_until_it_is_gone(
    tmp_path: Path,
) -> None:
    with open_tested(f"sqlite://{tmp_path}/one.db") as store:
        say(store, "k", "a")
        (tmp_path / "other.db").hardlink_to(tmp_path / "one.db")
        with pytest.raises(StoreUnavailableError, match="2 names"):
            say(store, "k", "b")
        (tmp_path / "other.db").unlink()
        say(store, "k", "c")
        assert [message.content for message in store.load("k")] == ["a", "c"]


def test_a_link_that_is_turned_to_another_store_is_noticed(
    url: str, path: Path, tmp_path: Path
) -> None:
    scheme, link = url.split("://", maxsplit=1)[0], tmp_path / "link"
    other = path.with_name("other")
    for place in (path, other):
        open_tested(f"{scheme}://{place}").close()
    link.symlink_to(path)
    with open_tested(f"{scheme}://{link}") as store:
        say(store, "k", "a")
        link.unlink()
        link.symlink_to(other)
        with pytest.raises(StoreUnavailableError, match="moved, replaced or deleted"):
            say(store, "k", "b")
