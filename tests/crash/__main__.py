"""`python -m tests.crash`: the laboratory for long, with a report at its end.

Half of the minutes is load on each kind of store, with everything that can go wrong going wrong;
then workers are killed at all points until there are as many kills as asked for. The exit code is
1 when anything was lost, doubled, reordered or otherwise not as promised.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from tests.crash.endurance import Endurance, kill_until
from tests.crash.laboratory import SCHEMES, Tally
from tests.crash.report import Run, markdown
from tests.crash.server import CrashableServer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it all; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=5_000, help="workers to kill, at least")
    parser.add_argument("--minutes", type=float, default=10.0, help="of load, in all")
    parser.add_argument("--writers", type=int, default=8, help="producer processes in the load")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--report", type=Path, help="where to write the report, in Markdown")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    tallies = {scheme: Tally() for scheme in SCHEMES}
    directory = Path(tempfile.mkdtemp(prefix="backscroll-crash-"))
    console = Console(stderr=True)
    with progress_bar(console) as progress, CrashableServer(directory / "server") as server:
        for scheme, tally in tallies.items():
            place = directory / scheme
            endurance = Endurance(server, place, scheme, options.seed, tally, options.writers)
            seconds = 60 * options.minutes / len(tallies)
            task = progress.add_task(f"{scheme}: load", total=seconds, found="")
            endurance.run(seconds, bar(progress, task, tally))
            kills = options.kills // len(tallies)
            task = progress.add_task(f"{scheme}: kills", total=kills, found="")
            show = bar(progress, task, tally)
            kill_until(kills, server.url, place, scheme, options.seed, tally, show)
    command = f"python -m tests.crash --kills {options.kills} --minutes {options.minutes:g}"
    run = Run(command, options.seed, time.monotonic() - started, tallies)
    report = markdown(run)
    print(report)
    if options.report is not None:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(f"{report}\n")
    if run.violations:
        console.print(f"what is left of it is in {directory}", highlight=False)
        return 1
    shutil.rmtree(directory)
    return 0


def progress_bar(console: Console) -> Progress:
    """What is done, how long it took, and what was found until now."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[found]}"),
        console=console,
    )


def bar(progress: Progress, task: TaskID, tally: Tally) -> Callable[[float], None]:
    """What moves this task's bar."""

    def show(done: float) -> None:
        found = (
            f"{tally.operations:,} operations, {tally.kills.total():,} kills, "
            f"{len(tally.violations)} violations"
        )
        progress.update(task, completed=done, found=found)

    return show


if __name__ == "__main__":
    sys.exit(main())
