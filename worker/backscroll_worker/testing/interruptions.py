"""Kills and failing disks, at a chosen one of the calls that change files."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_CALLS = (
    "open",
    "write",
    "utime",
    "fsync",
    "fdatasync",
    "mkdir",
    "rename",
    "replace",
    "unlink",
    "ftruncate",
    "fchmod",
)


def killed_at(step: int, act: Callable[[], object]) -> bool:
    """Act in a process that is killed at its `step`th call; whether it came so far.

    It stands for this one, which has opened the store, and so has this one's number.
    """
    number = os.getpid()
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch, interrupted(step, _die):
            patch.setattr(os, "getpid", lambda: number)
            act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


@contextmanager
def failing(step: int, error: int = errno.ENOSPC) -> Iterator[None]:
    """At the `step`th call the disk is full, or has another error."""

    def fail() -> None:
        raise OSError(error, os.strerror(error))

    with interrupted(step, fail):
        yield


@contextmanager
def interrupted(step: int, interrupt: Callable[[], None]) -> Iterator[None]:
    """Count the calls that change files, and interrupt the `step`th; a write gets half-way."""
    calls = 0

    def counted(name: str, real: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **options)
            calls += 1
            if calls - 1 == step:
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                interrupt()
            return real(*args, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield


def _die() -> None:
    signal.raise_signal(signal.SIGKILL)
