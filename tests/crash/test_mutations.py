"""The worker broken on purpose: a laboratory that noticed nothing would prove nothing.

That it finds nothing in a worker that is whole, `test_worker_kills.py` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from backscroll.contract.operations import OPERATIONS, Operation, Write
from tests.crash.endurance import KINDS
from tests.crash.hostile import (
    kill_at_the_limits,
    kill_while_clocks_jump,
    kill_while_files_are_touched,
    kill_while_the_server_refuses,
)
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.mixed import kill_in_mixed_work
from tests.crash.points import POINTS
from tests.crash.server import CrashableServer
from tests.crash.writer import Writer, WriterPlan

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

_SEEDS: Final = range(1, 5)
"""What is broken may not come up with the first one."""

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
    def is_noticed(seed: int) -> bool:
        place = tmp_path / f"laboratory{seed}"
        with Laboratory(server_url, place, scheme, seed, tally) as laboratory:
            for _ in range(8):
                laboratory.write(40)
                laboratory.live(laboratory.life(POINTS[point], mutant=mutant))
            laboratory.live(laboratory.life(mutant=mutant))
            found = {violation.kind for violation in laboratory.check()}
            laboratory.client.flushall()  # the next one is another store's
        return bool(kinds & found)

    assert any(map(is_noticed, _SEEDS))


@pytest.mark.parametrize(
    ("mutant", "scheme", "kinds"),
    [
        ("begin any turn", "jsonl", {"doubled", "altered"}),
        ("let no change wait", "sqlite", {"altered"}),
        ("fork everything", "jsonl", {"doubled"}),
        ("rename nothing", "sqlite", {"lost"}),
        ("merge the other way round", "jsonl", {"lost"}),
        ("reset nothing", "sqlite", {"lost"}),
        ("append to closed sessions", "jsonl", {"doubled"}),
        ("delete one instead of all", "jsonl", {"doubled"}),
        ("lose what is attached", "sqlite", {"lost"}),
        ("splice under no condition", "jsonl", {"lost", "doubled"}),
        ("pop one", "sqlite", {"doubled"}),
        ("append instead of backfilling", "jsonl", {"reordered"}),
    ],
)
def test_the_laboratory_notices_an_operation_that_does_something_else(
    server_url: str, tmp_path: Path, tally: Tally, mutant: str, scheme: str, kinds: set[str]
) -> None:
    def is_noticed(seed: int) -> bool:
        place = tmp_path / f"laboratory{seed}"
        with Laboratory(server_url, place, scheme, seed, tally) as laboratory:
            laboratory.write(600)
            laboratory.live(laboratory.life(mutant=mutant, settings=laboratory.settings))
            found = {violation.kind for violation in laboratory.check()}
            laboratory.client.flushall()  # the next one is another store's
        return bool(kinds & found)

    assert any(map(is_noticed, _SEEDS))


def test_the_laboratory_notices_that_another_author_is_erased(
    server_url: str, tmp_path: Path, tally: Tally
) -> None:
    place = tmp_path / "laboratory"
    with Laboratory(server_url, place, "sqlite", 1, tally, writers=_MIXED) as laboratory:
        laboratory.write(300)
        laboratory.live(laboratory.life(mutant="erase another author"))
        assert "left behind" in {violation.kind for violation in laboratory.check()}


def test_writers_ask_for_every_operation_that_changes_a_session(tmp_path: Path) -> None:
    """A new operation that nobody draws would be killed at no point."""
    plan = WriterPlan("w", 1, "redis://127.0.0.1:1", tmp_path / "journal", is_mixed=True)
    writer, drawn = Writer(plan), list[Operation]()
    for _ in range(2_000):
        drawn.append(writer._next_operation())
        writer._model.apply(drawn[-1:], now=1)
    writes = {kind for kind, operation in OPERATIONS.items() if issubclass(operation, Write)}
    assert writes <= {operation.kind for operation in drawn}


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
