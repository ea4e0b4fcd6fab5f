"""The task of every other queue: one append through the store's `apply`.

A task has the op id and the arguments of one of our own jobs, and does with them what our worker
does with a group of one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from backscroll.contract.codec import parse_call
from backscroll.contract.errors import InvalidInputError
from backscroll_worker.settings import Settings
from backscroll_worker.stores import Store
from backscroll_worker.stores import open_store as open_at
from bench.data import calls


def append(op_id: str, arguments: dict[str, Any]) -> None:
    """Append one task's message; safe from several threads."""
    _store().apply([parse_call(op_id, "backscroll_worker.jobs.append", None, [], arguments)])


@functools.cache
def settings() -> Settings:
    """The server and the store that are set for this process."""
    return Settings.from_environment()


def server_url() -> str:
    """The server's URL, which must be set."""
    if settings().redis_url is None:
        raise InvalidInputError("BACKSCROLL_REDIS_URL", "must be set")
    return str(settings().redis_url)


def open_store() -> None:
    """Open the store before the first task, while there is one thread."""
    _store()


def run_peer(send: Callable[[str, dict[str, Any]], object], work: Callable[[], None]) -> None:
    """The program of a peer: `fill N`, or `work`."""
    match sys.argv[1:]:
        case ["fill", count]:
            for op_id, arguments in calls(int(count)):
                send(op_id, arguments)
        case ["work"]:
            open_store()
            work()
        case other:
            raise InvalidInputError("arguments", f"must be `fill N` or `work`, not {other}")


@functools.cache
def _store() -> Store:
    return open_at(settings().store)
