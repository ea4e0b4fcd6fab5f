"""Rounds of a laboratory: what is killed when. Each leaves a store to be checked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import orjson

from backscroll_worker.testing.stores import open_tested
from tests.crash.checker import Violation
from tests.crash.laboratory import Laboratory
from tests.crash.points import MIGRATION_POINTS, UPKEEP_POINTS, Point

_ATTEMPTS: Final = 3
_SESSIONS_TO_MIGRATE: Final = 6


def kill_at_points(laboratory: Laboratory, points: Sequence[Point], operations: int = 20) -> None:
    """A death at each point, with some operations waiting for it; then the rest is done."""
    for point in points:
        for _ in range(_ATTEMPTS):  # not every life comes as far as its point
            laboratory.write(operations)
            if laboratory.live(laboratory.life(point)):
                break
    laboratory.drain()


def kill_at_random_times(laboratory: Laboratory, kills: int) -> None:
    """Kills from outside, whatever the worker is doing."""
    longest = 0.06  # how long a life lasts differs between machines, and is found out
    for _ in range(kills):
        is_killed = False
        while not is_killed:
            laboratory.write(20)
            seconds = laboratory.random.uniform(0.005, longest)
            is_killed = laboratory.live(laboratory.life(), kill_after_seconds=seconds)
            longest *= 1.03 if is_killed else 0.9
    laboratory.drain()


def kill_in_maintenance(laboratory: Laboratory, times: int) -> None:
    """Kills between and within the slices of cleanups and compactions, with jobs among them."""
    is_done = True
    for point in UPKEEP_POINTS * times:
        for _ in range(_ATTEMPTS):
            if is_done:
                laboratory.age(250)  # more than one slice takes away
                laboratory.queue_maintenance()
            laboratory.write(5)
            is_done = not laboratory.live(laboratory.life(point))
            if not is_done:
                break
    laboratory.drain()


def kill_in_migration(laboratory: Laboratory, times: int) -> None:
    """Kills while JSONL files are taken over into the store; then it is brought to its end."""
    for number, point in enumerate(MIGRATION_POINTS * times):
        source = laboratory.directory / f"old-{number}"
        expected = _old_files(source, number)
        for _ in range(3):
            laboratory.live(laboratory.life(point, migrates=source))
        laboratory.live(laboratory.life(migrates=source))
        laboratory.tally.violations += _check_migration(laboratory, source, expected)


def _old_files(directory: Path, number: int) -> dict[str, list[str]]:
    """A folder of the original's sessions; what each of them says."""
    directory.mkdir()
    said = {
        f"old-{number}-{session}": [f"{session} said {line}" for line in range(30)]
        for session in range(_SESSIONS_TO_MIGRATE)
    }
    for key, lines in said.items():
        content = b"".join(
            orjson.dumps({"role": "user", "content": line}) + b"\n" for line in lines
        )
        (directory / f"{key}.jsonl").write_bytes(content)
    return said


def _check_migration(
    laboratory: Laboratory, source: Path, expected: dict[str, list[str]]
) -> list[Violation]:
    found: list[Violation] = []
    left = sorted(path.name for path in source.glob("*.jsonl"))
    if left:
        found.append(Violation("left behind", str(source), f"{left}"))
    with open_tested(laboratory.settings.store, read_only=True) as store:
        for key, lines in expected.items():
            seen = [message.content for message in store.load(key)]
            if seen != lines:
                kind = "lost" if len(seen) < len(lines) else "doubled"
                detail = f"{len(seen)} messages instead of {len(lines)}"
                found.append(Violation(kind, key, detail))
        found += [Violation("damaged", each.where, each.problem) for each in store.verify()]
    return found
