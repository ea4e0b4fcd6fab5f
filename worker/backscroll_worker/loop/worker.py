"""`GroupCommitWorker`: an RQ worker that commits jobs in groups.

A round: take all that waits, up to a group; apply it in one transaction; acknowledge it in one
pipeline. While the disk has one group, the next is fetched and decoded, and the server does what
the last acknowledgement says. RQ's own loop keeps signals, suspension, burst mode and the worker's
registration.

It works from RQ's command line too, with the store and the rest from the environment:
`RQ_REDIS_URL=redis://… rq worker -w backscroll_worker.loop.worker.GroupCommitWorker backscroll`
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import Any, Final

from rq import Queue
from rq.exceptions import StopRequested
from rq.worker import WorkerStatus

from backscroll.contract.errors import (
    InvalidSettingError,
    StoreUnavailableError,
    StoreUnusableError,
)
from backscroll.transport.connection import connect, server_errors
from backscroll.transport.pinned_connection import Channel
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.loop.acknowledgement import Acknowledgement, check_acknowledged
from backscroll_worker.loop.batch import Group
from backscroll_worker.loop.failing_store import LONGEST_PAUSE_SECONDS, FailingStore
from backscroll_worker.loop.maintenance_runner import Housekeeping
from backscroll_worker.loop.publication import Publisher
from backscroll_worker.loop.reservation import Reservations, ReservedJob, SuspendedError
from backscroll_worker.loop.resilient import SERVER_TROUBLE, ResilientWorker, forget_dead_workers
from backscroll_worker.loop.server_trouble import described, is_state_of_server
from backscroll_worker.loop.standby import acquire_or_stop
from backscroll_worker.settings import Settings
from backscroll_worker.stores import SessionBackend, absolute_url, open_backend, store_lock
from backscroll_worker.stores.identity import recognize

log = logging.getLogger("backscroll.worker")

_IDLE_WAIT_SECONDS: Final = 5


class GroupCommitWorker(ResilientWorker):
    """One worker on one queue, writing one store; see the module's docstring."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._settings: Settings = options.pop("settings", None) or Settings.from_environment()
        self._on_wait: Callable[[str], None] | None = options.pop("on_wait", None)
        super().__init__(*args, **options)
        self._next: Group | None = None
        self._jobs_left: int | None = None
        self._busy_at = time.monotonic()
        self._must_put_back = True
        self._blames_jobs = True  # of what is in flight at the start, somebody died
        self._crash: Exception | None = None
        self._budget = AnswerBudget()

    def work(self, *args: Any, max_jobs: int | None = None, **options: Any) -> bool:
        """RQ's loop, for as long as this process holds the store's lock."""
        if len(self.queues) != 1:
            raise InvalidSettingError("queue: a store has one queue; name exactly one")
        settings = self._settings
        settings.load_retention()  # rather than have the first cleanup fail
        self._queue: Queue = self.queues[0]
        self._reservations = Reservations(self.connection, self._queue.name, self._queue.key)
        self._acknowledgements = Channel(self.connection)
        self._publisher = Publisher(self._acknowledgements)
        self._jobs_left = max_jobs
        self.may_wait_for_server = not options.get("burst")
        with closing(store_lock(settings.store)) as lock:
            if not acquire_or_stop(lock, None if options.get("burst") else self._announce_wait):
                return False
            with open_backend(settings.store, keep_edits=settings.keep_edits) as backend:
                self._backend: SessionBackend = backend
                self.wait_for_server(
                    partial(
                        recognize,
                        self.connection,
                        self._queue.name,
                        backend,
                        settings.accept_store,
                    )
                )
                log.info("storing queue %r into %s", self._queue.name, settings.store)
                self._housekeeping = Housekeeping(
                    backend, settings, self._acknowledgement, self.connection
                )
                gc.freeze()  # what is there by now stays, and need not be looked through again
                try:
                    has_worked = super().work(*args, **options)
                finally:
                    with suppress(*SERVER_TROUBLE):
                        self._blames_jobs = self._crash is not None
                        self._put_back()
                    self._leave()
        if self._crash is not None:  # RQ's loop only logs it
            raise self._crash
        return has_worked

    def register_birth(self) -> None:
        """As RQ's; says also where it stores, to who asks a worker for something."""
        super().register_birth()
        store = absolute_url(self._settings.store)
        self.connection.hset(self.key, "store", store)
        # Whoever wrote there from this host held the lock that this worker has now.
        forget_dead_workers(self.connection, self._queue.name, store, self.key)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Any, Queue] | None:
        """The next group; None when a burst is over or the worker has idled long enough.

        RQ's loop hands whatever comes from here to `execute_job`. With no group it goes once round
        the loop, which looks for signals and suspension, and lets upkeep have its slice.
        """
        while not self._stop_requested:
            try:
                self.heartbeat()
                if self._must_put_back:
                    self._put_back()
                group = self._next_group()
                if group is None and not self._housekeeping and not self._backend.tidy():
                    self._confirm()
                    if timeout is None or self._has_idled(max_idle_time):
                        return None
                    self.set_state(WorkerStatus.IDLE)
                    group = self._wait_for_group()
                    self.server.report_recovered()
                if group or self._housekeeping:
                    self._busy_at = time.monotonic()
                return group, self._queue
            except SuspendedError:
                self.look_for_suspension = True
                break
            except SERVER_TROUBLE as error:
                self._wait_for_server(error)
            except Exception as error:
                self._note_crash(error)
                raise
        return None, self._queue

    def execute_job(self, job: Any, queue: Queue) -> None:
        """Apply and acknowledge one group, then do one slice of upkeep."""
        try:
            if job is not None:
                self._work_through(job)
            if self._housekeeping and not self._stop_requested:
                self._keep_house()
        except SERVER_TROUBLE as error:
            # What was committed is safe; what was not acknowledged comes again, and is known.
            self._wait_for_server(error)
        except Exception as error:
            self._note_crash(error)
            raise
        if self._jobs_left is not None and self._jobs_left <= 0:
            self._stop_requested = True

    def _wait_for_server(self, error: Exception) -> None:
        """Say so, connect anew, and have what is in flight taken up again."""
        self._must_put_back = True
        self.server.report(described(error), "jobs wait, what is in flight is taken up again")
        self.hang_up()
        self._reservations.hang_up()
        time.sleep(1.0)

    def _note_crash(self, error: Exception) -> None:
        if not isinstance(error, StopRequested):  # that is how RQ's signal handler ends the loop
            self._crash = error

    def _announce_wait(self, holder: str) -> None:
        log.warning("process %s writes to %s; waiting as its standby", holder, self._settings.store)
        if self._on_wait is not None:
            self._on_wait(holder)

    def _has_idled(self, max_idle_seconds: int | None) -> bool:
        return max_idle_seconds is not None and time.monotonic() - self._busy_at > max_idle_seconds

    def _leave(self) -> None:
        """Leave the process as it was, for who works within one that goes on."""
        gc.unfreeze()
        self._acknowledgements.reset()
        self._reservations.hang_up()
        self.hang_up()

    def _put_back(self) -> None:
        """Start from what the queue says: nothing is in flight, no upkeep is under way.

        What was asked for or decoded, and not applied, goes back with the rest.
        """
        self._housekeeping.clear()
        self._next = None
        with suppress(*SERVER_TROUBLE):
            self._confirm()
        self._acknowledgements.reset()
        count = self._reservations.put_back(after_death=self._blames_jobs)
        self._must_put_back = self._blames_jobs = False
        if count:
            log.warning("put %d jobs that were in flight back to the head of the queue", count)

    @property
    def _most(self) -> int:
        """How many jobs the next group may have."""
        most = self._settings.group_size
        return most if self._jobs_left is None else min(most, self._jobs_left)

    def _next_group(self) -> Group | None:
        # From here on a signal must let the group be finished: BUSY says so to RQ's handler.
        was, self._state = self._state, WorkerStatus.BUSY
        group, self._next = self._next, None
        if group is not None:
            self._ask_after(group)
            return group
        if self._housekeeping and self._housekeeping.seconds < self._reservations.alone_seconds:
            self._state = was
            return None
        try:
            group = self._group(self._reservations.take(self._most))
            return group
        finally:
            if group is None:
                self._state = was

    def _wait_for_group(self) -> Group | None:
        # A signal may break off the wait. What was taken in that moment is put back at the end.
        jobs = self._reservations.wait_and_take(_IDLE_WAIT_SECONDS, self._most)
        if jobs:
            self._state = WorkerStatus.BUSY
        return self._group(jobs)

    def _group(self, jobs: list[ReservedJob]) -> Group | None:
        """The group of what was taken, after the time it may have to grow."""
        if not jobs:
            return None
        if self._jobs_left is None and self._settings.group_wait_ms and 1 < len(jobs) < self._most:
            time.sleep(self._settings.group_wait_ms / 1e3)
            with suppress(SuspendedError):  # what is taken is carried out
                jobs += self._reservations.take(self._most - len(jobs))
        group = Group(jobs, self._acknowledgement, self._reservations.is_deadly)
        self._ask_after(group)
        return group

    def _ask_after(self, group: Group) -> None:
        """When more is waiting, have the server get it ready while this group is applied."""
        if (
            group.size >= self._most
            and self._jobs_left is None
            and not self._stop_requested
            and not self._reservations.has_suspects
        ):
            self._reservations.ask(self._most)

    def _prepare_next(self) -> None:
        """Decode the group that was asked for; whatever goes wrong must not touch this one."""
        if not self._reservations.has_asked:
            return
        try:
            jobs = self._reservations.take(self._most)
            self._next = Group(jobs, self._acknowledgement) if jobs else None
        except SuspendedError:
            self.look_for_suspension = True
        except SERVER_TROUBLE as error:
            self._must_put_back = True
            self.server.report(described(error), "what is in flight is taken up again")

    def _work_through(self, group: Group) -> None:
        """Apply and acknowledge the group: nearly always in one go, else some of it at a time."""
        while not self._do_part(group):
            group.begin_part()
            self.heartbeat()
            if self._stop_requested:
                return  # the rest is put back

    def _do_part(self, group: Group) -> bool:
        """Apply and acknowledge what the answers' budget allows; whether nothing is left."""
        started = time.monotonic()
        group.drop_stale(self._are_there)
        count = len(group.operations)
        group.settle(self._apply(group))
        if group.is_done:
            for job, operation in group.upkeep:
                self._housekeeping.start(job, operation, group.acknowledgement)
        seconds = time.monotonic() - started
        self._send(group.acknowledgement, seconds)
        log.debug("committed %d jobs in %.1f ms", count - len(group.operations), 1e3 * seconds)
        return group.is_done

    def _are_there(self, jobs: Sequence[ReservedJob]) -> list[bool]:
        commands = [("EXISTS", f"rq:job:{job.id}") for job in jobs]
        self._confirm()
        return [bool(count) for count in self._acknowledgements.call(*commands)]

    def _apply(self, group: Group) -> list[Any]:
        """Apply the group; while the store fails, pause and try again: it is no job's fault."""
        if not group.operations:
            return []
        meanwhile = self._prepare_next if self._reservations.has_asked else None
        store = FailingStore(self.connection, self.key)
        while True:
            try:
                answers = self._backend.apply(group.operations, meanwhile, self._budget)
            except (StoreUnavailableError, StoreUnusableError) as error:
                if self._stop_requested:
                    raise StopRequested from error
                store.pause(error)
                with suppress(*SERVER_TROUBLE):
                    self.heartbeat()
            else:
                store.report_recovered()
                return answers

    def _keep_house(self) -> None:
        started = time.monotonic()
        try:
            acknowledgement = self._housekeeping.do_slice()
        except StoreUnavailableError as error:
            log.error("upkeep waits: %s", error)
            self._must_put_back = True
            time.sleep(LONGEST_PAUSE_SECONDS)
            return
        self.has_worked = True
        if acknowledgement is not None:
            self._send(acknowledgement, time.monotonic() - started)

    def _acknowledgement(self) -> Acknowledgement:
        return Acknowledgement(self._queue.name, self._reservations.intermediate_key, self)

    def _send(self, acknowledgement: Acknowledgement, seconds: float) -> None:
        self._confirm()
        self._acknowledgements.refresh()
        with self._blaming_jobs():
            self._publisher.publish(acknowledgement)
            self._acknowledgements.send(*acknowledgement.commands(seconds))
        self.has_worked = True
        if self._jobs_left is not None:
            self._jobs_left -= acknowledgement.succeeded + acknowledgement.failed
        if self._reservations.has_suspects:
            self._confirm()
            self._reservations.note_released(acknowledgement.released)

    def _confirm(self) -> None:
        """See that the server did what the last acknowledgement says."""
        if self._acknowledgements.is_awaited:
            with self._blaming_jobs():
                check_acknowledged(self._acknowledgements.replies())
            self.server.report_recovered()

    @contextmanager
    def _blaming_jobs(self) -> Iterator[None]:
        """Should the server hang up meanwhile, it may be because of what it is sent."""
        try:
            yield
        except SERVER_TROUBLE as error:
            self._blames_jobs = not is_state_of_server(error)
            raise


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
