"""A store that fails is not a job's fault: the worker waits for it, and reports it."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import Final

import redis

from backscroll.transport.outage import Outage
from backscroll_worker.loop.resilient import SERVER_TROUBLE

LONGEST_PAUSE_SECONDS: Final = 3.0

log = logging.getLogger("backscroll.worker")


class FailingStore:
    """What goes wrong with the store while one group is to be applied, and for how long already.

    The error is in the worker's hash, `worker_key`, too, where `backscroll check` and `stats` look.
    """

    def __init__(self, connection: redis.Redis, worker_key: str) -> None:
        self._connection = connection
        self._worker_key = worker_key
        self._pause_seconds = 0.1
        self._outage = Outage(log, "the store")

    def pause(self, error: Exception) -> None:
        """Report `error` and wait, each time a little longer."""
        self._outage.report(str(error), "jobs wait")
        with suppress(*SERVER_TROUBLE):
            self._connection.hset(self._worker_key, "store_error", str(error))
        time.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def report_recovered(self) -> None:
        """The store works; say so if it failed before."""
        if self._outage.report_recovered():
            with suppress(*SERVER_TROUBLE):
                self._connection.hdel(self._worker_key, "store_error")
