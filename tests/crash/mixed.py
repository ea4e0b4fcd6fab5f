"""Rounds of everything that the contract has, from adapters of each kind, while workers die."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.crash.laboratory import Laboratory
from tests.crash.points import UPKEEP_POINTS, Point

ADAPTERS: Final[Sequence[Mapping[str, Any]]] = (
    {"is_mixed": True, "acks": ("queued", "fsynced")},
    {"is_mixed": True, "acks": ("queued", "fsynced"), "is_async": True},
    {"is_mixed": True, "spool": True},
    {"is_mixed": True, "spool": True, "is_async": True},
)
_TO_CLEAN_UP: Final = 30
_TO_RESTORE: Final = 3


def kill_in_mixed_work(laboratory: Laboratory, points: Sequence[Point]) -> None:
    """Deaths while all operations are queued, cleanups, compactions and erasures among them.

    The writers are to be `ADAPTERS`. Then what a cleanup has archived is restored, with deaths, and
    each adapter reads what it wrote.
    """
    for number, point in enumerate(points):
        if number % 5 == 0:
            laboratory.age(_TO_CLEAN_UP)
            laboratory.queue_maintenance()
        laboratory.write(8)
        life = laboratory.life(point)
        process = life.start()
        laboratory.write(12)
        laboratory.end(process, life)
    laboratory.drain()
    laboratory.queue_restorations(_TO_RESTORE)
    for point in UPKEEP_POINTS:
        laboratory.live(laboratory.life(point))
    laboratory.drain()
    _read_back(laboratory)


def _read_back(laboratory: Laboratory) -> None:
    life = laboratory.life(burst=False)
    process = laboratory.begin(life)
    for writer in laboratory.writers:
        writer.read_back()
    laboratory.end(process, life, kill_after_seconds=0.0)
    laboratory.drain()
