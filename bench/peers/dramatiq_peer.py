"""dramatiq: messages fetched from Redis in batches and acknowledged one by one."""

# mypy: disallow-untyped-calls=False
from __future__ import annotations

import signal

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.worker import Worker

from bench.peers.store import append, run_peer, server_url

WORKER_THREADS = 1
PREFETCH = 1_000

broker = RedisBroker(url=server_url(), middleware=[])
dramatiq.set_broker(broker)
actor = dramatiq.actor(broker=broker)(append)


def work() -> None:
    """One worker process without middleware: no retries, no time limits, no results.

    By default it prefetches two messages per thread and then sleeps: 12 times slower.
    """
    worker = Worker(broker, worker_threads=WORKER_THREADS)
    worker.queue_prefetch = PREFETCH  # as the variable dramatiq_queue_prefetch does
    worker.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    worker.stop()


if __name__ == "__main__":
    run_peer(actor.send, work)
