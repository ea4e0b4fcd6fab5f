"""Processes that must survive a Ctrl-C, which the terminal sends to all of its processes."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, and this process handles it afterwards.

    Requires that no other thread runs: it can be blocked only for the calling one.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ended_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let these signals, like Ctrl-C, raise `KeyboardInterrupt` inside, so that `finally` runs."""
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
