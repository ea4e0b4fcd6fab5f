"""A store to test, one of each kind, with a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.retention import Retention
from backscroll_worker.stores import SessionBackend, open_backend
from tests.backends.stores import Clock

Open = Callable[[], SessionBackend]
Rules = Callable[[str], Retention]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store is to be; each test runs once with each kind."""
    return f"{request.param}://{tmp_path / 'store'}"


@pytest.fixture
def open_store(url: str, clock: Clock) -> Iterator[Open]:
    """Opens the store, once more after it was closed."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(open_backend(url, clock=clock))


@pytest.fixture
def store(open_store: Open) -> SessionBackend:
    """The store, open and empty."""
    return open_store()


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
