"""Runs the benchmarks: `python -m bench`, or `make bench`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from bench.measure import Row, attempted
from bench.program import Output, output_options, run
from bench.suite import BENCHMARKS, Plan


def _described() -> str:
    """What there is, by the first line of each description."""
    lines = (
        f"  {name:8} {(each.__doc__ or '').splitlines()[0]}" for name, each in BENCHMARKS.items()
    )
    return "\n".join(["\b", "Benchmarks:", *lines])


@click.command(context_settings={"help_option_names": ["-h", "--help"]}, epilog=_described())
@click.option("--quick", is_flag=True, help="Only test that everything works: few jobs, one run.")
@click.option(
    "--only", type=click.Choice(list(BENCHMARKS)), multiple=True, help="Only this benchmark."
)
@click.option("--runs", type=click.IntRange(min=1), help="How often to measure each; 3, or 1.")
@output_options
def main(
    quick: bool,
    only: tuple[str, ...],
    runs: int | None,
    json_file: Path | None,
    markdown: bool,
    directory: Path | None,
) -> None:
    """Measure worker and producers beside RQ's own and other queues, in one run.

    \b
    Example:
      python -m bench --json figures.json
      python -m bench --quick --only enqueue
    """

    def measure(url: str, place: Path, tell: Callable[[str], None]) -> Iterator[Row]:
        plan = Plan(url, place, runs or (1 if quick else 3), quick, tell)
        for benchmark in only or BENCHMARKS:
            yield from attempted(benchmark, partial(BENCHMARKS[benchmark], plan))

    run(measure, directory, Output(json_file, markdown))


if __name__ == "__main__":
    main()
