"""The commands that run until they are stopped, and the demonstration of all of them."""

# ruff: noqa: PLC0415 - each needs packages that the others can do without
from __future__ import annotations

import os
import signal
import sys

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
    help="Let this store take the place of the one that the queue was stored into before.",
)


def _stop_by_signals() -> None:
    """SIGTERM ends also a service that only starts, and what it has started with it.

    A terminal that is closed does what SIGTERM does.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGHUP, lambda *_: os.kill(os.getpid(), signal.SIGTERM))


@click.command()
@click.option("--stay", is_flag=True, help="Keep it running, with rq-dashboard, until Ctrl-C.")
@click.pass_obj
def demo(settings: Settings, stay: bool) -> None:
    """Replay real conversations and check what was stored.

    They go through adapters, queue, worker and store in a fresh directory, on an embedded server of
    its own, and every session is compared with what was sent.

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
@click.option("--burst", is_flag=True, help="End when the queue is empty.")
@click.option("--max-jobs", type=click.IntRange(min=1), help="End after so many jobs.")
@_accept_store
@click.pass_obj
def worker(settings: Settings, burst: bool, max_jobs: int | None, accept_store: str | None) -> None:
    """Store what is enqueued.

    The first Ctrl-C or SIGTERM finishes what is in flight. A second worker on the same store waits,
    and takes over when the first one ends.

    \b
    Example:
      backscroll worker
      backscroll worker --burst
    """
    from backscroll_worker.loop.worker import run_worker

    logs.configure(settings.log_level, dated=True)
    _stop_by_signals()
    settings = settings.with_options(accept_store=accept_store)
    with running_server(settings) as url:
        run_worker(settings, url, burst=burst, max_jobs=max_jobs)


@click.command()
@click.pass_obj
def scheduler(settings: Settings) -> None:
    """Enqueue cleanup and compaction when their time has come.

    \b
    Example:
      backscroll scheduler
    """
    from backscroll_worker.maintenance.scheduler import run_scheduler

    logs.configure(settings.log_level, dated=True)
    _stop_by_signals()
    with running_server(settings) as url:
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

    logs.configure(settings.log_level, dated=True)
    _stop_by_signals()
    with running_server(settings) as url:
        run_dashboard(settings, url)


COMMANDS = (demo, up, worker, scheduler, dashboard)
