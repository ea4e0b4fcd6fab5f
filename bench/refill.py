"""Keeps appends waiting in the queue, as a busy producer would: `python -m bench.refill COUNT`.

A worker commits faster than one process can write appends. So some are written once, and enqueued
again and again with new ids, by the script that producers use.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Final

from backscroll.contract.ids import DEFAULT_QUEUE, new_op_id
from backscroll.transport.connection import connect
from backscroll.transport.rq_protocol import JobWriter, queue_key
from backscroll.transport.sender import JOBS_PER_CALL, JobConnection
from backscroll.transport.tails import About
from backscroll_worker.settings import Settings
from bench.data import appends

_WRITTEN: Final = 2_000
_PAUSE_SECONDS: Final = 0.001


def refill(url: str, count: int) -> None:
    """Keep `count` appends waiting, until this process is ended."""
    writer = JobWriter(DEFAULT_QUEUE, 2 * count)
    written = itertools.cycle(
        [(writer.job(each, "queued"), About.of(each)) for each in appends(_WRITTEN)]
    )
    with connect(url) as server:
        connection = JobConnection(server, writer)
        while True:
            missing = count - int(server.llen(queue_key(DEFAULT_QUEUE)))
            some = list(itertools.islice(written, max(0, min(missing, JOBS_PER_CALL))))
            if some:
                jobs = [(new_op_id(), *job[1:]) for job, _ in some]
                connection.enqueue(jobs, [about for _, about in some])
            else:
                time.sleep(_PAUSE_SECONDS)


if __name__ == "__main__":
    refill(Settings.from_environment().redis_url or "", int(sys.argv[1]))
