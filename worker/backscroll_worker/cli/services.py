"""The commands that run until they are stopped, and the demo."""

# ruff: noqa: PLC0415 - each needs packages that the others do not need
from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from backscroll_worker.cli import logs
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from backscroll_worker.stores.identity import ANY_STORE

_accept_store = click.option(
    "--accept-store",
    is_flag=True,
    flag_value=ANY_STORE,
    default=None,
    help="Accept this store in place of the one that the queue was stored into before.",
)


def _stop_by_signals() -> None:
    """Let SIGTERM also end a service that is still starting, with all that it has started.

    Closing the terminal (SIGHUP) has the same effect.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


@contextmanager
def _server(settings: Settings) -> Iterator[str]:
    """The URL of the server, for a service that logs and that a signal ends."""
    logs.configure(settings.log_level, dated=True)
    _stop_by_signals()
    with running_server(settings) as url:
        yield url


@click.command()
@click.option("--stay", is_flag=True, help="Keep running, with rq-dashboard, until Ctrl-C.")
@click.pass_obj
def demo(settings: Settings, stay: bool) -> None:
    """Replay real conversations and check what was stored.

    They pass through adapters, queue, worker and store in a new directory, on an embedded server of
    their own, and every session is compared with what was sent.

    \b
    Example:
      backscroll demo
      backscroll demo --stay
    """
    from backscroll_worker.demo import run_demo

    if not run_demo(settings, Console(), stay=stay):
        raise click.exceptions.Exit(ExitCode.FAILED)


@click.command()
@_accept_store
@click.pass_obj
def up(settings: Settings, accept_store: str | None) -> None:
    """Run server, worker, scheduler and dashboard until Ctrl-C.

    \b
    Example:
      backscroll up
      backscroll --data-dir ./history up
    """
    from backscroll_worker.ops.up import run_up

    _stop_by_signals()
    settings = settings.with_options(accept_store=accept_store)
    raise click.exceptions.Exit(run_up(settings, Console()))


@click.command()
@click.option("--burst", is_flag=True, help="Exit when the queue is empty.")
@click.option("--max-jobs", type=click.IntRange(min=1), help="Exit after this many jobs.")
@_accept_store
@click.pass_obj
def worker(settings: Settings, burst: bool, max_jobs: int | None, accept_store: str | None) -> None:
    """Store what is enqueued.

    After the first Ctrl-C or SIGTERM it finishes the jobs in flight, then exits. A second worker on
    the same store waits as a standby and takes over when the first one exits.

    \b
    Example:
      backscroll worker
      backscroll worker --burst
    """
    from backscroll_worker.loop.running import give_way, run_worker

    settings = settings.with_options(accept_store=accept_store)
    with _server(settings) as url:
        give_way(settings)  # but not the embedded server, for which adapters wait
        run_worker(settings, url, burst=burst, max_jobs=max_jobs)


@click.command()
@click.pass_obj
def scheduler(settings: Settings) -> None:
    """Enqueue cleanup and compaction on schedule.

    \b
    Example:
      backscroll scheduler
    """
    from backscroll_worker.maintenance.scheduler import run_scheduler

    with _server(settings) as url:
        run_scheduler(settings, url)


@click.command()
@click.pass_obj
def dashboard(settings: Settings) -> None:
    """Serve rq-dashboard: queues, workers, failed jobs.

    \b
    Example:
      backscroll dashboard
    """
    from backscroll_worker.ops.dashboard import run_dashboard

    with _server(settings) as url:
        run_dashboard(settings, url)


COMMANDS = (demo, up, worker, scheduler, dashboard)
