"""A laboratory for each test, and the violations it found in the test's failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.laboratory import SCHEMES, Laboratory, Tally
from tests.crash.server import CrashableServer


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def laboratory(server_url: str, tmp_path: Path, scheme: str, tally: Tally) -> Iterator[Laboratory]:
    with Laboratory(server_url, tmp_path / "laboratory", scheme, 1, tally) as laboratory:
        yield laboratory


@pytest.fixture
def crashable(tmp_path: Path) -> Iterator[CrashableServer]:
    """A server of the test's own, to kill."""
    with CrashableServer(tmp_path / "server") as server:
        yield server
