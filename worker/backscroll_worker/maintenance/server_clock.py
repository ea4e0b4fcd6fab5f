"""This host's clock compared with the server's: what deletes by age must know the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import redis

from backscroll.contract.errors import OperationRefusedError

MOST_SECONDS_APART: Final = 3_600.0


def seconds_ahead(info: Mapping[str, Any]) -> float:
    """By how much this host's clock is ahead of the server's; 0 if INFO does not say it."""
    now = time.time()
    return now - float(info.get("server_time_usec", now * 1e6)) / 1e6


def refuse_if_ahead(connection: redis.Redis) -> None:
    """Raise `OperationRefusedError` when the server's clock is more than an hour behind this one.

    One of the two is wrong, and sessions that may be young are not deleted because of it.
    """
    info: Any = {}
    with suppress(redis.ResponseError):
        info = connection.info("server")  # part of what a worker may ask for; TIME is not
    ahead = seconds_ahead(info)
    if ahead > MOST_SECONDS_APART:
        raise OperationRefusedError(
            f"nothing was deleted: the worker's clock is {ahead / 3_600:,.1f} hours ahead of the "
            "server's; set the wrong one, then clean up again"
        )
