"""Who may write a store, decided by its inode: the database file's, or the directory's of JSONL.

A name can lead elsewhere a moment later, and two names can lead to one store. So the lock, a
`flock`, is on the inode itself, and `Claim.check` looks before and after each commit whether the
store's path still leads there.

The descriptor of a claim stays open for as long as anything in this process uses the store: to
close any descriptor of a file drops all the locks that SQLite has on it in this process
(https://www.sqlite.org/howtocorrupt.html, 2.2). Therefore a claim is shared by all that need it,
and a file that is claimed here is never opened a second time.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import stat
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.private_files import make_private_directory, open_private, try_lock

Inode = tuple[int, int]
"""Device and number."""

OnWait = Callable[[str], None]
"""Called with the holder before a wait."""


@dataclass(slots=True)
class _Claimed:
    """An inode that this process has locked, and by how many it is used."""

    inode: Inode
    descriptor: int
    users: int = 0
    check_lock: Callable[[], None] | None = None
    """Looks after the lock file; set while a `StoreLock` is one of the users."""


_claimed: dict[Inode, _Claimed] = {}
_guard: Final = threading.Lock()


class Claim:
    """The right of this process to write the store at `path`."""

    def __init__(self, path: Path, claimed: _Claimed) -> None:
        self._path = str(path)
        self._claimed = claimed
        self._process = os.getpid()

    @property
    def inode(self) -> Inode:
        return self._claimed.inode

    def check(self) -> None:
        """Raise unless what is at the path is what was claimed, and under one name only.

        `StoreUnavailableError` says that it was moved, replaced, deleted or linked, or that its
        lock file was and somebody else has it; `StoreUnusableError` that this is another process.
        """
        if os.getpid() != self._process:
            raise StoreUnusableError(
                f"{self._path} was opened before this process was forked; open it after the fork"
            )
        check_place(self._path, self._claimed.inode)
        if self._claimed.check_lock is not None:
            self._claimed.check_lock()

    def read(self, size_bytes: int) -> bytes:
        """The beginning of the file that was claimed, past SQLite."""
        return os.pread(self._claimed.descriptor, size_bytes, 0)

    def close(self) -> None:
        """Give it up; the last one of this process to do so lets others have it."""
        claimed = self._claimed
        with _guard:
            if _claimed.get(claimed.inode) is not claimed:  # a child's copy
                return
            claimed.users -= 1
            if not claimed.users:
                del _claimed[claimed.inode]
                os.close(claimed.descriptor)

    def set_lock(self, check_lock: Callable[[], None] | None) -> None:
        """Have `check` look after a lock file, too, or no longer."""
        self._claimed.check_lock = check_lock


def claim(path: Path, on_wait: OnWait | None = None, *, for_lock: bool = False) -> Claim:
    """Claim the directory at `path`, or the file, which is created when it is missing.

    Waits for another process that has it when `on_wait` is given; else, and always for a second
    lock in this process, raises `StoreUnavailableError`. So it does for a file with several names.
    """
    while True:
        with _guard:
            shared = _shared(path, for_lock=for_lock)
            if shared is not None:
                return shared
            descriptor = _open(path)
            try:
                is_ours = try_lock(descriptor)
                if not is_ours and on_wait is None:
                    raise is_held(path, holder_of(inode_of(os.fstat(descriptor))))
                found = _registered(path, descriptor) if is_ours else None
            except BaseException:
                os.close(descriptor)
                raise
        if found is None and not is_ours and on_wait is not None:
            found = _wait(path, descriptor, on_wait)
        if found is not None:
            return found
        os.close(descriptor)  # the path leads elsewhere by now


def check_place(path: str, inode: Inode | None) -> None:
    """Raise `StoreUnavailableError` unless the path leads to the inode, the only one that does."""
    try:
        status = os.stat(path)  # noqa: PTH116 - before each commit
    except OSError:
        status = None
    if status is None or inode_of(status) != inode:
        raise StoreUnavailableError(
            f"{path} was moved, replaced or deleted while it was open; "
            "put it back, or start again to use what is there now"
        )
    check_links(path, status)


def check_links(path: Path | str, status: os.stat_result) -> None:
    """Raise `StoreUnavailableError` for a file with more than one name.

    SQLite's log is found by the database's name. Under another name its commits are missing, and
    who writes there has a log of its own (https://www.sqlite.org/howtocorrupt.html, 2.6).
    """
    if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
        raise StoreUnavailableError(
            f"{path} has {status.st_nlink} names (hard links), and a database may have only one. "
            f"'find DIRECTORY -samefile {shlex.quote(str(path))}' shows them; remove all but one, "
            "and make copies with 'cp' or VACUUM INTO"
        )


def inode_of(status: os.stat_result) -> Inode:
    """What identifies a file for as long as it exists."""
    return status.st_dev, status.st_ino


def holder_of(inode: Inode) -> str:
    """The process that has a `flock` on the inode, as far as the kernel says."""
    number = f":{inode[1]}"
    with suppress(OSError, ValueError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(number):
                return fields[4]
    return "unknown"


def _shared(path: Path, *, for_lock: bool) -> Claim | None:
    """The claim that this process has already."""
    try:
        claimed = _claimed.get(inode_of(path.stat()))
    except OSError:
        return None
    if claimed is None:
        return None
    if for_lock and claimed.check_lock is not None:
        raise is_held(path, str(os.getpid()))
    claimed.users += 1
    return Claim(path, claimed)


def _open(path: Path) -> int:
    try:
        if path.is_dir():
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        make_private_directory(path.parent)
        return open_private(path, os.O_RDWR)
    except OSError as error:
        raise StoreUnavailableError(
            f"{path}: {error.strerror}. Is the path right, and may this user write there?"
        ) from None


def _wait(path: Path, descriptor: int, on_wait: OnWait) -> Claim | None:
    try:
        on_wait(holder_of(inode_of(os.fstat(descriptor))))
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with _guard:
            return _registered(path, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def _registered(path: Path, descriptor: int) -> Claim | None:
    """The claim on what was locked; None when it is not at the path any more."""
    status = os.fstat(descriptor)
    check_links(path, status)
    try:
        is_there = inode_of(path.stat()) == inode_of(status)
    except OSError:
        is_there = False
    if not is_there:
        return None
    claimed = _claimed[inode_of(status)] = _Claimed(inode_of(status), descriptor, users=1)
    return Claim(path, claimed)


def is_held(path: Path, holder: str) -> StoreUnavailableError:
    """The error of who may not have a store, or its lock file, because a process has it."""
    return StoreUnavailableError(f"{path} is held by process {holder}; a store has one writer")


def _let_go_in_child() -> None:
    """A child has no claim, and must not keep the locks of a parent that dies.

    SQLite's locks are not inherited, so that closing these descriptors drops none.
    """
    for claimed in _claimed.values():
        os.close(claimed.descriptor)
    _claimed.clear()


os.register_at_fork(after_in_child=_let_go_in_child)
