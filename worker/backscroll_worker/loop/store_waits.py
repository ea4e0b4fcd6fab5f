"""Waiting for the store: as a standby until its writer is gone, and while it fails.

A store that fails is no job's fault, so jobs wait until it works again.
"""

from __future__ import annotations

import logging
import signal
import time
from contextlib import suppress
from typing import Final

import redis
from rq.exceptions import StopRequested

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
    """What goes wrong with the store while one group is to be applied, and for how long already.

    The error is in the worker's hash, `worker_key`, too, where `backscroll check` and `stats` look.
    """

    def __init__(self, connection: redis.Redis, worker_key: str) -> None:
        self._connection = connection
        self._worker_key = worker_key
        self._pause_seconds = 0.1
        self._reported = ""

    def pause(self, error: Exception) -> None:
        """Report `error`, unless that is done, and wait, each time a little longer."""
        if str(error) != self._reported:
            self._reported = str(error)
            log.error("the store fails, jobs wait: %s", error)
            with suppress(*SERVER_TROUBLE):
                self._connection.hset(self._worker_key, "store_error", self._reported)
        time.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, LONGEST_PAUSE_SECONDS)

    def report_recovered(self) -> None:
        """Report that it works again, if an error was reported."""
        if self._reported:
            log.warning("the store works again")
            with suppress(*SERVER_TROUBLE):
                self._connection.hdel(self._worker_key, "store_error")
