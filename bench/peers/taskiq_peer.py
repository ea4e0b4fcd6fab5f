"""taskiq: tasks popped from a Redis list by an asyncio worker, results discarded."""

from __future__ import annotations

import asyncio
from typing import Any

from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker

from bench.peers.store import append, run_peer, server_url

MAX_TASKS = 100

broker = ListQueueBroker(server_url(), queue_name="bench")
task = broker.task(task_name="append")(append)
_loop = asyncio.new_event_loop()


def send(op_id: str, arguments: dict[str, Any]) -> None:
    """Enqueue one task."""
    _loop.run_until_complete(task.kiq(op_id, arguments))


def work() -> None:
    """One worker process with one thread for tasks; more wait for each other."""
    _loop.run_until_complete(
        run_receiver_task(
            broker,
            validate_params=False,
            sync_workers=1,
            run_startup=True,
            max_async_tasks=MAX_TASKS,
            max_prefetch=MAX_TASKS,
        )
    )


if __name__ == "__main__":
    run_peer(send, work)
