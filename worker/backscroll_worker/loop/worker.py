"""`GroupCommitWorker`: an RQ worker that commits jobs in groups.

A round:

1. Take the waiting jobs, up to a group (`reservation`).
2. Apply them to the store in one transaction (`batch`).
3. Acknowledge them in one pipeline (`acknowledgement`).
4. Run one slice of maintenance (`maintenance_runner`).

While the disk writes one group, the next is fetched and decoded, and the server executes the
previous acknowledgement. RQ's own loop handles signals, suspension, burst mode and registration.

It works from RQ's command line too, with its settings from the environment:
`RQ_REDIS_URL=redis://… rq worker -w backscroll_worker.loop.worker.GroupCommitWorker backscroll`
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
from backscroll.transport.pinned_connection import PinnedConnection
from backscroll.transport.rq_protocol import job_key
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.interpreter import applying_groups
from backscroll_worker.loop.acknowledgement import Acknowledgement, check_acknowledged
from backscroll_worker.loop.batch import Group
from backscroll_worker.loop.maintenance_runner import MaintenanceRunner
from backscroll_worker.loop.publication import Publisher
from backscroll_worker.loop.reservation import Reservations, ReservedJob, SuspendedError
from backscroll_worker.loop.resilient import SERVER_TROUBLE, ResilientWorker, forget_dead_workers
from backscroll_worker.loop.server_trouble import described, is_state_of_server
from backscroll_worker.loop.store_waits import (
    LONGEST_PAUSE_SECONDS,
    FailingStore,
    acquire_or_stop,
)
from backscroll_worker.loop.tails import Tails
from backscroll_worker.settings import Settings
from backscroll_worker.stores import store_at
from backscroll_worker.stores.identity import check_present, recognize

log = logging.getLogger("backscroll.worker")

_IDLE_WAIT_SECONDS: Final = 5


class GroupCommitWorker(ResilientWorker):
    """One worker on one queue that writes one store; see the module's docstring."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._settings: Settings = options.pop("settings", None) or Settings.from_environment()
        self._on_wait: Callable[[str], None] | None = options.pop("on_wait", None)
        super().__init__(*args, **options)
        self._next: Group | None = None
        self._jobs_left: int | None = None
        self._busy_at = time.monotonic()
        self._must_put_back = True
        self._blames_jobs = True  # of jobs in flight at the start, a worker died
        self._crash: Exception | None = None
        self._budget = AnswerBudget()

    def work(self, *args: Any, max_jobs: int | None = None, **options: Any) -> bool:
        """RQ's loop, while this process holds the store's lock.

        Raises `InvalidSettingError`, `StoreUnavailableError` or `StoreUnusableError` when it cannot
        begin.
        """
        if len(self.queues) != 1:
            raise InvalidSettingError("queue: a store has one queue; name exactly one")
        settings = self._settings
        settings.load_retention()  # fails now rather than in the first cleanup
        self._queue: Queue = self.queues[0]
        self._reservations = Reservations(self.connection, self._queue.name)
        self._acknowledgements = PinnedConnection(self.connection)
        self._publisher = Publisher(self._acknowledgements)
        self._jobs_left = max_jobs
        self.may_wait_for_server = not options.get("burst")
        self._store = store_at(settings.store, keep_edits=settings.keep_edits)
        known = self._queue.name, self._store, settings.accept_store
        self.wait_for_server(partial(check_present, self.connection, *known))
        with self._store as store:
            if not acquire_or_stop(store, None if options.get("burst") else self._announce_wait):
                return False
            self.wait_for_server(partial(recognize, self.connection, *known))
            log.info("storing queue %r into %s", self._queue.name, settings.store)
            self._maintenance = MaintenanceRunner(
                store, settings, self._acknowledgement, self.connection
            )
            most_bytes = 1024 * 1024 * settings.tails_mib
            self._tails = Tails(self.connection, self._queue.name, store, most_bytes, self._confirm)
            try:
                with applying_groups():
                    has_worked = super().work(*args, **options)
            finally:
                with suppress(*SERVER_TROUBLE):
                    self._tails.close()
                with suppress(*SERVER_TROUBLE):
                    self._blames_jobs = self._crash is not None
                    self._put_back()
                self._leave()
        if self._crash is not None:  # RQ's loop only logs it
            raise self._crash
        return has_worked

    def register_birth(self) -> None:
        """As RQ's; also records the store, for commands that ask a worker."""
        super().register_birth()
        self.connection.hset(self.key, "store", self._store.url)
        # Any earlier writer on this host held the lock that this worker has now.
        forget_dead_workers(self.connection, self._queue.name, self._store.url, self.key)

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Any, Queue] | None:
        """The next group; None when a burst is over or the worker has idled long enough.

        RQ's loop passes the result to `execute_job`. An empty group makes the loop run
        once, which checks for signals and suspension, and runs a slice of maintenance.
        """
        while not self._stop_requested:
            try:
                self.heartbeat()
                if self._must_put_back:
                    self._put_back()
                if not self._maintenance:
                    self._tails.refresh()
                self._reservations.takes_few = self._tails.are_kept
                group = self._next_group()
                if (
                    group is None
                    and not self._maintenance
                    and not self._store.maintain_while_idle()
                ):
                    self._confirm()
                    if timeout is None or self._has_idled(max_idle_time):
                        return None
                    self.set_state(WorkerStatus.IDLE)
                    group = self._wait_for_group()
                    self.server.report_recovered()
                if group or self._maintenance:
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
        """Apply and acknowledge one group, then run one slice of maintenance."""
        try:
            if job is not None:
                self._work_through(job)
            if self._maintenance and not self._stop_requested:
                self._tails.close()
                self._run_slice()
        except SERVER_TROUBLE as error:
            # What was committed is safe; what was not acknowledged comes again, and is a no-op.
            self._wait_for_server(error)
        except Exception as error:
            self._note_crash(error)
            raise
        if self._jobs_left is not None and self._jobs_left <= 0:
            self._stop_requested = True

    def _wait_for_server(self, error: Exception) -> None:
        """Log the error, reconnect, and have the jobs in flight taken again."""
        self._must_put_back = True
        self.server.report(described(error), "jobs wait; those in flight are taken again")
        self.hang_up()
        self._reservations.hang_up()
        time.sleep(1.0)

    def _note_crash(self, error: Exception) -> None:
        if not isinstance(error, StopRequested):  # by which RQ's signal handler ends the loop
            self._crash = error

    def _announce_wait(self, holder: str) -> None:
        log.warning("process %s writes to %s; waiting as its standby", holder, self._settings.store)
        if self._on_wait is not None:
            self._on_wait(holder)

    def _has_idled(self, max_idle_seconds: int | None) -> bool:
        return max_idle_seconds is not None and time.monotonic() - self._busy_at > max_idle_seconds

    def _leave(self) -> None:
        """Hang up, for callers that continue in the same process."""
        self._acknowledgements.reset()
        self._reservations.hang_up()
        self.hang_up()

    def _put_back(self) -> None:
        """Put everything in flight back, and drop the maintenance under way.

        This includes what was requested or decoded, and not applied.
        """
        self._maintenance.clear()
        self._next = None
        with suppress(*SERVER_TROUBLE):
            self._confirm()
        self._acknowledgements.reset()
        self._tails.renew()
        count = self._reservations.put_back(after_death=self._blames_jobs)
        self._must_put_back = self._blames_jobs = False
        if count:
            log.warning("put %d jobs that were in flight back to the head of the queue", count)

    @property
    def _most(self) -> int:
        """The maximum number of jobs in the next group."""
        most = self._settings.group_size
        return most if self._jobs_left is None else min(most, self._jobs_left)

    def _next_group(self) -> Group | None:
        # From here on the group is finished after a signal: RQ's handler sees BUSY.
        was, self._state = self._state, WorkerStatus.BUSY
        group, self._next = self._next, None
        if group is not None:
            self._ask_after(group)
            return group
        if self._maintenance and self._maintenance.seconds < self._reservations.alone_seconds:
            self._state = was
            return None
        try:
            group = self._group(self._reservations.take(self._most))
            return group
        finally:
            if group is None:
                self._state = was

    def _wait_for_group(self) -> Group | None:
        # A signal may interrupt the wait. Jobs taken at that moment are put back at the end.
        return self._group(self._reservations.wait_and_take(_IDLE_WAIT_SECONDS, self._most))

    def _group(self, jobs: Iterator[ReservedJob]) -> Group | None:
        """The group of the jobs taken; None if there are none."""
        is_deadly = self._reservations.is_deadly
        group = Group(self._with_late(jobs), self._acknowledgement, is_deadly)
        if not group.size:
            return None
        self._ask_after(group)
        return group

    def _with_late(self, jobs: Iterator[ReservedJob]) -> Iterator[ReservedJob]:
        """The jobs, and those that come in the time that a group has to grow."""
        count = 0
        for job in jobs:
            self._state = WorkerStatus.BUSY
            count += 1
            yield job
        if self._jobs_left is None and self._settings.group_wait_ms and 1 < count < self._most:
            time.sleep(self._settings.group_wait_ms / 1e3)
            with suppress(SuspendedError):  # jobs already taken are applied
                yield from self._reservations.take(self._most - count)

    def _ask_after(self, group: Group) -> None:
        """When more is waiting, have the server prepare it while this group is applied."""
        if (
            group.size >= self._most
            and self._jobs_left is None
            and not self._stop_requested
            and not self._reservations.has_suspects
        ):
            self._reservations.ask(self._most)

    def _prepare_next(self) -> None:
        """Decode the group that was requested; an error must not affect the current one."""
        if not self._reservations.has_asked:
            return
        try:
            group = Group(self._reservations.take(self._most), self._acknowledgement)
            self._next = group if group.size else None
        except SuspendedError:
            self.look_for_suspension = True
        except SERVER_TROUBLE as error:
            self._must_put_back = True
            self.server.report(described(error), "jobs in flight are taken again")

    def _work_through(self, group: Group) -> None:
        """Apply and acknowledge the group: nearly always at once, else in parts."""
        while not self._do_part(group):
            group.begin_part()
            self.heartbeat()
            if self._stop_requested:
                return  # the rest is put back

    def _do_part(self, group: Group) -> bool:
        """Apply and acknowledge what the answers' budget allows; returns whether all is done."""
        started = time.monotonic()
        group.drop_stale(self._are_there)
        count = len(group.operations)
        group.settle(self._apply(group))
        while group.unfinished:
            self._maintenance.finish(*group.unfinished.pop())
        if group.is_done:
            for job, operation in group.maintenance:
                self._maintenance.start(job, operation, group.acknowledgement)
        acknowledgement = group.acknowledgement
        released = acknowledgement.released
        acknowledgement.also(self._tails.update(group.done, released, is_whole=group.is_done))
        seconds = time.monotonic() - started
        self._send(acknowledgement, seconds)
        log.debug("committed %d jobs in %.1f ms", count - len(group.operations), 1e3 * seconds)
        return group.is_done

    def _are_there(self, jobs: Sequence[ReservedJob]) -> list[bool]:
        commands = [("EXISTS", job_key(job.id)) for job in jobs]
        self._confirm()
        return [bool(count) for count in self._acknowledgements.call(*commands)]

    def _apply(self, group: Group) -> list[Any]:
        """Apply the group; while the store fails, pause and retry: it is not a job's fault."""
        if not group.operations:
            return []
        prepare = self._prepare_next if self._reservations.has_asked else None
        failing = FailingStore(self.connection, self.key)
        while True:
            try:
                answers = self._store.apply(
                    group.operations, budget=self._budget, prepare_next=prepare
                )
            except (StoreUnavailableError, StoreUnusableError) as error:
                if self._stop_requested:
                    raise StopRequested from error
                failing.pause(error)
                with suppress(*SERVER_TROUBLE):
                    self.heartbeat()
            else:
                failing.report_recovered()
                return answers

    def _run_slice(self) -> None:
        started = time.monotonic()
        try:
            acknowledgement = self._maintenance.do_slice()
        except StoreUnavailableError as error:
            log.error("maintenance waits: %s", error)
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
            releases_few = self._reservations.takes_few
            commands = acknowledgement.commands(seconds, releases_few=releases_few)
            self._acknowledgements.send(*commands)
        self.has_worked = True
        if self._jobs_left is not None:
            self._jobs_left -= acknowledgement.succeeded + acknowledgement.failed
        if self._reservations.has_suspects:
            self._confirm()
            self._reservations.note_released(acknowledgement.released)

    def _confirm(self) -> None:
        """Check that the server executed the last acknowledgement."""
        if self._acknowledgements.is_awaited:
            with self._blaming_jobs():
                check_acknowledged(self._acknowledgements.replies())
            self.server.report_recovered()

    @contextmanager
    def _blaming_jobs(self) -> Iterator[None]:
        """If the server closes the connection meanwhile, the jobs may be the reason."""
        try:
            yield
        except SERVER_TROUBLE as error:
            self._blames_jobs = not is_state_of_server(error)
            raise
