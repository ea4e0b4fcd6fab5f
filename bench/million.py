"""Measures a store with a million messages: `python -m bench.million`, or `make bench-million`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import click

from bench.arena import arena
from bench.measure import Row
from bench.million_suite import Scale, measure
from bench.program import Output, output_options, run


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Only test that everything works, with few messages.")
@output_options
def main(quick: bool, json_file: Path | None, markdown: bool, directory: Path | None) -> None:
    """Measure a store with 1,000,000 messages in 20,000 sessions, in one run.

    \b
    Example:
      python -m bench.million --json figures.json
      python -m bench.million --quick
    """
    scale = Scale.quick() if quick else Scale()

    def measured(url: str, place: Path, tell: Callable[[str], None]) -> Iterator[Row]:
        with arena(url, place) as fresh:
            yield from measure(fresh, scale, tell)

    run(measured, directory, Output(json_file, markdown))


if __name__ == "__main__":
    main()
