"""What a process that stores many messages has Python do differently, for as long as it does."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_OBJECTS_OF_GROUPS: Final = 20_000
_LOCK_SECONDS: Final = 0.000_5


@contextmanager
def applying_groups() -> Iterator[None]:
    """Spare the garbage collector what exists, and have threads take turns more often.

    The thread that writes a group to the disk needs Python's lock for a moment in between, while
    the other decodes the next group: after 5 ms it would get it by default.
    """
    interval = sys.getswitchinterval()
    gc.freeze()
    sys.setswitchinterval(_LOCK_SECONDS)
    try:
        with collecting_rarely(_OBJECTS_OF_GROUPS):
            yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()


@contextmanager
def collecting_rarely(objects: int) -> Iterator[None]:
    """Have Python look for cyclic garbage after so many new objects; by default after 700 or 2,000.

    Messages have no cycles, and the search takes as long as reading them.
    """
    before = gc.get_threshold()
    gc.set_threshold(objects, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
