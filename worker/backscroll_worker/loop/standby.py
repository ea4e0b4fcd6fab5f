"""How a standby waits for the store's lock, and takes over when its holder dies."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Final

from rq.exceptions import StopRequested

from backscroll_worker.stores.lock import StoreLock

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def acquire_or_stop(lock: StoreLock, on_wait: Callable[[str], None] | None) -> bool:
    """Wait for the lock without limit and take it; False when a signal ended the wait.

    As `StoreLock.acquire`, it does not wait without `on_wait`.
    """
    handlers = {number: signal.signal(number, _stop_waiting) for number in _STOP_SIGNALS}
    try:
        lock.acquire(on_wait)
    except StopRequested:
        return False
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return True


def _stop_waiting(_number: int, _frame: object) -> None:
    raise StopRequested
