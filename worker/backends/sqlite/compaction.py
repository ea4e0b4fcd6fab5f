"""Compaction: forget old op ids, and give the disk back what deleted rows held."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Final

import apsw

from producer.answers import CompactReport
from worker.backends.base import Slices
from worker.backends.sqlite.detached import purge_detached
from worker.backends.sqlite.scrub import scrub
from worker.backends.sqlite.slices import Access, Door
from worker.backends.sqlite.space import (
    give_pages_back,
    merge_indexes,
    repack,
    with_checkpoints,
)
from worker.pace import Pace

_PATIENCE_SECONDS: Final = 5.0


def compact(
    access: Access, size_bytes: Callable[[], int], op_ids_before: int
) -> Slices[CompactReport]:
    """Purge old op ids, merge the index, pack tables, give free pages back, wipe what is left."""
    started, before = time.monotonic(), size_bytes()
    purged = yield from with_checkpoints(access, _tidied(access, op_ids_before))
    with access.outside() as connection:
        connection.execute("PRAGMA optimize").fetchall()
    yield
    yield from scrub(access, _PATIENCE_SECONDS)
    return CompactReport(before, size_bytes(), purged, 0, time.monotonic() - started)


def _tidied(access: Access, op_ids_before: int) -> Slices[int]:
    with access.repeatable() as connection:
        _forget_erasures(connection, op_ids_before)
    yield from purge_detached(access.repeatable)
    purged = yield from _purge_op_ids(access.repeatable, op_ids_before)
    yield from merge_indexes(access.repeatable)
    yield from repack(access)
    yield from give_pages_back(access.repeatable)
    return purged


def _forget_erasures(connection: apsw.Connection, before: int) -> None:
    """Drop what was noted before; what one of them has left goes as a cleanup's sessions do."""
    connection.execute("DELETE FROM erased WHERE noted_at < ?", (before,))
    connection.execute("DELETE FROM erasures WHERE noted_at < ?", (before,))
    connection.execute("DELETE FROM erasing WHERE op_id NOT IN (SELECT op_id FROM erasures)")


def _purge_op_ids(door: Door, before: int) -> Generator[None, None, int]:
    """Go through the op ids in their order, a stretch at a time, and drop the old ones."""
    start: bytes | str = ""  # text, from other programs, comes before ours
    pace, purged = Pace(1_000, most=20_000), 0
    while True:
        with pace.slice() as count, door() as connection:
            end = connection.execute(
                "SELECT op_id FROM applied WHERE op_id > ? ORDER BY op_id LIMIT 1 OFFSET ?",
                (start, count),
            ).get
            bound = "" if end is None else "AND op_id <= ?"
            purged += len(
                connection.execute(
                    f"DELETE FROM applied WHERE op_id > ? {bound} AND applied_at < ?"  # noqa: S608
                    " RETURNING 1",
                    (start, before) if end is None else (start, end, before),
                ).fetchall()
            )
        if end is None:
            return purged
        start = end
        yield
