"""Something that fails again and again, logged so that an operator reads it, but not each time.

Each reason is logged once, then every minute how often it failed, and at the end that it works.
"""

from __future__ import annotations

import logging
import time
from typing import Final

_REPEATED_SECONDS: Final = 60.0
_MOST_REASONS: Final = 8  # a text with a counter in it would be a new reason each time


class Outage:
    """The failures of `what` ("the server") for as long as it does not work."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._reasons: set[str] = set()
        self._began_at = self._logged_at = 0.0
        self._count = 0

    def report(self, reason: str, consequence: str) -> None:
        """It failed once more, for this reason; `consequence`: what happens meanwhile."""
        now = time.monotonic()
        if not self._count:
            self._began_at = self._logged_at = now
        self._count += 1
        if reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            self._reasons.add(reason)
            self._log.error("%s fails: %s; %s", self._what, reason.rstrip("."), consequence)
        elif now - self._logged_at >= _REPEATED_SECONDS:
            self._logged_at = now
            seconds = now - self._began_at
            self._log.error(
                "%s still fails, %d times in %.0f s: %s", self._what, self._count, seconds, reason
            )

    def report_recovered(self) -> bool:
        """It works; whether it failed before."""
        if not self._count:
            return False
        seconds = time.monotonic() - self._began_at
        self._log.warning(
            "%s works again, after %d failures in %.0f s", self._what, self._count, seconds
        )
        self._count = 0
        self._reasons.clear()
        return True
