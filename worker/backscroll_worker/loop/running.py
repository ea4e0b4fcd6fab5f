"""Runs a worker until it is told to stop."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from backscroll.transport.connection import connect, server_errors
from backscroll_worker.loop.worker import GroupCommitWorker
from backscroll_worker.settings import Settings

log = logging.getLogger("backscroll.worker")


def give_way(settings: Settings) -> None:
    """Have the host run others first while its processors are busy; for the rest of this process.

    An adapter waits for a read and for the queue, and seldom for the worker: what it has sent is
    safe. So a backlog must not make it slow. Whoever started it with a niceness has decided.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return
    try:
        os.setpriority(os.PRIO_PROCESS, 0, settings.nice)
    except OSError as error:  # a sandbox may forbid the call
        log.warning("cannot set the niceness to %d: %s", settings.nice, error.strerror)


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
