"""The store's lock: whoever holds it is the one writer.

It is a `flock`, so the kernel drops it the moment its holder dies, and no clock or lease is
involved. It says who writes on one machine; a store is a local file. There are two of them: one on
the store's inode (see `claim`), which decides, and one on a file beside the database or in the
directory of a JSONL store, which keeps out the versions before the other came.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from backscroll.contract.errors import StoreUnavailableError
from backscroll.private_files import (
    make_private_directory,
    open_private,
    read_holder,
    try_lock,
    write_holder,
)
from backscroll_worker.stores.claim import Claim, OnWait, claim, inode_of, is_held


class StoreLock:
    """An exclusive lock on the file at `path`, and on the store at `store`; hold it while writing.

    Without a `store` it is the file alone. A store that is not there yet is created empty.
    """

    def __init__(self, path: Path, store: Path | None = None) -> None:
        self.path = path
        self._store = store
        self._descriptor: int | None = None
        self._claim: Claim | None = None
        _locks.add(self)

    def acquire(self, on_wait: OnWait | None = None) -> None:
        """Take the lock, waiting for it when `on_wait` is given; it is called with the holder.

        Without `on_wait`, raises `StoreUnavailableError` when another process holds it.
        """
        try:
            self._descriptor = self._take_file(on_wait)
            if self._store is not None:
                self._claim = claim(self._store, on_wait, for_lock=True)
                self._claim.set_lock(self._check_file)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go; the next one waiting has it at once. The file stays, or two could hold it.

        A store that is open in this process keeps its inode locked until it is closed.
        """
        if self._claim is not None:
            self._claim.set_lock(None)
            self._claim.close()
            self._claim = None
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _take_file(self, on_wait: OnWait | None) -> int:
        """Lock the file that is at the path when it is locked; its descriptor."""
        while True:
            descriptor = self._open()
            try:
                self._lock(descriptor, on_wait)
                if self._is_in_place(descriptor):  # else it was removed while we waited for it
                    write_holder(descriptor)
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _lock(self, descriptor: int, on_wait: OnWait | None) -> None:
        if try_lock(descriptor):
            return
        holder = read_holder(descriptor) or "unknown"
        if on_wait is None:
            raise is_held(self.path, holder)
        on_wait(holder)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def _open(self) -> int:
        try:
            make_private_directory(self.path.parent)
            return open_private(self.path, os.O_RDWR)
        except OSError as error:
            raise StoreUnavailableError(
                f"cannot create {self.path}: {error.strerror}. "
                "Does its directory exist, and may this user write there?"
            ) from None

    def _is_in_place(self, descriptor: int) -> bool:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - before each commit
        except OSError:
            return False
        return inode_of(status) == inode_of(os.fstat(descriptor))

    def _check_file(self) -> None:
        """See that the file is still ours. One that was removed is put back and locked again.

        Raises `StoreUnavailableError` when somebody else, of an earlier version, has it by now.
        """
        if self._descriptor is None or self._is_in_place(self._descriptor):
            return
        lost, self._descriptor = self._descriptor, self._take_file(None)
        os.close(lost)

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

    def _forget(self) -> None:
        """In a child: keep nothing locked for a parent that dies."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = self._claim = None


_locks: Final[weakref.WeakSet[StoreLock]] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_locks):
        lock._forget()


os.register_at_fork(after_in_child=_forget_all)
