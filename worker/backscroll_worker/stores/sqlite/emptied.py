"""When sessions were deleted or cleared, by hash, for what comes out of a spool afterwards.

They lie among the tombstones of erasures and go with them, but are looked up in the table: sessions
may be deleted by the million, and little comes out of spools.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

from backscroll.contract.operations import Operation
from backscroll_worker.contract.tombstones import Tombstones, digest, undone_by

ERASED_BYTES: Final = 32
"""Of an erasure's digest. One of these is a byte longer, so that nobody takes it for one."""


def note(
    connection: apsw.Connection, how: str, operation: Operation, key: str, latest: int, now: int
) -> None:
    """That the session was "deleted" or "cleared". `latest` bounds a clock that is ahead."""
    connection.execute(
        "INSERT INTO erased(digest, erased_at, noted_at) VALUES (?, ?, ?) ON CONFLICT(digest)"
        " DO UPDATE SET erased_at = max(erased_at, excluded.erased_at),"
        " noted_at = max(noted_at, excluded.noted_at)",
        (_name(how, key), min(operation.at, latest), now),
    )


def is_late(
    connection: apsw.Connection, operation: Operation, key: str, tombstones: Tombstones
) -> bool:
    """Whether what the operation is about was taken away after it was asked for."""
    for how in undone_by(operation):
        sql = "SELECT erased_at FROM erased WHERE digest = ?"
        emptied_at: Any = connection.execute(sql, (_name(how, key),)).get
        if emptied_at is not None and tombstones.is_before(operation.at, emptied_at):
            return True
    return False


def _name(how: str, key: str) -> bytes:
    return digest(how, key) + how[:1].encode()
