"""A store to test, one of each kind, with a clock that only the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.backends.stores import Clock
from worker.backends import SessionBackend, open_backend

Open = Callable[[], SessionBackend]


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
