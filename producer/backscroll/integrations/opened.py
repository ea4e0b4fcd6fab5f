"""The history that an integration uses: the one it is given, or the one behind a URL."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

H = TypeVar("H")

_open: Final[dict[tuple[int, object, str], Any]] = {}
_opening: Final = threading.Lock()


def history_of(given: H | str, connect: Callable[..., H]) -> H:
    """`given`, or what `connect` opens at that URL: one for all of this process, until it ends.

    Raises what `connect` raises.
    """
    if not isinstance(given, str):
        return given
    place = (os.getpid(), connect, given)  # a forked child opens its own
    with _opening:
        if place not in _open:
            _open[place] = connect(given)
        history: H = _open[place]
    return history
