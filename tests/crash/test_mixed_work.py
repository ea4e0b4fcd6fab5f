"""All operations, from adapters of each kind, while workers die: a few kills of each."""

from __future__ import annotations

from pathlib import Path

from tests.crash.laboratory import Laboratory, Tally
from tests.crash.mixed import ADAPTERS, kill_in_mixed_work
from tests.crash.points import WORKER_POINTS


def test_mixed_work_of_all_adapters_outlives_kills(
    server_url: str, tmp_path: Path, scheme: str, tally: Tally
) -> None:
    with Laboratory(server_url, tmp_path / "mixed", scheme, 1, tally, writers=ADAPTERS) as mixed:
        kill_in_mixed_work(mixed, WORKER_POINTS)
        assert mixed.check() == []
    assert tally.kills.total() >= 8
