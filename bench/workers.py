"""The workers for our own jobs, as programs: ours, and two of RQ's.

RQ's do the same as `rq worker --serializer backscroll.transport.rq_protocol.OrjsonSerializer
backscroll`. The module of the jobs is imported before the first fork, as RQ advises for speed.

`python -m bench.workers NAME [FILE]`; the time of each commit is written to FILE.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from rq import SimpleWorker, Worker

from backscroll.contract.operations import Append, Operation
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.loop.running import give_way, run_worker
from backscroll_worker.settings import Settings
from backscroll_worker.stores.jsonl.backend import JsonlBackend
from backscroll_worker.stores.sqlite.backend import SqliteBackend

_STOCK: Final = {"SimpleWorker": SimpleWorker, "Worker": Worker}


def read_commits(path: Path) -> list[float]:
    """The time at which each append's commit returned, in order, on the monotonic clock."""
    times = array("d")
    times.frombytes(path.read_bytes())
    return list(times)


def count_commits(path: Path) -> int:
    """The number of recorded commits."""
    return path.stat().st_size // array("d").itemsize if path.exists() else 0


def _work(name: str) -> None:
    settings = Settings.from_environment()
    url = settings.redis_url or ""
    if name == "Backscroll":
        give_way(settings)
        run_worker(settings, url)
        return
    with redis.Redis.from_url(url) as connection:
        stock = _STOCK[name]([settings.queue], connection=connection, serializer=OrjsonSerializer)
        stock.work(logging_level="WARNING")


@contextmanager
def _noting_commits(path: Path) -> Iterator[None]:
    """Record the end of each append's commit at once: the worker may be killed."""
    file = path.open("ab", buffering=0)

    def noting(apply: Callable[..., Any]) -> Any:
        def apply_and_note(store: Any, operations: Sequence[Operation], **options: Any) -> Any:
            answers = apply(store, operations, **options)
            appends = sum(isinstance(each, Append) for each in operations[: len(answers)])
            file.write(array("d", [time.monotonic()] * appends).tobytes())
            return answers

        return apply_and_note

    for backend in (SqliteBackend, JsonlBackend):
        backend.apply = noting(backend.apply)  # type: ignore[method-assign]
    with file:
        yield


if __name__ == "__main__":
    if len(sys.argv) > 2:
        with _noting_commits(Path(sys.argv[2])):
            _work(sys.argv[1])
    else:
        _work(sys.argv[1])
