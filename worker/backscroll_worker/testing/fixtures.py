"""The fixtures of the conformance tests.

Who tests a store of another kind overrides `url_at`, and `lacking` where the store cannot do all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.retention import Retention
from backscroll_worker.testing.stores import Clock, StoreUnderTest, open_tested

Open = Callable[[], StoreUnderTest]
Rules = Callable[[str], Retention]
UrlAt = Callable[[Path], str]

CAPABILITIES: Final = {
    "archive": "a cleanup writes what goes into an archive first",
    "attachments": "it keeps the bytes of what is attached to messages",
    "clock": "a clock that is wrong has nothing deleted early",
    "edits": "a replaced message keeps its earlier version, if asked to",
    "erasure": "an erasure leaves no trace, and tombstones recognize what arrives late",
    "files": "it lies in files of this host, which a test copies and searches",
    "search": "`Search` finds messages, best first",
}
"""What a store can do that not every store needs."""


@pytest.fixture(scope="session", params=["sqlite", "jsonl"])
def url_at(request: pytest.FixtureRequest) -> UrlAt:
    """The URL of a store at a path that no other store is at; each test runs with each kind."""
    return lambda path: f"{request.param}://{path}"


@pytest.fixture(scope="session")
def lacking() -> frozenset[str]:
    """The `CAPABILITIES` that the store does not have; their tests are skipped."""
    return frozenset()


@pytest.fixture
def clock() -> Clock:
    """A clock that only the test moves."""
    return Clock()


@pytest.fixture
def url(url_at: UrlAt, tmp_path: Path) -> str:
    """Where a store is to be."""
    return url_at(tmp_path / "store")


@pytest.fixture
def open_store(url: str, clock: Clock) -> Iterator[Open]:
    """Opens the store, once more after it was closed."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(open_tested(url, clock=clock))


@pytest.fixture
def store(open_store: Open) -> StoreUnderTest:
    """The store, open and empty."""
    return open_store()


@pytest.fixture
def open_keeping(url: str, clock: Clock) -> Iterator[Open]:
    """As `open_store`; a replaced message keeps its earlier version."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(open_tested(url, clock=clock, keep_edits=True))


@pytest.fixture
def rules(tmp_path: Path) -> Rules:
    """Retention by the text of its file."""

    def load(text: str) -> Retention:
        path = tmp_path / "retention.toml"
        path.write_text(text)
        return Retention.load(path, None)

    return load


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "archive")
