"""The workers that take our own jobs, as programs: ours, and two of RQ's.

RQ's do what `rq worker --serializer backscroll_worker.serializer.OrjsonSerializer backscroll`
does. The module of the jobs is imported before the first fork, which is RQ's own advice for speed.

`python -m bench.workers NAME [FILE]`; into FILE goes when each commit returned.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from rq import SimpleWorker, Worker

from backscroll.contract.operations import Operation
from backscroll_worker.loop.worker import run_worker
from backscroll_worker.serializer import OrjsonSerializer
from backscroll_worker.settings import Settings
from backscroll_worker.stores.sqlite.backend import SqliteBackend

_STOCK: Final = {"SimpleWorker": SimpleWorker, "Worker": Worker}


def read_commits(path: Path) -> list[float]:
    """When each operation's commit returned, in their order, on the monotonic clock."""
    times = array("d")
    times.frombytes(path.read_bytes())
    return list(times)


def count_commits(path: Path) -> int:
    """How many of them there are by now."""
    return path.stat().st_size // array("d").itemsize if path.exists() else 0


def _work(name: str) -> None:
    settings = Settings.from_environment()
    url = settings.redis_url or ""
    if name == "Backscroll":
        run_worker(settings, url)
        return
    with redis.Redis.from_url(url) as connection:
        stock = _STOCK[name]([settings.queue], connection=connection, serializer=OrjsonSerializer)
        stock.work(logging_level="WARNING")


@contextmanager
def _noting_commits(path: Path) -> Iterator[None]:
    """Note each commit's end at once: a worker may be killed before it ends by itself."""
    file = path.open("ab", buffering=0)
    apply = SqliteBackend.apply

    def noting(backend: SqliteBackend, operations: Sequence[Operation], *others: Any) -> Any:
        answers = apply(backend, operations, *others)
        file.write(array("d", [time.monotonic()] * len(answers)).tobytes())
        return answers

    SqliteBackend.apply = noting  # type: ignore[method-assign, assignment]
    with file:
        yield


if __name__ == "__main__":
    if len(sys.argv) > 2:
        with _noting_commits(Path(sys.argv[2])):
            _work(sys.argv[1])
    else:
        _work(sys.argv[1])
