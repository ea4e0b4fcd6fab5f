"""Runs a worker until it is told to stop."""

from __future__ import annotations

from collections.abc import Callable

from backscroll.transport.connection import connect, server_errors
from backscroll_worker.loop.worker import GroupCommitWorker
from backscroll_worker.settings import Settings


def run_worker(
    settings: Settings,
    url: str,
    *,
    burst: bool = False,
    max_jobs: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> None:
    """Work until a signal; in burst mode, until the queue is empty.

    Raises `ServerUnavailableError`, `StoreUnavailableError` or `StoreUnusableError` when it cannot
    begin. Once it works, it survives temporary failures.
    """
    connection = connect(url)
    with server_errors(url):
        worker = GroupCommitWorker(
            [settings.queue], connection=connection, settings=settings, on_wait=on_wait
        )
        worker.work(burst=burst, max_jobs=max_jobs, logging_level=None)
