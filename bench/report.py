"""Reports of the results: a table for people, Markdown for the documents, JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.measure import Figure, Row, Series

NARROWEST_TABLE: Final = 120
COLUMNS: Final = (
    "measured", "Backscroll", "compared with", "its figure", "ratio", "must reach", "reached"
)  # fmt: skip


def show_table(console: Console, rows: Sequence[Row], environment: dict[str, Any]) -> None:
    """One row per comparison: medians, and minimum and maximum of the runs."""
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(COLUMNS):
        table.add_column(column, no_wrap=True, justify="left" if index in (0, 2, 6) else "right")
    for row in rows:
        if row.problem:
            table.add_row(row.measured, *[""] * 5, Text("not measured", style="bold red"))
            continue
        cells = [f"{text}\n[dim]{small}[/dim]" for text, small in _cells(row)]
        style = "green" if row.is_met else "bold red"
        table.add_row(*cells, Text("yes" if row.is_met else "NO", style=style))
    console.width = max(console.width, NARROWEST_TABLE)
    console.print(table)
    for row in rows:
        if row.problem:
            console.print(Text(f"{row.measured}: not measured, {row.problem}"), soft_wrap=True)
    for line in _environment_lines(environment):
        console.print(Text(line, style="dim"), soft_wrap=True)


def as_markdown(rows: Sequence[Row], environment: dict[str, Any]) -> str:
    """The same as Markdown."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|---|--:|---|--:|--:|--:|---|"]
    for row in rows:
        if row.problem:
            problem = row.problem.replace("|", "\\|")
            lines.append(f"| {row.measured} | not measured: {problem} |  |  |  |  | **no** |")
            continue
        cells = [f"{text} ({small})" if small else text for text, small in _cells(row)]
        lines.append(f"| {' | '.join(cells)} | {'yes' if row.is_met else '**no**'} |")
    lines += ["", *(f"- {line}" for line in _environment_lines(environment))]
    return "\n".join(lines)


def write_json(
    path: Path, rows: Sequence[Row], environment: dict[str, Any], seconds: float
) -> None:
    """Everything: each run's figure, and the environment."""
    document = {
        "finished_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "environment": environment,
        "comparisons": [row.to_dict() for row in rows],
    }
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))


def _cells(row: Row) -> list[tuple[str, str]]:
    """Each cell's text, and the text below it."""
    ours = [(row.measured, row.ours.unit), (_figure(row.ours.median), _spread(row.ours))]
    if isinstance(row, Figure):
        return [*ours, ("", ""), ("", ""), ("", ""), (f"{row.bound} {row.ours.unit}", "")]
    return [
        *ours,
        (row.theirs.name, ""),
        (_figure(row.theirs.median), _spread(row.theirs)),
        (_figure(row.ratio), ""),
        (str(row.bound), ""),
    ]


def _spread(series: Series) -> str:
    if len(series.runs) == 1:
        return "one run"
    return f"{_figure(min(series.runs))} … {_figure(max(series.runs))}"


def _figure(value: float) -> str:
    """The figure with at least three digits, and no insignificant ones."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _environment_lines(environment: dict[str, Any]) -> list[str]:
    packages = " · ".join(f"{name} {found}" for name, found in environment["packages"].items())
    return [
        f"{environment['machine']} · {environment['system']} · {environment['file_system']}",
        f"Python {environment['python']} · {environment['server']} "
        f"(append-only {environment['appendonly']}) · SQLite {environment['sqlite']}",
        packages,
    ]
