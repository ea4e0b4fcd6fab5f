"""celery: messages over kombu's Redis transport, results ignored."""

from __future__ import annotations

from celery import Celery

from bench.peers.store import append, run_peer, server_url

app = Celery("bench", broker=server_url().replace("unix://", "redis+socket://", 1))
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=1000,
    worker_send_task_events=False,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
task = app.task(append, name="append")


def send(op_id: str, arguments: dict[str, object]) -> None:
    """Enqueue one task."""
    task.delay(op_id, arguments)


def work() -> None:
    """One worker process with one thread for tasks, without contact to other workers."""
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    app.worker_main(["worker", "--pool=threads", "--concurrency=1", "--loglevel=ERROR", *quiet])


if __name__ == "__main__":
    run_peer(send, work)
