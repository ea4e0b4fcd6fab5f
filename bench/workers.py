"""The workers that take our own jobs, as programs: ours, and two of RQ's.

RQ's do what `rq worker --serializer producer.serializer.OrjsonSerializer backscroll` does. The
module of the jobs is imported before the first fork, which is RQ's own advice for speed.
"""

from __future__ import annotations

import sys
from typing import Final

import redis
from rq import SimpleWorker, Worker

import worker.jobs  # noqa: F401
from producer.serializer import OrjsonSerializer
from worker.group_commit import run_worker
from worker.settings import Settings

_STOCK: Final = {"SimpleWorker": SimpleWorker, "Worker": Worker}


def _work(name: str) -> None:
    settings = Settings.from_environment()
    url = settings.redis_url or ""
    if name == "Backscroll":
        run_worker(settings, url)
        return
    with redis.Redis.from_url(url) as connection:
        stock = _STOCK[name]([settings.queue], connection=connection, serializer=OrjsonSerializer)
        stock.work(logging_level="WARNING")


if __name__ == "__main__":
    _work(sys.argv[1])
