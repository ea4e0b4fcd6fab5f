"""`ResilientWorker`: an RQ worker that survives Redis outages and writes fewer heartbeats.

How jobs are taken and applied is in `loop.worker`.
"""

from __future__ import annotations

import logging
import socket
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.retry import Retry
from rq import SimpleWorker
from rq.timeouts import BaseDeathPenalty
from rq.utils import now
from rq.worker import WorkerStatus
from rq.worker_registration import REDIS_WORKER_KEYS, WORKERS_BY_QUEUE_KEY

from backscroll.transport.outage import Outage
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.loop.server_trouble import described, may_pass

log = logging.getLogger("backscroll.worker")

_HEARTBEAT_SECONDS: Final = 2.0
_REGISTRATION_SECONDS: Final = 30
"""How long a killed worker remains registered; as long as `ops.stats` considers it alive."""

_SOCKET_TIMEOUT_SECONDS: Final = 10.0
_PASSING_STATES: Final = (WorkerStatus.STARTED, WorkerStatus.IDLE, WorkerStatus.BUSY)

# A server that is out of memory, cannot save, or is a replica may recover like an unreachable one.
SERVER_TROUBLE: Final = (redis.RedisError,)


class NoDeathPenalty(BaseDeathPenalty):
    """No job timeout: RQ's alarm could fire inside a transaction, or just after its commit."""

    def setup_death_penalty(self) -> None:
        """Set nothing."""

    def cancel_death_penalty(self) -> None:
        """Do nothing: there is no alarm."""


class ResilientWorker(SimpleWorker):
    """An RQ worker with a unique name, our serializer, no job timeouts and few log lines."""

    death_penalty_class = NoDeathPenalty

    def __init__(self, queues: Any, name: str | None = None, *args: Any, **options: Any) -> None:
        if options.get("prepare_for_work", True):  # else RQ only inspects a worker elsewhere
            # A fixed name could not be registered again after kill -9 until its key expires.
            name = f"{name or 'backscroll'}-{uuid.uuid4().hex[:12]}"
        super().__init__(queues, name, *args, **{**options, "serializer": OrjsonSerializer})
        self.server = Outage(log, "the server")
        self.may_wait_for_server = False
        self.has_worked = False
        self.look_for_suspension = True
        self._reported_state = ""

    def bootstrap(self, *args: Any, **options: Any) -> None:
        """As RQ's, but waits for a server that fails."""
        self.wait_for_server(partial(super().bootstrap, *args, **options))

    def wait_for_server(self, begin: Callable[[], object]) -> None:
        """Call `begin` until the server is reachable and does not refuse temporarily.

        Errors of address, password or permission are raised at once.
        """
        while True:
            try:
                begin()
                return
            except SERVER_TROUBLE as error:
                if not (self.may_wait_for_server and may_pass(error)):
                    raise
                self.server.report(described(error), "the start waits for it")
                self.hang_up()
                time.sleep(1.0)

    def hang_up(self) -> None:
        """Reconnect with the next command: a demoted server may keep connections open."""
        self.connection.connection_pool.disconnect()

    def register_birth(self) -> None:
        """As RQ's, for a unique name, and with a short lifetime of the key."""
        if self.connection.exists(self.key):
            self.connection.delete(self.key)
        super().register_birth()  # type: ignore[no-untyped-call]
        self.connection.expire(self.key, _REGISTRATION_SECONDS)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """RQ's heartbeat, but no more often than useful.

        A worker whose registration is missing (the server lost its data, or this process was frozen
        for long) registers again; otherwise it would work without being listed.
        """
        last = self.last_heartbeat
        if last is not None and now() - last < timedelta(seconds=_HEARTBEAT_SECONDS):
            return
        with suppress(*SERVER_TROUBLE):  # RQ's loop would end the worker; taking jobs fails too
            self._report(timeout or _REGISTRATION_SECONDS, pipeline)

    def _report(self, timeout: int, pipeline: Pipeline | None) -> None:
        if not self.connection.hexists(self.key, "birth"):
            self.register_birth()
        if self._reported_state in _PASSING_STATES:
            self._reported_state = WorkerStatus.BUSY if self.has_worked else WorkerStatus.IDLE
            self.has_worked = False
        self.connection.hset(self.key, "state", self._reported_state)
        super().heartbeat(timeout, pipeline)

    def set_state(self, state: str, pipeline: Pipeline | None = None) -> None:
        """Write a change between idle and busy with the heartbeat, not for each job."""
        if state in _PASSING_STATES and self._reported_state in _PASSING_STATES:
            self._state = state
        else:
            self._reported_state = state
            super().set_state(state, pipeline)

    def check_for_suspension(self, burst: bool) -> None:
        """As RQ's, but only at the start and after taking jobs found the workers suspended."""
        if self.look_for_suspension:
            with suppress(*SERVER_TROUBLE):
                super().check_for_suspension(burst)
            self.look_for_suspension = False

    def run_maintenance_tasks(self) -> None:
        """As RQ's, without its recovery of the intermediate list, which declares jobs failed."""
        self.last_cleaned_at = now()  # type: ignore[assignment]
        with suppress(*SERVER_TROUBLE):
            for queue in self.queues:
                queue.failed_job_registry.cleanup()
                queue.finished_job_registry.cleanup()

    def set_shutdown_requested_date(self) -> None:
        """As RQ's, which its signal handler calls; ignores a server that is unreachable."""
        with suppress(*SERVER_TROUBLE):
            super().set_shutdown_requested_date()  # type: ignore[no-untyped-call]

    def _pubsub_exception_handler(self, exc: Exception, pubsub: Any, pubsub_thread: Any) -> None:
        """Let the thread that waits for RQ's commands retry after any error.

        RQ's ends it, with a traceback, when `hang_up` interrupts its wait. Failures of the server
        are logged by the main thread.
        """
        time.sleep(2.0)

    def teardown(self) -> None:
        """Deregister, if the server is reachable."""
        with suppress(*SERVER_TROUBLE):
            super().teardown()  # type: ignore[no-untyped-call]

    def _set_ip_address(self, connection: redis.Redis) -> None:
        """As RQ's, which queries the server before this worker has waited for it."""
        self.ip_address = "unknown"
        with suppress(*SERVER_TROUBLE):
            super()._set_ip_address(connection)

    def _set_connection(self, connection: redis.Redis) -> redis.Redis:
        """Short timeouts, so that a frozen server is noticed, and no retries by redis-py.

        A retry would repeat a command whose reply was lost: a second group would be taken, and the
        first would be unknown.
        """
        connection.set_retry(Retry(NoBackoff(), 0))
        options = connection.connection_pool.connection_kwargs
        options["socket_timeout"] = options.get("socket_timeout") or _SOCKET_TIMEOUT_SECONDS
        return connection


def forget_dead_workers(connection: redis.Redis, queue: str, store: str, own_key: str) -> None:
    """Deregister workers of this host that wrote to `store` before: this process has its lock."""
    members: Any = connection.smembers(WORKERS_BY_QUEUE_KEY % queue)
    for key in {member.decode() for member in members} - {own_key}:
        hostname, writes_to = connection.hmget(key, "hostname", "store")
        if hostname == socket.gethostname().encode() and writes_to == store.encode():
            connection.srem(WORKERS_BY_QUEUE_KEY % queue, key)
            connection.srem(REDIS_WORKER_KEYS, key)
            connection.delete(key)
