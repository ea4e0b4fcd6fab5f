"""Which programs keep SQLite's log (WAL) by a long read transaction, such as Litestream.

Meanwhile the log cannot be reset: it grows, a compaction frees no space, and erased text is still
in it.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from backscroll_worker.stores import store_at

HELD_ADVICE: Final = (
    "stop the program that reads the store, then run 'backscroll compact'; until then the log "
    "grows and keeps erased text"
)

# A reader holds one of SQLite's five read locks, which are bytes of the shared memory's file.
# https://www.sqlite.org/walformat.html#wal_locks
_READ_LOCKS: Final = range(123, 128)
_LOOK_SECONDS: Final = 0.5  # a read by the worker or a command takes less
_PAUSE_SECONDS: Final = 0.02
_LONG_BYTES: Final = 64 * 1024 * 1024  # the worker resets the log earlier, if it can


def held_log(url: str) -> str | None:
    """Which process keeps the log of the SQLite store at `url`, or its size; None if it is fine.

    Takes half a second if there is a reader at the moment. Call it while this process does not have
    the store open.
    """
    if (place := store_at(url).path) is None:
        return None
    path = place.resolve()
    if holders := _lasting_readers(path):
        return f"{', '.join(map(_named, sorted(holders)))} keeps SQLite's log of {path}"
    size = _size(path.with_name(f"{path.name}-wal"))
    if size > _LONG_BYTES:
        return f"SQLite's log of {path} has grown to {size >> 20:,} MiB: a program may keep it"
    return None


def _lasting_readers(path: Path) -> set[int]:
    """The processes that are in a read transaction in each of many samples."""
    readers, deadline = _readers(path), time.monotonic() + _LOOK_SECONDS
    while readers and time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        readers &= _readers(path)
    return readers


def _readers(path: Path) -> set[int]:
    """The processes in a read transaction now, as reported by the kernel (Linux only)."""
    readers: set[int] = set()
    with suppress(OSError, ValueError):
        number = f":{path.with_name(f'{path.name}-shm').stat().st_ino}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            _, kind, *_, process, file, start, end = line.split()
            if kind == "POSIX" and file.endswith(number) and _is_read_lock(start, end):
                readers.add(int(process))
    return readers - {os.getpid()}


def _is_read_lock(start: str, end: str) -> bool:
    return end != "EOF" and int(start) in _READ_LOCKS and int(end) in _READ_LOCKS


def _named(process: int) -> str:
    with suppress(OSError):
        name = Path(f"/proc/{process}/comm").read_text(errors="replace").strip()
        return f"process {process} ({name})"
    return f"process {process}"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
