"""What the benchmarks' programs share: a server, a directory for stores, and their output."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from bench.environment import describe_environment
from bench.measure import Row
from bench.report import as_markdown, show_table, write_json

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


def _made(_context: click.Context, _option: click.Parameter, file: Path | None) -> Path | None:
    """Create the file now, so that an error is not found after half an hour."""
    if file is not None:
        try:
            file.touch()
        except OSError as error:
            raise click.BadParameter(f"cannot write there: {error}") from error
    return file


@dataclass(frozen=True, slots=True)
class Output:
    """How the rows are printed."""

    json_file: Path | None
    markdown: bool


Measure = Callable[[str, Path, Callable[[str], None]], Iterable[Row]]
"""Measures, given a server's URL, a directory for stores, and a callback for progress."""


def run(measure: Measure, directory: Path | None, output: Output) -> None:
    """Measure and show everything; exits with 1 when a measurement failed."""
    console, log = Console(), Console(stderr=True)
    began = time.monotonic()
    with _place(directory) as (url, place), log.status("starting") as status:
        rows = list(measure(url, place, status.update))
        environment = describe_environment(url, place)
    if output.markdown:
        click.echo(as_markdown(rows, environment))
    else:
        show_table(console, rows, environment)
    if output.json_file is not None:
        write_json(output.json_file, rows, environment, time.monotonic() - began)
    log.print(f"took {time.monotonic() - began:.0f} s")
    if any(row.problem for row in rows):
        raise click.exceptions.Exit(1)


@contextmanager
def _place(directory: Path | None) -> Iterator[tuple[str, Path]]:
    with tempfile.TemporaryDirectory(prefix="backscroll-bench-", dir=directory) as name:
        place = Path(name)
        settings = Settings(redis_url=None, data_dir=place, store=f"sqlite://{place}/unused.db")
        with running_server(settings) as url:
            yield url, place


def output_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options for the paths of stores and figures."""
    for option in (
        click.option("--directory", type=FOLDER, help="Where to write stores; not a tmpfs."),
        click.option("--markdown", is_flag=True, help="Print Markdown instead of a table."),
        click.option(
            "--json",
            "json_file",
            type=FILE,
            metavar="FILE",
            callback=_made,
            help="Write everything to FILE.",
        ),
    ):
        command = option(command)
    return command
