"""Workers killed with SIGKILL at every point that has a name, and at any time."""

from __future__ import annotations

import pytest

from tests.crash.laboratory import Laboratory, Tally
from tests.crash.points import UPKEEP_POINTS, WORKER_POINTS
from tests.crash.rounds import (
    kill_at_points,
    kill_at_random_times,
    kill_in_maintenance,
    kill_in_migration,
)

# Over both stores, at least 2 x (2 x 13 + 30 + 18 + 24) = 196 kills; `make chaos` has thousands.


@pytest.mark.parametrize("time", range(2))
def test_a_worker_killed_at_named_points_loses_doubles_reorders_nothing(
    laboratory: Laboratory, tally: Tally, time: int
) -> None:
    laboratory.random.seed(time)
    kill_at_points(laboratory, WORKER_POINTS)
    assert laboratory.check() == []
    assert tally.kills.total() >= 13
    assert tally.operations >= 250


def test_a_worker_killed_at_any_time_loses_doubles_and_reorders_nothing(
    laboratory: Laboratory, tally: Tally
) -> None:
    kill_at_random_times(laboratory, 30)
    assert laboratory.check() == []
    assert tally.kills.total() == 30


def test_a_worker_killed_in_cleanup_and_compaction_completes_them(
    laboratory: Laboratory, tally: Tally
) -> None:
    kill_in_maintenance(laboratory, 7)
    assert laboratory.check() == []
    assert tally.kills.total() >= 18
    assert len(tally.kills) == len(UPKEEP_POINTS)


def test_a_migration_killed_at_any_point_takes_each_file_over_once(
    laboratory: Laboratory, tally: Tally
) -> None:
    kill_in_migration(laboratory, 2)
    assert tally.violations == []
    assert tally.kills.total() >= 24
