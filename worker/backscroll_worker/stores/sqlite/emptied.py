"""When sessions were deleted or cleared, by hash, for operations that leave a spool afterwards.

These records are in the table of erasures' tombstones and expire with them, but are looked up in
the table: millions of sessions may be deleted, and few operations come from spools.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

from backscroll.contract.messages import LATEST_MICROS
from backscroll.contract.operations import Operation
from backscroll_worker.contract.tombstones import Tombstones, digest, undone_by

ERASED_BYTES: Final = 32
"""The length of an erasure's digest. Digests here are a byte longer, to be distinguishable."""


def note(
    connection: apsw.Connection, how: str, operation: Operation, key: str, latest: int, now: int
) -> None:
    """Record that the session was "deleted" or "cleared"; `latest` limits a clock that is ahead."""
    connection.execute(
        "INSERT INTO erased(digest, erased_at, noted_at) VALUES (?, ?, ?) ON CONFLICT(digest)"
        " DO UPDATE SET erased_at = max(erased_at, excluded.erased_at),"
        " noted_at = max(noted_at, excluded.noted_at)",
        (_name(how, key), min(operation.at, latest), now),
    )


def is_late(
    connection: apsw.Connection,
    operation: Operation,
    key: str,
    tombstones: Tombstones,
    since: int = -1,
    until: int = LATEST_MICROS,
) -> bool:
    """Whether the operation's session was deleted or cleared after the operation was requested.

    Before `since` and after `until` another session had the key.
    """
    sql = "SELECT erased_at FROM erased WHERE digest = ?"
    moments: list[Any] = [
        connection.execute(sql, (_name(how, key),)).get for how in undone_by(operation)
    ]
    return tombstones.is_obsolete(operation, key, moments, since, until)


def _name(how: str, key: str) -> bytes:
    return digest(how, key) + how[:1].encode()
