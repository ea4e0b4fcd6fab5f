"""Runs what takes long, one after the other, one slice between groups: maintenance, large forks."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from rq.exceptions import StopRequested

from backscroll.contract.errors import BackscrollError, OperationRefusedError, StoreUnavailableError
from backscroll.contract.operations import Cleanup, Maintenance, Operation, Restore
from backscroll.contract.results import ErasureReceipt, Outcome
from backscroll_worker.contract.pacing import Slices, Unfinished
from backscroll_worker.contract.store import Store
from backscroll_worker.loop.acknowledgement import Acknowledgement
from backscroll_worker.loop.batch import log_failure
from backscroll_worker.loop.reservation import ReservedJob
from backscroll_worker.loop.resilient import SERVER_TROUBLE
from backscroll_worker.maintenance.dispatch import maintenance_slices
from backscroll_worker.settings import Settings

log = logging.getLogger("backscroll.worker")


class MaintenanceRunner:
    """The maintenance jobs that have begun and not yet ended; true while there are any."""

    def __init__(
        self,
        backend: Store,
        settings: Settings,
        acknowledgement: Callable[[], Acknowledgement],
        connection: redis.Redis,
    ) -> None:
        self._backend = backend
        self._connection = connection
        self._settings = settings
        self._acknowledgement = acknowledgement
        self._began_at = time.monotonic()
        self._under_way: deque[tuple[ReservedJob, Operation, Slices[Any]]] = deque()

    def __bool__(self) -> bool:
        return bool(self._under_way)

    @property
    def seconds(self) -> float:
        """How long the first of them has been running."""
        return time.monotonic() - self._began_at

    def clear(self) -> None:
        """Drop all jobs under way; each can safely be begun again at any point."""
        self._under_way.clear()

    def start(
        self, job: ReservedJob, operation: Maintenance, acknowledgement: Acknowledgement
    ) -> None:
        """Begin the job's operation; if that fails, the job is acknowledged with its group."""
        try:
            slices = maintenance_slices(self._backend, self._settings, operation, self._connection)
        except OperationRefusedError as error:
            log_failure(job, error)
            acknowledgement.decline(job, error)
        else:
            log.info("%s begins", operation.kind)
            if not self._under_way:
                self._began_at = time.monotonic()
            self._under_way.append((job, operation, slices))

    def finish(self, job: ReservedJob, operation: Operation, unfinished: Unfinished) -> None:
        """Carry out the rest of a write, before all else: a caller waits for it."""
        if not self._under_way:
            self._began_at = time.monotonic()
        self._under_way.appendleft((job, operation, unfinished.slices))

    def do_slice(self) -> Acknowledgement | None:
        """Run one slice; returns the acknowledgement of a job that has ended.

        Raises `StoreUnavailableError` when the store fails, and the server's errors; then the jobs
        under way have to begin again.
        """
        job, operation, slices = self._under_way[0]
        acknowledgement = self._acknowledgement()
        try:
            next(slices)
            return None
        except StopIteration as done:
            if isinstance(done.value, Outcome):
                acknowledgement.succeed(job, done.value)
            elif isinstance(done.value, ErasureReceipt):
                log.info("%s", done.value.summary())
                acknowledgement.succeed(job, done.value)  # the job is deleted: it names the subject
            else:
                log.info("%s", done.value.summary())
                acknowledgement.succeed_and_keep(job, done.value)
        except (StoreUnavailableError, StopRequested, *SERVER_TROUBLE):
            raise  # not the job's fault, and temporary
        except BackscrollError as error:
            log_failure(job, error)
            if _is_asked_for_its_answer(operation):
                acknowledgement.decline(job, error)
            else:
                acknowledgement.fail(job, error)
        except Exception as error:  # begun again, it would fail again, and so on
            log.exception("job %s failed unexpectedly", job.id)
            acknowledgement.fail(job, error)
        self._under_way.popleft()
        self._began_at = time.monotonic()
        return acknowledgement


def _is_asked_for_its_answer(operation: Operation) -> bool:
    """Whether a caller waits for the refusal, so that a failed job would be of no further use."""
    return isinstance(operation, Restore) or (isinstance(operation, Cleanup) and operation.dry_run)
