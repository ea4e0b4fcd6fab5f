"""What a run of the laboratory did and found, in Markdown for docs/guarantees.md."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

import apsw

from tests.crash.checker import Violation
from tests.crash.laboratory import KindTally, Tally

_LOSSES: Final = ("lost",)
_DUPLICATES: Final = ("doubled",)
_REORDERINGS: Final = ("reordered", "altered")
_MOST_VIOLATIONS: Final = 50


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that is reported; `tallies` are by kind of store."""

    command: str
    seed: int
    seconds: float
    tallies: dict[str, Tally]

    @property
    def violations(self) -> list[Violation]:
        """Of all stores."""
        return [found for tally in self.tallies.values() for found in tally.violations]


def markdown(run: Run) -> str:
    """The report as a section."""
    return "\n".join(
        [*_summary(run), "", *_kinds(run), "", *_kills(run), "", *_notes(run), *_violations(run)]
    )


def _summary(run: Run) -> Iterator[str]:
    minutes, seconds = divmod(round(run.seconds), 60)
    yield f"`{run.command}` (seed {run.seed}) took {minutes} min {seconds} s on {os.cpu_count()}"
    yield f"cores, with Python {platform.python_version()} and SQLite {apsw.sqlite_lib_version()}."
    yield ""
    schemes = list(run.tallies)
    yield f"| | {' | '.join(schemes)} |"
    yield f"|---|{'---:|' * len(schemes)}"
    tallies = run.tallies.values()
    rows: list[tuple[str, list[int]]] = [
        ("acknowledged operations", [tally.operations for tally in tallies]),
        ("stores compared with the model", [tally.rounds for tally in tallies]),
        ("workers killed", [tally.kills.total() for tally in tallies]),
        ("other faults", [tally.faults.total() for tally in tallies]),
        ("losses", [_count(tally, _LOSSES) for tally in tallies]),
        ("duplicates", [_count(tally, _DUPLICATES) for tally in tallies]),
        ("reorderings", [_count(tally, _REORDERINGS) for tally in tallies]),
        ("other violations", [_count(tally, ()) for tally in tallies]),
    ]
    for name, values in rows:
        yield f"| {name} | {' | '.join(f'{value:,}' for value in values)} |"


def _kinds(run: Run) -> Iterator[str]:
    """A row for each kind of round, with the sums over all stores."""
    yield "| kind of round | rounds | acknowledged operations | kills | violations |"
    yield "|---|---:|---:|---:|---:|"
    names = dict.fromkeys(name for tally in run.tallies.values() for name in tally.kinds)
    for name in names:
        parts = [tally.kinds[name] for tally in run.tallies.values() if name in tally.kinds]
        sums = [sum(getattr(part, field.name) for part in parts) for field in fields(KindTally)]
        yield f"| {name} | {' | '.join(f'{value:,}' for value in sums)} |"


def _count(tally: Tally, kinds: tuple[str, ...]) -> int:
    """Violations of these kinds; without any, those of no kind that has a row of its own."""
    known = (*_LOSSES, *_DUPLICATES, *_REORDERINGS)
    return sum(
        found.kind in kinds if kinds else found.kind not in known for found in tally.violations
    )


def _kills(run: Run) -> Iterator[str]:
    schemes = list(run.tallies)
    yield f"| a worker was killed | {' | '.join(schemes)} |"
    yield f"|---|{'---:|' * len(schemes)}"
    yield from _rows([tally.kills for tally in run.tallies.values()])
    yield f"| **other faults** |{' |' * len(schemes)}"
    yield from _rows([tally.faults for tally in run.tallies.values()])


def _rows(counters: list[Counter[str]]) -> Iterator[str]:
    names = dict.fromkeys(name for counter in counters for name in sorted(counter))
    for name in names:
        yield f"| {name} | {' | '.join(f'{counter[name]:,}' for counter in counters)} |"


def _notes(run: Run) -> Iterator[str]:
    for scheme, tally in run.tallies.items():
        yield from (f"- {scheme}: {note}" for note in tally.notes)


def _violations(run: Run) -> Iterator[str]:
    if run.violations:
        yield ""
        yield "**Violations:**"
        yield from (f"- {found}" for found in run.violations[:_MOST_VIOLATIONS])
