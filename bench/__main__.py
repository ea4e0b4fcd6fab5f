"""Runs the benchmarks: `python -m bench`, or `make bench`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
from rich.console import Console

from bench.environment import describe_environment
from bench.measure import Comparison
from bench.report import as_markdown, show_table, write_json
from bench.suite import BENCHMARKS, Plan
from producer.errors import BackscrollError
from worker.server import running_server
from worker.settings import Settings

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="A look whether all of it works: few jobs, one run.")
@click.option("--only", type=click.Choice(list(BENCHMARKS)), multiple=True, help="Just this one.")
@click.option("--runs", type=click.IntRange(min=1), help="How often to measure each; 3, or 1.")
@click.option("--json", "json_file", type=FILE, metavar="FILE", help="Write everything to FILE.")
@click.option("--markdown", is_flag=True, help="Print Markdown instead of a table.")
@click.option("--directory", type=FOLDER, help="Where to write stores; a real disk, not a tmpfs.")
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
    console, log = Console(), Console(stderr=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="backscroll-bench-", dir=directory) as name:
        place = Path(name)
        settings = Settings(redis_url=None, data_dir=place, store=f"sqlite://{place}/unused.db")
        with running_server(settings) as url, log.status("starting") as status:
            plan = Plan(url, place, runs or (1 if quick else 3), quick, status.update)
            comparisons: list[Comparison] = []
            try:
                for benchmark in only or BENCHMARKS:
                    comparisons += BENCHMARKS[benchmark](plan)
            except BackscrollError as error:
                raise click.ClickException(str(error)) from error
            environment = describe_environment(url, place)
    if markdown:
        click.echo(as_markdown(comparisons, environment))
    else:
        show_table(console, comparisons, environment)
    if json_file is not None:
        write_json(json_file, comparisons, environment, time.monotonic() - began)
    log.print(f"took {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
