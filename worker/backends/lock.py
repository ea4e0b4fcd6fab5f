"""The store's own lock: whoever holds it is the one writer.

It is a `flock` on a file beside the database, or in the directory of a JSONL store, so the kernel
drops it the moment its holder dies, and no clock or lease is involved. It says who writes on one
machine; a store is a local file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from producer.errors import StoreUnavailableError
from producer.private import make_private_directory, open_private


class StoreLock:
    """An exclusive lock on the file at `path`; hold it while writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def acquire(self, on_wait: Callable[[str], None] | None = None) -> None:
        """Take the lock, waiting for it when `on_wait` is given; it is called with the holder.

        Without `on_wait`, raises `StoreUnavailableError` when another process holds it.
        """
        try:
            make_private_directory(self.path.parent)
            descriptor = open_private(self.path, os.O_RDWR)
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot create {self.path}: {error.strerror}. "
                "Does its directory exist, and may this user write there?"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 100, 0).decode(errors="replace").strip() or "unknown"
            if on_wait is None:
                os.close(descriptor)
                raise StoreUnavailableError(
                    f"{self.path} is held by process {holder}; a store has one writer"
                ) from None
            on_wait(holder)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go; the next one waiting has it at once. The file stays, or two could hold it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
