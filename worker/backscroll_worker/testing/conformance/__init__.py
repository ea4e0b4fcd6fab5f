"""What every store does, as tests: `from backscroll_worker.testing.conformance import *`.

A module here that sets `NEEDS` to one of the `CAPABILITIES` is for stores that have it; so is a
test with the marker `needs`.
"""

import sys
from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest

from backscroll_worker.testing import fixtures


@pytest.fixture(autouse=True)
def _skip_what_it_lacks(request: pytest.FixtureRequest, lacking: frozenset[str]) -> None:
    needed = {name for mark in request.node.iter_markers("needs") for name in mark.args}
    needed.add(getattr(sys.modules[request.function.__module__], "NEEDS", ""))
    if missing := needed & lacking:
        pytest.skip(f"the store has no {', '.join(sorted(missing))}")


def _is_shared(name: str, value: object) -> bool:
    return name.startswith("test_") or isinstance(value, type(fixtures.clock))


def _shared() -> Iterator[tuple[str, Any]]:
    modules = [import_module(f"{__name__}.{each.name}") for each in iter_modules(__path__)]
    for module in (fixtures, *modules):
        yield from (
            (name, value) for name, value in vars(module).items() if _is_shared(name, value)
        )


globals().update(_shared())
__all__ = [name for name, value in [*globals().items()] if _is_shared(name, value)]
