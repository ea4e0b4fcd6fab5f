"""This host's clock beside the server's: who deletes by age has to know what time it is."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import redis

from backscroll.contract.errors import OperationRefusedError

MOST_SECONDS_APART: Final = 3_600.0


def seconds_ahead(connection: redis.Redis) -> float | None:
    """By how much this host's clock is ahead of the server's; None where it does not tell."""
    with suppress(redis.ResponseError, KeyError, TypeError, ValueError):
        told: Any = connection.info("server")  # part of what a worker may ask for; TIME is not
        return time.time() - int(told["server_time_usec"]) / 1e6
    return None


def refuse_if_ahead(connection: redis.Redis) -> None:
    """Raise `OperationRefusedError` where the server says that it is much earlier than here.

    One of the two is wrong, and sessions that may be young are not deleted on the word of one.
    """
    ahead = seconds_ahead(connection)
    if ahead is not None and ahead > MOST_SECONDS_APART:
        raise OperationRefusedError(
            f"nothing was deleted: the worker's clock is {ahead / 3_600:,.1f} hours ahead of the "
            "server's; set the one that is wrong, and clean up again"
        )
