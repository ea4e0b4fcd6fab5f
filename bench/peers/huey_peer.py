"""huey: tasks popped from a Redis list, results off."""

from __future__ import annotations

from huey import RedisHuey
from huey.consumer import Consumer

from bench.peers.store import append, run_peer, server_url

WORKERS = 1

huey = RedisHuey("bench", url=server_url(), results=False)
task = huey.task()(append)


def work() -> None:
    """One consumer process; more threads are slower, as they wait for each other."""
    Consumer(huey, workers=WORKERS, periodic=False, check_worker_health=False).run()


if __name__ == "__main__":
    run_peer(task, work)
