"""Each kind of store of ours, for all tests here: the fixtures of the conformance tests."""

from __future__ import annotations

from contextlib import suppress

import pytest

from backscroll.private_files import make_private_directory
from backscroll_worker.stores.lock import StoreLock
from backscroll_worker.testing.fixtures import *  # noqa: F403


@pytest.fixture(autouse=True)
def _no_lock_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a store that was killed is one that this process does not close before it opens it anew.

    The claim on its inode allows that, its lock file would not. The conformance tests have both.
    """
    if request.module.__name__ != "tests.backends.test_conformance":
        monkeypatch.setattr(StoreLock, "acquire", _make_directory)


def _make_directory(lock: StoreLock, _on_wait: object) -> None:
    with suppress(OSError):  # which the store itself reports
        make_private_directory(lock.path.parent)
