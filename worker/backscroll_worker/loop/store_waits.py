"""Waiting for the store: as a standby until its writer is gone, and while it fails.

A store that fails is not a job's fault, so jobs wait until it works again.
"""

from __future__ import annotations

import logging
import signal
import time
from contextlib import suppress
from typing import Final

import redis
from rq.exceptions import StopRequested

from backscroll.transport.outage import Outage
from backscroll_worker.contract.store import OnWait, Store
from backscroll_worker.loop.resilient import SERVER_TROUBLE

LONGEST_PAUSE_SECONDS: Final = 3.0

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("backscroll.worker")


def acquire_or_stop(store: Store, on_wait: OnWait | None) -> bool:
    """As `store.acquire`; False when a signal ended the wait."""
    handlers = {number: signal.signal(number, _stop_waiting) for number in _STOP_SIGNALS}
    try:
        store.acquire(on_wait)
    except StopRequested:
        return False
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return True


def _stop_waiting(_number: int, _frame: object) -> None:
    raise StopRequested


class FailingStore:
    """The failure of the store while one group is to be applied, and how long it has lasted.

    The error is also in the worker's hash, `worker_key`, where `backscroll check` and `stats` read
    it.
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
