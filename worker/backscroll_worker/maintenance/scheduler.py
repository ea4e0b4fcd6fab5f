"""Enqueues maintenance when it is due: cleanup and compaction, by cron expressions in UTC.

RQ's cron scheduler pickles its jobs and knows nothing of a second scheduler. This one keeps its
registration and its heartbeat, but one script in Redis decides about each tick: it is enqueued
once, however many schedulers run, and later if none was running.
"""

from __future__ import annotations

import hashlib
import logging
import select
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import redis
from croniter import CroniterError, croniter
from rq.cron import CronJob, CronScheduler
from rq.exceptions import SchedulerNotFound

from backscroll.contract.codec import function_name
from backscroll.contract.errors import AuthenticationFailedError, InvalidSettingError
from backscroll.contract.messages import to_micros
from backscroll.contract.operations import Cleanup, Compact
from backscroll.transport.connection import backoff, connect, explain
from backscroll.transport.outage import Outage
from backscroll.transport.rq_protocol import (
    LUA_KEYS,
    LUA_WRITE_JOB,
    MAINTENANCE_TTL_SECONDS,
    QUEUES_KEY,
    JobWriter,
    in_flight_key,
    own_key,
    queue_key,
    registry_key,
)
from backscroll_worker.maintenance.scheduler_name import scheduler_name
from backscroll_worker.settings import Settings

log = logging.getLogger("backscroll.scheduler")

_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

# Everything is read before anything is written: a script that fails half-way would lose the tick.
# The previous job is looked for where RQ keeps jobs and not in its own status, because a queue
# that was emptied by hand leaves a status of "queued" behind for ever. A last tick of the future is
# that of a clock that was ahead: it stops no tick that comes, and the last four are remembered, so
# that none of them is taken twice though the clock is set back, and ahead again.
_TAKE_TICK: Final = (
    LUA_KEYS
    + LUA_WRITE_JOB
    + """
local state, queue, in_flight, started, queues = unpack(KEYS)
local tick, now, id = ARGV[1], ARGV[2], ARGV[3]
local last, previous, known = unpack(redis.call('HMGET', state, 'tick', 'job', 'ticks'))
known = known or last or ''
local ticks = tick
local count = 1
for each in known:gmatch('%d+') do
  if each == tick then return 'known' end
  if count < 4 then ticks = ticks .. ' ' .. each end
  count = count + 1
end
if last and tonumber(last) <= tonumber(now) and tonumber(last) >= tonumber(tick) then
  return 'known'
end
local outcome = last and 'enqueued' or 'first'
if outcome == 'enqueued' and previous then
  if redis.call('LPOS', queue, previous) or redis.call('LPOS', in_flight, previous) then
    outcome = 'waiting'
  end
  for _, execution in ipairs(redis.call('ZRANGEBYSCORE', started, now, '+inf')) do
    if execution:sub(1, #previous + 1) == previous .. ':' then outcome = 'waiting' end
  end
end
redis.call('HSET', state, 'tick', tick, 'ticks', ticks)
if outcome == 'enqueued' then
  redis.call('HSET', state, 'job', id)
  write_job(id, unpack(ARGV, 4))
  redis.call('SADD', queues, queue)
  redis.call('RPUSH', queue, id)
end
return outcome
"""
)


def utc_now() -> datetime:
    """The scheduler's clock."""
    return datetime.now(UTC)


class MaintenanceJob(CronJob):
    """One kind of maintenance on one queue, and the cron expression that says when."""

    def __init__(
        self, writer: JobWriter, operation: type[Cleanup | Compact], cron: str, now: datetime
    ) -> None:
        super().__init__(
            writer.queue,
            func_name=function_name(operation.kind),
            cron=_as_rq_has_it(cron),
            result_ttl=MAINTENANCE_TTL_SECONDS,
            name=operation.kind,
        )
        self._writer = writer
        self._operation = operation
        self.cron_expression = cron
        self.state_key = own_key(writer.queue, "cron", operation.kind)
        self.next_enqueue_time = self.tick_after(now)

    def tick_after(self, now: datetime) -> datetime:
        """The first tick later than `now`."""
        return cast(datetime, self._ticks(now).get_next(datetime))

    def tick_before(self, now: datetime) -> datetime:
        """The last tick not later than `now`."""
        # croniter's previous tick is strictly earlier, so it is asked from the second after.
        following = now.replace(microsecond=0) + timedelta(seconds=1)
        return cast(datetime, self._ticks(following).get_prev(datetime))

    def _ticks(self, start: datetime) -> croniter:
        return croniter(self.cron_expression, start, second_at_beginning=True)

    def job_id(self, tick: datetime) -> str:
        """The same for every scheduler, and another one on each queue of a server."""
        queue = hashlib.blake2b(self.queue_name.encode(), digest_size=4).hexdigest()
        return f"{self.name}-{tick:%Y%m%dT%H%M%S}-{queue}"

    def take_tick(self, connection: redis.Redis, now: datetime) -> bool:
        """Enqueue the job if the last tick is still to be dealt with; whether it was enqueued."""
        tick = self.tick_before(now)
        self.next_enqueue_time = self.tick_after(now)
        operation = self._operation(self.job_id(tick), to_micros(now))
        queue = self.queue_name
        op_id, *fields = self._writer.job(operation, "queued")
        job: list[Any] = [op_id, queue, *fields]
        started = registry_key("wip", queue)
        keys = [self.state_key, queue_key(queue), in_flight_key(queue), started, QUEUES_KEY]
        moments = [int(tick.timestamp()), int(now.timestamp())]
        reply: Any = connection.eval(_TAKE_TICK, len(keys), *keys, *moments, *job)
        return self._took(reply.decode() if isinstance(reply, bytes) else reply, tick, op_id)

    def _took(self, outcome: str, tick: datetime, op_id: str) -> bool:
        if outcome == "enqueued":
            self.latest_enqueue_time = tick
            log.info("enqueued %s", op_id)
        elif outcome == "waiting":
            log.warning(
                "skipped %s of %s: the previous run is still queued on %r or running. "
                "Is a worker running? `backscroll check` shows it.",
                self.name,
                f"{tick:%Y-%m-%d %H:%M:%S}Z",
                self.queue_name,
            )
        elif outcome == "first":
            log.info("%s was never scheduled here: it begins with the next tick", self.name)
        return outcome == "enqueued"


def _as_rq_has_it(cron: str) -> str:
    """With the seconds last, which is how RQ reads and shows it."""
    *seconds, minute, hour, day, month, weekday = cron.split()
    return " ".join([minute, hour, day, month, weekday, *seconds])


class MaintenanceScheduler(CronScheduler):
    """RQ's cron scheduler for maintenance jobs, which survives a server that is unreachable."""

    def __init__(
        self, settings: Settings, url: str, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        super().__init__(connect(url), name=scheduler_name(settings.queue))
        self._url = url
        self._now = now
        self._writer = JobWriter(settings.queue, settings.max_queue_depth)
        self.maintenance_jobs = [
            self._maintenance_job(Compact, settings.compact_cron),
            self._maintenance_job(Cleanup, settings.cleanup_cron),
        ]
        self._cron_jobs.extend(self.maintenance_jobs)  # what RQ shows of a scheduler

    def enqueue_jobs(self) -> list[CronJob]:
        """Take each job's last tick; the jobs that were enqueued."""
        now = self._now()
        return [job for job in self.maintenance_jobs if job.take_tick(self.connection, now)]

    def calculate_sleep_interval(self) -> float:
        """Seconds to the next tick, few enough that the registration does not expire."""
        now = self._now()
        pause = min(job.tick_after(now) for job in self.maintenance_jobs) - now
        return min(pause.total_seconds(), 60.0)

    def run(self, pause: Callable[[float], bool]) -> None:
        """Schedule until `pause`, which waits for some seconds, returns that it is time to stop.

        Raises `AuthenticationFailedError` when the server refuses the login at the start.
        """
        delays, failures, outage = backoff(), 0, Outage(log, "the server")
        is_registered = False
        while True:
            try:
                if not is_registered:
                    self.register_birth()
                    is_registered = True
                if self.enqueue_jobs():
                    self.save()
                self.heartbeat()
            except redis.RedisError as error:
                trouble = explain(error, self._url)
                if isinstance(trouble, AuthenticationFailedError) and not is_registered:
                    raise trouble from error
                outage.report(str(trouble), "trying again")
                # redis-py's back-off overflows after a thousand failures.
                failures = min(failures + 1, 10)
                seconds = delays.compute(failures)
            else:
                outage.report_recovered()
                failures = 0
                seconds = self.calculate_sleep_interval()
            if pause(seconds):
                break
        with suppress(redis.RedisError, SchedulerNotFound):
            self.register_death()

    def _maintenance_job(self, operation: type[Cleanup | Compact], cron: str) -> MaintenanceJob:
        try:
            job = MaintenanceJob(self._writer, operation, cron, self._now())
            job.tick_before(self._now())
        except CroniterError as error:
            raise InvalidSettingError(
                f"BACKSCROLL_{operation.kind.upper()}_CRON: {cron!r} is not a valid cron "
                f"expression: {error}. Give five fields, for example '30 3 * * *' for 03:30 UTC "
                "every day."
            ) from None
        return job


def run_scheduler(settings: Settings, url: str) -> None:
    """Enqueue maintenance on the server at `url` until SIGTERM or SIGINT.

    Raises `AuthenticationFailedError` when the server refuses the login at the start; waits and
    tries again whatever else happens to the server. Any number of schedulers may run at once.
    """
    scheduler = MaintenanceScheduler(settings, url)
    for job in scheduler.maintenance_jobs:
        log.info("%s: %r in UTC, next at %s", job.name, job.cron_expression, job.next_enqueue_time)
    with _until_stopped() as pause:
        scheduler.run(pause)


@contextmanager
def _until_stopped() -> Iterator[Callable[[float], bool]]:
    """A pause that SIGTERM or SIGINT ends; it returns whether one of them has come.

    The signal becomes a byte to wait for. A handler that raised, as RQ's does, could do so in the
    middle of a command, or inside a logger, which would swallow it.
    """
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in _STOP_SIGNALS}
    fd = signal.set_wakeup_fd(sender.fileno())
    arrived = select.poll()  # and not select, which knows no descriptor beyond 1,023
    arrived.register(receiver, select.POLLIN)
    try:
        yield lambda seconds: bool(arrived.poll(seconds * 1_000))
    finally:
        signal.set_wakeup_fd(fd)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        receiver.close()
        sender.close()
