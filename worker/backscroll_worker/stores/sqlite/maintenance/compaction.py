"""Compaction: delete expired op ids, and return the space of deleted rows to the file system."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, Final

import apsw

from backscroll.contract.results import CompactReport
from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.pacing import Pace, Slices
from backscroll_worker.stores.sqlite.access import Access, Door
from backscroll_worker.stores.sqlite.folding import refolded
from backscroll_worker.stores.sqlite.maintenance.author_erasure import finish_lost
from backscroll_worker.stores.sqlite.maintenance.purge import purge_detached
from backscroll_worker.stores.sqlite.maintenance.space import (
    give_pages_back,
    merge_indexes,
    repack,
    with_checkpoints,
)
from backscroll_worker.stores.sqlite.scrub import scrub

PATIENCE_SECONDS: Final = 5.0


def compact(
    access: Access, size_bytes: Callable[[], int], old: Cutoff, waited: Cutoff
) -> Slices[CompactReport]:
    """Delete old op ids, merge indexes, rebuild older ones, pack tables, free pages, wipe text."""
    started, before = time.monotonic(), size_bytes()
    with access.repeatable() as connection:
        too_long = waited.condition("noted_at")
        for table in ("waiting_changes", "popped"):
            connection.execute(f"DELETE FROM {table} WHERE {too_long}")  # noqa: S608
    purged = yield from with_checkpoints(access, _tidied(access, old))
    with access.outside() as connection:
        connection.execute("PRAGMA optimize").fetchall()
    yield
    is_empty = yield from scrub(access, PATIENCE_SECONDS)
    seconds = time.monotonic() - started
    return CompactReport(before, size_bytes(), purged, 0, seconds, log_is_held=not is_empty)


def _tidied(access: Access, old: Cutoff) -> Slices[int]:
    with access.repeatable() as connection:
        _forget_erasures(connection, old)
    yield from finish_lost(access)
    yield from purge_detached(access.repeatable)
    purged = yield from _purge_op_ids(access.repeatable, old)
    yield from refolded(access.repeatable)
    yield from _forget_platform_ids(access.repeatable, old)
    yield from merge_indexes(access.repeatable)
    yield from repack(access)
    yield from give_pages_back(access.repeatable)
    return purged


def _forget_erasures(connection: apsw.Connection, old: Cutoff) -> None:
    """Delete old tombstones and erasures; what an erasure left is purged as after a cleanup."""
    connection.execute(f"DELETE FROM erased WHERE {old.condition('noted_at')}")  # noqa: S608
    connection.execute(f"DELETE FROM erasures WHERE {old.condition('noted_at')}")  # noqa: S608
    connection.execute(f"DELETE FROM session_renames WHERE {old.condition('noted_at')}")  # noqa: S608
    connection.execute("DELETE FROM erasing WHERE op_id NOT IN (SELECT op_id FROM erasures)")


def _forget_platform_ids(door: Door, old: Cutoff) -> Generator[None]:
    """Delete the old ones of messages that are gone, some sessions at a time."""
    pace, after = Pace(100, most=2_000), -1
    while after is not None:
        with pace.slice() as count, door() as connection:
            last: Any = connection.execute(
                "SELECT session_id FROM gone_platform_ids WHERE session_id > ?"
                " ORDER BY session_id LIMIT 1 OFFSET ?",
                (after, count),
            ).get
            connection.execute(
                "DELETE FROM gone_platform_ids WHERE session_id > ? AND session_id <= ?"  # noqa: S608
                f" AND {old.condition('noted_at')}",
                (after, 2**63 - 1 if last is None else last),
            )
        after = last
        yield


def _purge_op_ids(door: Door, old: Cutoff) -> Generator[None, None, int]:
    """Scan the op ids in order, a range at a time, and delete the old ones."""
    start: bytes | str = ""  # text, from other programs, comes before ours
    pace, purged = Pace(1_000, most=20_000), 0
    while True:
        with pace.slice() as count, door() as connection:
            end = connection.execute(
                "SELECT op_id FROM applied WHERE op_id > ? ORDER BY op_id LIMIT 1 OFFSET ?",
                (start, count),
            ).get
            stretch = "op_id > ?" if end is None else "op_id > ? AND op_id <= ?"
            bounds = (start,) if end is None else (start, end)
            table, is_old = f"applied WHERE {stretch}", old.condition("applied_at")
            gone = connection.execute(
                f"DELETE FROM {table} AND {is_old} RETURNING 1",  # noqa: S608
                bounds,
            )
            purged += len(gone.fetchall())
            latest: Any = connection.execute(
                f"SELECT ifnull(max(applied_at), 0) FROM {table}",  # noqa: S608
                bounds,
            ).get
            old.latest = max(old.latest, latest)
        if end is None:
            return purged
        start = end
        yield
