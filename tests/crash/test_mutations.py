"""The worker broken on purpose: a laboratory that noticed nothing would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.laboratory import Laboratory, Tally
from tests.crash.points import POINTS, WORKER_POINTS


@pytest.mark.parametrize(
    ("mutant", "scheme", "point", "kinds"),
    [
        ("skip the op id record", "sqlite", "after commit, before acknowledgement", {"doubled"}),
        ("acknowledge before commit", "sqlite", "inside the transaction", {"lost"}),
        ("acknowledge before commit", "jsonl", "inside the transaction", {"lost"}),
        ("put back in the wrong order", "sqlite", "after reserve", {"reordered"}),
        ("put back in the wrong order", "jsonl", "after reserve", {"reordered"}),
        ("do not sync", "sqlite", "power lost", {"lost"}),
        ("do not sync", "jsonl", "power lost", {"lost"}),
    ],
)
def test_the_laboratory_notices_a_worker_that(
    server_url: str,
    tmp_path: Path,
    tally: Tally,
    mutant: str,
    scheme: str,
    point: str,
    kinds: set[str],
) -> None:
    with Laboratory(server_url, tmp_path / "laboratory", scheme, 1, tally) as laboratory:
        for _ in range(8):
            laboratory.write(40)
            laboratory.live(laboratory.life(POINTS[point], mutant=mutant))
        laboratory.live(laboratory.life(mutant=mutant))
        found = {violation.kind for violation in laboratory.check()}
    assert kinds <= found


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_the_laboratory_has_nothing_to_say_of_a_worker_that_is_whole(
    laboratory: Laboratory,
) -> None:
    for point in WORKER_POINTS[:8]:
        laboratory.write(40)
        laboratory.live(laboratory.life(point))
    laboratory.drain()
    assert laboratory.check() == []
