"""Figures of the queue, its workers and the store; reading them changes nothing.

They are read from RQ's keys directly, because RQ's classes clean up registries while they count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

import redis
from rq.cron_scheduler_registry import get_registry_key
from rq.defaults import DEFAULT_CRON_SCHEDULER_TTL

from backscroll.contract.errors import BackscrollError
from backscroll.transport.rq_protocol import (
    in_flight_key,
    job_key,
    own_key,
    queue_key,
    registry_key,
    worker_key,
    workers_key,
)
from backscroll_worker.maintenance.scheduler_name import is_for
from backscroll_worker.stores import Store, open_store, store_at

# A worker writes a heartbeat every few seconds; its key in Redis outlives it by minutes.
WORKER_SILENCE_SECONDS: Final = 30.0
MAINTENANCE_KINDS: Final = ("cleanup", "compact")


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One worker, as recorded in its hash in Redis."""

    name: str
    state: str
    jobs_done: int
    jobs_failed: int
    heartbeat_age_seconds: float
    store_error: str | None
    store: str | None
    """The URL of its store; None for a worker of another program."""

    @property
    def is_alive(self) -> bool:
        """Whether its last heartbeat is recent."""
        return self.heartbeat_age_seconds < WORKER_SILENCE_SECONDS


@dataclass(frozen=True, slots=True)
class SchedulerStats:
    """A scheduler of the queue; one of an earlier version may be that of another queue."""

    name: str
    heartbeat_age_seconds: float


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue, its workers and schedulers, and the last tick of each kind of maintenance."""

    queue: str
    depth: int
    in_flight: int
    failed: int
    oldest_job_seconds: float | None
    workers: tuple[WorkerStats, ...]
    schedulers: tuple[SchedulerStats, ...]
    last_ticks: dict[str, datetime]

    @property
    def is_served(self) -> bool:
        """Whether a live worker takes jobs from it."""
        return any(worker.is_alive for worker in self.workers)


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How much a store holds."""

    url: str
    size_bytes: int
    sessions: int
    messages: int
    waiting_changes: int = 0
    """Edits and deletions whose message has not arrived."""
    blobs: int = 0
    """Files with the bytes of attachments; `size_bytes` is without them."""
    blob_bytes: int = 0


def read_queue(connection: redis.Redis, queue: str) -> QueueStats:
    """The state of `queue`; raises redis-py's errors."""
    waiting_key, taken_key = queue_key(queue), in_flight_key(queue)
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.llen(waiting_key)
        pipeline.llen(taken_key)
        pipeline.zcard(registry_key("failed", queue))
        pipeline.lindex(taken_key, 0)
        pipeline.lindex(waiting_key, 0)
        pipeline.zrangebyscore(
            get_registry_key(), time.time() - DEFAULT_CRON_SCHEDULER_TTL, "+inf", withscores=True
        )
        depth, in_flight, failed, taken, waiting, schedulers = pipeline.execute()
    return QueueStats(
        queue,
        depth,
        in_flight,
        failed,
        _job_age(connection, taken or waiting),
        read_workers(connection, queue),
        tuple(
            SchedulerStats(_text(name), max(0.0, time.time() - seen))
            for name, seen in schedulers
            if is_for(_text(name), queue)
        ),
        _last_ticks(connection, queue),
    )


def read_workers(connection: redis.Redis, queue: str) -> tuple[WorkerStats, ...]:
    """The workers registered for `queue` whose keys still exist, by name."""
    members: Any = connection.smembers(workers_key(queue))
    keys = sorted(_text(key) for key in members)
    with connection.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.hmget(
                key,
                "last_heartbeat",
                "state",
                "successful_job_count",
                "failed_job_count",
                "store_error",
                "store",
            )
        rows = pipeline.execute()
    return tuple(
        WorkerStats(
            key.removeprefix(worker_key("")),
            _text(state) or "unknown",
            int(done or 0),
            int(failed or 0),
            age,
            _text(store_error) or None,
            _text(store) or None,
        )
        for key, (heartbeat, state, done, failed, store_error, store) in zip(
            keys, rows, strict=True
        )
        if (age := _age(heartbeat)) is not None
    )


class StoreReader:
    """Reads the totals of the store at `url`, repeatedly, while a worker writes it.

    It keeps the store open in between, so that a JSONL store reads only what has changed.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._store: Store | None = None

    def read(self) -> StoreStats | None:
        """The current totals; None when the store is not on this machine.

        Raises the store's errors.
        """
        if not store_at(self._url).exists():
            self.close()
            return None
        try:
            return self._read()
        except BackscrollError:  # another file may have replaced it
            if self._store is None:
                raise
            self.close()
            return self._read()

    def close(self) -> None:
        """Close the store."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> StoreStats:
        if self._store is None:
            self._store = open_store(self._url, read_only=True)
        totals = self._store.totals()
        counts = totals.sessions, totals.messages, totals.waiting_changes
        blobs = totals.blobs, totals.blob_bytes
        return StoreStats(self._url, totals.size_bytes, *counts, *blobs)


def _job_age(connection: redis.Redis, job_id: bytes | None) -> float | None:
    if job_id is None:
        return None
    # A job that was requeued keeps the time at which it was created.
    times: Any = connection.hmget(job_key(_text(job_id)), "enqueued_at", "created_at")
    return _age(times[0] or times[1])


def _last_ticks(connection: redis.Redis, queue: str) -> dict[str, datetime]:
    with connection.pipeline(transaction=False) as pipeline:
        for kind in MAINTENANCE_KINDS:
            pipeline.hget(own_key(queue, "cron", kind), "job")
        jobs = pipeline.execute()
    # The id of the last enqueued job contains its tick: compact-20261121T033000-…
    return {
        kind: datetime.strptime(_text(job).split("-")[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        for kind, job in zip(MAINTENANCE_KINDS, jobs, strict=True)
        if job is not None
    }


def _age(moment: bytes | None) -> float | None:
    """Seconds since a time written by RQ; None without one."""
    try:
        written = datetime.fromisoformat(_text(moment))
    except ValueError:
        return None
    if written.tzinfo is None:
        written = written.replace(tzinfo=UTC)
    return max(0.0, (datetime.now(UTC) - written).total_seconds())


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")


def size(size_bytes: float) -> str:
    """A size in a suitable unit."""
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes >= length:
            return f"{size_bytes / length:,.1f} {unit}"
    return f"{size_bytes:,.0f} bytes"
