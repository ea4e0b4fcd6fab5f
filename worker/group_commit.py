"""`GroupCommitWorker`: an RQ worker that commits jobs in groups.

A round: take all that waits, up to a group; apply it in one transaction; acknowledge it in one
pipeline. RQ's own loop keeps signals, suspension, burst mode and the worker's registration.

It works from RQ's command line too, with the store and the rest from the environment:
`rq worker -w worker.group_commit.GroupCommitWorker --url redis://… backscroll`
"""

from __future__ import annotations

import logging
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any, Final

from rq import Queue
from rq.exceptions import StopRequested
from rq.worker import WorkerStatus

from producer.codec import decode
from producer.connection import connect, server_errors
from producer.errors import (
    BackscrollError,
    InvalidSettingError,
    MalformedJobError,
    OperationRefusedError,
    StoreUnavailableError,
    StoreUnusableError,
)
from producer.operations import Operation, Read, Upkeep, Write
from worker.acknowledgement import Acknowledgement
from worker.backends import SessionBackend, open_backend, store_lock
from worker.backends.base import Slices
from worker.backends.lock import StoreLock
from worker.jobs import upkeep_slices
from worker.reservation import Reservations, ReservedJob, SuspendedError
from worker.resilient import SERVER_TROUBLE, ResilientWorker
from worker.settings import Settings

log = logging.getLogger("backscroll.worker")

_IDLE_WAIT_SECONDS: Final = 5
_LONGEST_PAUSE_SECONDS: Final = 3.0
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
Group = list[ReservedJob]


class GroupCommitWorker(ResilientWorker):
    """One worker on one queue, writing one store; see the module's docstring."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._settings: Settings = options.pop("settings", None) or Settings.from_environment()
        self._on_wait: Callable[[str], None] | None = options.pop("on_wait", None)
        super().__init__(*args, **options)
        self._upkeep: deque[tuple[ReservedJob, Slices[Any]]] = deque()
        self._jobs_left: int | None = None
        self._busy_at = time.monotonic()
        self._must_put_back = True
        self._crash: Exception | None = None

    def work(self, *args: Any, max_jobs: int | None = None, **options: Any) -> bool:
        """RQ's loop, for as long as this process holds the store's lock."""
        if len(self.queues) != 1:
            raise InvalidSettingError("queue: a store has one queue; name exactly one")
        self._queue: Queue = self.queues[0]
        self._reservations = Reservations(self.connection, self._queue.name, self._queue.key)
        self._jobs_left = max_jobs
        on_wait = None if options.get("burst") else self._announce_wait
        with closing(store_lock(self._settings.store)) as lock:
            if not self._acquire(lock, on_wait):
                return False
            log.info("storing queue %r into %s", self._queue.name, self._settings.store)
            with open_backend(self._settings.store) as backend:
                self._backend: SessionBackend = backend
                try:
                    has_worked = super().work(*args, **options)
                finally:
                    with suppress(*SERVER_TROUBLE):
                        self._put_back()
        if self._crash is not None:  # RQ's loop only logs it
            raise self._crash
        return has_worked

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Any, Queue] | None:
        """The next group; None when a burst is over or the worker has idled long enough.

        RQ's loop hands whatever comes from here to `execute_job`. An empty group goes once round
        the loop, which looks for signals and suspension, and lets upkeep have its slice.
        """
        while not self._stop_requested:
            try:
                self.heartbeat()
                if self._must_put_back:
                    self._put_back()
                group = self._take()
                if not group and not self._upkeep:
                    if timeout is None or self._has_idled(max_idle_time):
                        return None
                    self.set_state(WorkerStatus.IDLE)
                    self._reservations.wait(_IDLE_WAIT_SECONDS)
                    group = self._take()
                if group or self._upkeep:
                    self._busy_at = time.monotonic()
                return group, self._queue
            except SuspendedError:
                self.look_for_suspension = True
                break
            except SERVER_TROUBLE as error:
                self._must_put_back = True
                log.error("the server fails: %s; trying again", error)
                time.sleep(1.0)
            except Exception as error:
                self._note_crash(error)
                raise
        return [], self._queue

    def execute_job(self, job: Any, queue: Queue) -> None:
        """Apply and acknowledge one group, then do one slice of upkeep."""
        group: Group = job
        try:
            if group:
                self._work_through(group)
            if self._upkeep and not self._stop_requested:
                self._do_upkeep_slice()
        except SERVER_TROUBLE as error:
            # What was committed is safe; what was not acknowledged comes again, and is known.
            self._must_put_back = True
            log.error("the server fails: %s; what is in flight is taken up again", error)
            time.sleep(1.0)
        except Exception as error:
            self._note_crash(error)
            raise
        if self._jobs_left is not None and self._jobs_left <= 0:
            self._stop_requested = True

    def _acquire(self, lock: StoreLock, on_wait: Callable[[str], None] | None) -> bool:
        """Take the lock, however long that is; False when a signal ended the wait."""
        handlers = {number: signal.signal(number, _stop_waiting) for number in _STOP_SIGNALS}
        try:
            lock.acquire(on_wait)
        except StopRequested:
            return False
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return True

    def _note_crash(self, error: Exception) -> None:
        if not isinstance(error, StopRequested):  # that is how RQ's signal handler ends the loop
            self._crash = error

    def _announce_wait(self, holder: str) -> None:
        log.warning("process %s writes to %s; waiting as its standby", holder, self._settings.store)
        if self._on_wait is not None:
            self._on_wait(holder)

    def _take(self) -> Group:
        # From here on a signal must let the group be finished: BUSY says so to RQ's handler.
        was, self._state = self._state, WorkerStatus.BUSY
        group: Group = []
        try:
            most = self._settings.group_size
            if self._jobs_left is not None:
                return (group := self._reservations.take(min(most, self._jobs_left)))
            group = self._reservations.take(most)
            if 1 < len(group) < most and self._settings.group_wait_ms:
                time.sleep(self._settings.group_wait_ms / 1e3)
                with suppress(SuspendedError):  # what is taken is carried out
                    group += self._reservations.take(most - len(group))
            if len(group) == most and not self._stop_requested:
                # More is waiting. The server gets it ready while this group is committed.
                self._reservations.ask(most)
        finally:
            if not group:
                self._state = was
        return group

    def _has_idled(self, max_idle_seconds: int | None) -> bool:
        idle_seconds = time.monotonic() - self._busy_at
        return max_idle_seconds is not None and idle_seconds > max_idle_seconds

    def _put_back(self) -> None:
        """Start from what the queue says: nothing is in flight, no upkeep is under way.

        What was asked for and not looked at goes back with the rest.
        """
        self._upkeep.clear()
        count = self._reservations.put_back()
        self._must_put_back = False
        if count:
            log.warning("put %d jobs that were in flight back to the head of the queue", count)

    def _work_through(self, group: Group) -> None:
        started = time.monotonic()
        acknowledgement = self._acknowledgement()
        decoded = [(job, self._decode(job, acknowledgement)) for job in group]
        applied = [(job, known) for job, known in decoded if isinstance(known, Read | Write)]
        answers = self._apply([operation for _, operation in applied])
        for (job, operation), answer in zip(applied, answers, strict=True):
            if not isinstance(answer, OperationRefusedError):
                acknowledgement.succeed(job, answer)
            elif isinstance(operation, Read):
                acknowledgement.decline(job, answer)
            else:
                _log_failure(job, answer)
                acknowledgement.fail(job, answer)
        for job, known in decoded:  # only now, so that it sees the writes before it
            if isinstance(known, Upkeep):
                self._start_upkeep(job, known, acknowledgement)
        self._send(acknowledgement)
        self.has_worked = True
        log.debug("committed %d jobs in %.1f ms", len(applied), 1e3 * (time.monotonic() - started))

    def _decode(self, job: ReservedJob, acknowledgement: Acknowledgement) -> Operation | None:
        if job.is_gone:
            acknowledgement.drop(job)
            return None
        try:
            if job.problem:
                raise MalformedJobError(job.problem)
            return decode(job.id, job.payload)
        except Exception as error:  # whatever a job holds, it harms only itself
            _log_failure(job, error)
            if job.problem:
                acknowledgement.release_only(job)
            else:
                acknowledgement.fail(job, error)
            return None

    def _apply(self, operations: list[Operation]) -> list[Any]:
        """Apply the group; while the store fails, pause and try again: it is no job's fault."""
        pause_seconds, error_told = 0.1, ""
        while True:
            try:
                answers = self._backend.apply(operations) if operations else []
            except (StoreUnavailableError, StoreUnusableError) as error:
                if self._stop_requested:
                    raise StopRequested from error
                if str(error) != error_told:
                    log.error("the store fails, jobs wait: %s", error)
                    error_told = str(error)
                    self._tell_store_error(error_told)
                time.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
                with suppress(*SERVER_TROUBLE):
                    self.heartbeat()
            else:
                if error_told:
                    log.warning("the store works again")
                    self._tell_store_error(None)
                return answers

    def _tell_store_error(self, error: str | None) -> None:
        """Into the worker's hash in Redis, where `backscroll check` and `stats` look."""
        with suppress(*SERVER_TROUBLE):
            if error is None:
                self.connection.hdel(self.key, "store_error")
            else:
                self.connection.hset(self.key, "store_error", error)

    def _start_upkeep(
        self, job: ReservedJob, operation: Upkeep, acknowledgement: Acknowledgement
    ) -> None:
        try:
            slices = upkeep_slices(self._backend, self._settings, operation)
        except OperationRefusedError as error:
            _log_failure(job, error)
            acknowledgement.decline(job, error)
        else:
            log.info("%s begins", operation.kind)
            self._upkeep.append((job, slices))

    def _do_upkeep_slice(self) -> None:
        job, slices = self._upkeep[0]
        self.has_worked = True
        acknowledgement = self._acknowledgement()
        try:
            next(slices)
            return
        except StopIteration as done:
            log.info("%s", done.value.summary())
            acknowledgement.succeed_and_keep(job, done.value)
        except StoreUnavailableError as error:
            log.error("upkeep waits: %s", error)
            self._must_put_back = True  # it begins again, which is safe at any point
            time.sleep(_LONGEST_PAUSE_SECONDS)
            return
        except BackscrollError as error:
            _log_failure(job, error)
            acknowledgement.fail(job, error)
        self._upkeep.popleft()
        self._send(acknowledgement)

    def _acknowledgement(self) -> Acknowledgement:
        return Acknowledgement(
            self.connection, self._queue.name, self._reservations.intermediate_key, self
        )

    def _send(self, acknowledgement: Acknowledgement) -> None:
        acknowledgement.send()
        if self._jobs_left is not None:
            self._jobs_left -= acknowledgement.succeeded + acknowledgement.failed


def run_worker(
    settings: Settings,
    url: str,
    *,
    burst: bool = False,
    max_jobs: int | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> None:
    """Work until told to stop; in a burst, until the queue is empty.

    Raises `ServerUnavailableError`, `StoreUnavailableError` or `StoreUnusableError` when it cannot
    begin. Once it works, it rides out what passes.
    """
    connection = connect(url)
    with server_errors(url):
        worker = GroupCommitWorker(
            [settings.queue], connection=connection, settings=settings, on_wait=on_wait
        )
        worker.work(burst=burst, max_jobs=max_jobs, logging_level=None)


def _stop_waiting(_number: int, _frame: object) -> None:
    raise StopRequested


def _log_failure(job: ReservedJob, error: Exception) -> None:
    log.error("job %s failed: %s", job.id, error)
