"""Our stores do what every store does: the tests of `backscroll_worker.testing`, for each."""

from __future__ import annotations

import pytest

from backscroll_worker.stores.sqlite.maintenance import purge
from backscroll_worker.testing.conformance import *  # noqa: F403


@pytest.fixture(autouse=True)
def _sessions_of_two_are_large(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite deletes what has so many messages later, and has to hide it until then."""
    if "as_the_model_says" in request.node.name:
        monkeypatch.setattr(purge, "MOST_AT_ONCE", 1)
