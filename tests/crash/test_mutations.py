"""The worker broken on purpose: a laboratory that noticed nothing would prove nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.crash.endurance import KINDS
from tests.crash.hostile import (
    kill_at_the_limits,
    kill_while_clocks_jump,
    kill_while_files_are_touched,
    kill_while_the_server_refuses,
)
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.mixed import kill_in_mixed_work
from tests.crash.points import POINTS, WORKER_POINTS
from tests.crash.server import CrashableServer

FEW = (POINTS["acknowledgement sent, not read"],) * 4
ROUNDS: Final[Mapping[str, Callable[[Laboratory], None]]] = {
    "mixed work": lambda each: kill_in_mixed_work(each, FEW),
    "clocks jump": lambda each: kill_while_clocks_jump(each, FEW),
    "files touched": lambda each: kill_while_files_are_touched(each, FEW),
    "server refuses": lambda each: kill_while_the_server_refuses(each, 2),
    "limits": lambda each: kill_at_the_limits(each, FEW),
}


_MIXED: Final[Sequence[Mapping[str, Any]]] = (
    {"is_mixed": True, "acks": ("queued", "fsynced")},
) * 3

# A deletion in another place takes other messages, and one edit before another leaves another text.
_OUT_OF_ORDER = {"reordered", "altered", "doubled"}


@pytest.mark.parametrize(
    ("mutant", "scheme", "point", "kinds"),
    [
        ("skip the op id record", "sqlite", "after commit, before acknowledgement", {"doubled"}),
        ("acknowledge before commit", "sqlite", "inside the transaction", {"lost"}),
        ("acknowledge before commit", "jsonl", "inside the transaction", {"lost"}),
        ("put back in the wrong order", "sqlite", "after reserve", _OUT_OF_ORDER),
        ("put back in the wrong order", "jsonl", "after reserve", _OUT_OF_ORDER),
        ("do not sync", "sqlite", "power lost", {"lost"}),
        ("do not sync", "jsonl", "power lost", {"lost"}),
        ("begin any turn", "jsonl", "after recovery", {"doubled", "altered"}),
        ("erase another author", "sqlite", "after recovery", {"left behind"}),
        ("let no change wait", "sqlite", "after recovery", {"altered"}),
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
    writers = _MIXED if mutant.startswith("erase") else 3
    place = tmp_path / "laboratory"
    with Laboratory(server_url, place, scheme, 1, tally, writers=writers) as laboratory:
        for _ in range(8):
            laboratory.write(40)
            laboratory.live(laboratory.life(POINTS[point], mutant=mutant))
        laboratory.live(laboratory.life(mutant=mutant))
        found = {violation.kind for violation in laboratory.check()}
    assert kinds & found


@pytest.mark.parametrize(
    ("kind", "mutant", "scheme", "found"),
    [
        ("mixed work", "ignore what comes with an append", "sqlite", "altered"),
        ("clocks jump", "believe any clock", "sqlite", "doubled"),
        ("server refuses", "skip the op id record", "sqlite", "doubled"),
        ("limits", "cut long messages", "sqlite", "altered"),
    ],
)
def test_each_kind_of_round_notices_a_worker_that_is_broken(
    crashable: CrashableServer,
    tmp_path: Path,
    tally: Tally,
    kind: str,
    mutant: str,
    scheme: str,
    found: str,
) -> None:
    of_kind = next(each for each in KINDS if each.name == kind)

    def is_noticed(attempt: int) -> bool:
        place = tmp_path / f"broken{attempt}"
        with Laboratory(crashable.url, place, scheme, 1, tally, writers=of_kind.writers) as broken:
            broken.mutant = mutant
            ROUNDS[kind](broken)
            return found in {violation.kind for violation in broken.check()}

    assert any(map(is_noticed, range(3)))  # where a kill strikes is the machine's choice


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_the_laboratory_has_nothing_to_say_of_a_worker_that_is_whole(
    laboratory: Laboratory,
) -> None:
    for point in WORKER_POINTS[:8]:
        laboratory.write(40)
        laboratory.live(laboratory.life(point))
    laboratory.drain()
    assert laboratory.check() == []
