"""The groups and the portions of files that a slice of maintenance works on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Final

from backscroll_worker.stores.jsonl.files import Stamp
from backscroll_worker.stores.jsonl.write_batch import Group

SESSIONS_PER_SLICE: Final = 50
BYTES_PER_SLICE: Final = 4 * 1024 * 1024

OpenGroup = Callable[[], AbstractContextManager[Group]]
"""A group of its own: committed when the context is left."""


def portions(files: Sequence[tuple[str, Stamp]]) -> Iterator[list[str]]:
    """The names of as many files as one slice may read."""
    names, size = list[str](), 0
    for name, stamp in files:
        names.append(name)
        size += stamp.size
        if len(names) == SESSIONS_PER_SLICE or size >= BYTES_PER_SLICE:
            yield names
            names, size = [], 0
    if names:
        yield names
