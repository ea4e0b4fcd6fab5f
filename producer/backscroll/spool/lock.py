"""Whose a spool is: one process's, and not that of the children it forks.

A lock lies on the file itself, so another name for it (a hard link) leads to the same one, and a
deleted lock file admits nobody. A second lies beside it, with the holder's process
id: it is the only one that earlier versions know. The kernel drops both when their holder dies. A
forked child inherits them, so it closes them first of all: it must not keep a dead parent's spool.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, Final

from backscroll.contract.errors import SpoolUnusableError
from backscroll.private_files import open_private, read_holder, try_lock, write_holder

_LONGEST_WAIT_SECONDS: Final = 10.0
_LETTING_GO_SECONDS: Final = 2.0
"""How long a spool of this process that was not closed may need to release its lock."""

_PAUSE_SECONDS: Final = 0.01

_held: weakref.WeakSet[SpoolLock] = weakref.WeakSet()
_forking = threading.local()


class SpoolLock:
    """Held from its creation until `release`; raises `SpoolUnusableError` if another has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pid = os.getpid()
        self._gate = threading.Lock()
        with ExitStack() as on_failure:  # or a traceback that somebody keeps would keep the locks
            self._beside = on_failure.enter_context(_opened(Path(f"{path}.lock")))
            holder = read_holder(self._beside.fileno())
            own = holder == str(self.pid)
            _lock(self._beside, path, holder, _LETTING_GO_SECONDS if own else 0.0)
            # Before SQLite opens it, and closed after SQLite has: with any descriptor of a file
            # that a process closes, the kernel drops the locks that SQLite has on it.
            self._file = on_failure.enter_context(_opened(path))
            _lock(self._file, path, "", _LETTING_GO_SECONDS if own else 0.0)
            self._identity = _identity(os.fstat(self._file.fileno()))
            write_holder(self._beside.fileno())
            on_failure.pop_all()
        _held.add(self)

    @property
    def is_inherited(self) -> bool:
        """Whether this process is a child of the one that holds the lock."""
        return self.pid != os.getpid()

    def check(self) -> None:
        """Raise `SpoolUnusableError` if the path leads to another file than the one locked."""
        try:
            is_same = _identity(self.path.stat()) == self._identity
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise SpoolUnusableError(
                f"{self.path} was deleted, moved or replaced while this producer uses it; put it "
                "back, or make the producer anew"
            )

    @contextmanager
    def no_fork(self) -> Iterator[None]:
        """Nobody forks meanwhile: a child would end the transaction in the parent's file."""
        with self._gate:
            yield

    def release(self) -> None:
        """Let the next one have it."""
        _held.discard(self)
        self._file.close()
        self._beside.close()

    def close_gate(self) -> bool:
        """Wait until no transaction is under way, and let none begin; whether that came true."""
        return self._gate.acquire(timeout=_LONGEST_WAIT_SECONDS)

    def open_gate(self) -> None:
        """The fork is over."""
        self._gate.release()


def _opened(path: Path) -> FileIO:
    # Not a bare descriptor: if an exception comes between, it is closed all the same.
    return FileIO(
        path,
        "r+",
        opener=lambda name, _: open_private(name, os.O_RDWR),
    )


def _lock(file: FileIO, path: Path, holder: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not try_lock(file.fileno()):
        if time.monotonic() >= until:
            by = f"process {holder}" if holder else "another producer"
            raise SpoolUnusableError(
                f"{path} is in use by {by}; each producer needs a spool of its own"
            )
        time.sleep(_PAUSE_SECONDS)


def _identity(status: os.stat_result) -> tuple[Any, ...]:
    return status.st_dev, status.st_ino


def _before_fork() -> None:
    _forking.gates = [lock for lock in list(_held) if lock.close_gate()]


def _after_fork_in_parent() -> None:
    for lock in _forking.__dict__.pop("gates", []):
        lock.open_gate()


def _after_fork_in_child() -> None:
    _after_fork_in_parent()
    for lock in list(_held):
        lock.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
