"""Processes that are to outlive a Ctrl-C, which reaches every process of the terminal."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Whatever process is started in here never hears one, and this one hears it afterwards.

    Only if no other thread runs: from the calling one alone it can be held back.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def ended_by(*numbers: signal.Signals) -> Iterator[None]:
    """These signals, too, end what is done in here as a Ctrl-C does, with all its `finally`."""
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
