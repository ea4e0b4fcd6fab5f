"""This host's clock compared with the server's: what deletes by age must know the time."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import redis

from backscroll.contract.errors import OperationRefusedError

MOST_SECONDS_APART: Final = 3_600.0


def seconds_ahead(connection: redis.Redis) -> float | None:
    """By how much this host's clock is ahead of the server's; None where it is unknown."""
    with suppress(redis.ResponseError, KeyError, TypeError, ValueError):
        reply: Any = connection.info("server")  # part of what a worker may ask for; TIME is not
        return time.time() - int(reply["server_time_usec"]) / 1e6
    return None


def refuse_if_ahead(connection: redis.Redis) -> None:
    """Raise `OperationRefusedError` when the server's clock is more than an hour behind this one.

    One of the two is wrong, and sessions that may be young are not deleted because of it.
    """
    ahead = seconds_ahead(connection)
    if ahead is not None and ahead > MOST_SECONDS_APART:
        raise OperationRefusedError(
            f"nothing was deleted: the worker's clock is {ahead / 3_600:,.1f} hours ahead of the "
            "server's; set the wrong one, then clean up again"
        )
