"""The scheduler's promises: a tick happens once, is not lost, and does not pile up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.cron import CronScheduler
from rq.job import Job, JobStatus

from backscroll.contract.codec import decode
from backscroll.contract.errors import InvalidSettingError
from backscroll.contract.operations import Cleanup, Compact
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.maintenance.scheduler import MaintenanceScheduler
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from tests.processes import wait_for

START = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)


HOUR = timedelta(hours=1)


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time

    def advance(self, by: timedelta) -> None:
        self.time += by


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


@pytest.fixture
def hourly(settings: Settings) -> Settings:
    """Cleanup every hour, and a compaction that stays out of the way."""
    return replace(settings, ttl_hours=24.0, compact_cron="0 0 1 1 *")


def scheduler(settings: Settings, clock: Clock) -> MaintenanceScheduler:
    assert settings.redis_url is not None
    return MaintenanceScheduler(settings, settings.redis_url, now=clock)


def queued(client: redis.Redis, queue: str = "backscroll") -> list[str]:
    return Queue(queue, connection=client).get_job_ids()


def test_the_very_first_start_runs_nothing(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    assert scheduler(hourly, clock).enqueue_jobs() == []
    assert queued(client) == []


def test_a_tick_enqueues_a_job_that_rq_reads_and_the_contract_understands(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    maintenance = scheduler(hourly, clock)
    maintenance.enqueue_jobs()
    clock.time = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)
    assert [job.name for job in maintenance.enqueue_jobs()] == ["cleanup"]

    (job_id,) = queued(client)
    assert job_id.startswith("cleanup-20261121T070000-")
    job = Job.fetch(job_id, connection=client, serializer=OrjsonSerializer)
    assert job.func_name == "backscroll_worker.jobs.cleanup"
    assert job.get_status() == JobStatus.QUEUED
    assert job.origin == "backscroll"
    assert job.result_ttl == 86_400
    operation = decode(job_id, job.data)
    assert isinstance(operation, Cleanup)
    assert operation.op_id == job_id
    assert operation.ttl_hours is None, "how long to keep is the worker's setting"
    assert client.smembers("rq:queues") == {b"rq:queue:backscroll"}


def test_cleanup_and_compaction_keep_their_own_times(
    settings: Settings, clock: Clock, client: redis.Redis
) -> None:
    daily = replace(settings, ttl_hours=24.0, cleanup_cron="0 * * * *", compact_cron="30 3 * * *")
    maintenance = scheduler(daily, clock)
    kinds = []
    for _ in range(24 * 4 + 1):
        kinds += [job.name for job in maintenance.enqueue_jobs()]
        client.delete("rq:queue:backscroll")
        clock.advance(timedelta(minutes=15))
    assert kinds.count("cleanup") == 24
    assert kinds.count("compact") == 1


def test_a_compaction_decodes_too(settings: Settings, clock: Clock, client: redis.Redis) -> None:
    maintenance = scheduler(replace(settings, cleanup_cron="0 0 1 1 *"), clock)
    maintenance.enqueue_jobs()
    clock.advance(timedelta(days=1))
    maintenance.enqueue_jobs()
    (job_id,) = queued(client)
    job = Job.fetch(job_id, connection=client, serializer=OrjsonSerializer)
    assert isinstance(decode(job_id, job.data), Compact)


def test_two_schedulers_at_once_never_double_a_tick(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    both = [scheduler(hourly, clock), scheduler(hourly, clock)]
    both[0].enqueue_jobs()
    barrier = threading.Barrier(2)

    def tick(maintenance: MaintenanceScheduler) -> int:
        barrier.wait(60)
        return len(maintenance.enqueue_jobs())

    with ThreadPoolExecutor(2) as pool:
        for _ in range(50):
            clock.advance(HOUR)
            assert sum(pool.map(tick, both)) == 1
            assert client.llen("rq:queue:backscroll") == 1
            client.delete("rq:queue:backscroll")


def test_ticks_do_not_pile_up_while_no_worker_runs(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    maintenance = scheduler(hourly, clock)
    for _ in range(11):
        maintenance.enqueue_jobs()
        clock.advance(HOUR)
    assert len(queued(client)) == 1

    client.delete("rq:queue:backscroll")  # the worker is back and has done it
    maintenance.enqueue_jobs()
    assert len(queued(client)) == 1, "the next tick counts again"


@pytest.mark.parametrize("place", ["in flight", "started"])
def test_a_tick_is_left_out_while_the_job_before_it_runs(
    place: str, hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    maintenance = scheduler(hourly, clock)
    maintenance.enqueue_jobs()
    clock.advance(HOUR)
    maintenance.enqueue_jobs()
    (running,) = queued(client)
    if place == "in flight":  # as the group-commit worker holds it
        client.rename("rq:queue:backscroll", "rq:queue:backscroll:intermediate")
    else:  # as a stock `rq worker` does
        client.delete("rq:queue:backscroll")
        client.zadd("rq:wip:backscroll", {f"{running}:execution": clock.time.timestamp() + 7_000})
    clock.advance(HOUR)
    assert maintenance.enqueue_jobs() == []
    assert queued(client) == []

    clock.advance(HOUR)
    client.delete("rq:queue:backscroll:intermediate")  # the execution's entry expires by itself
    assert len(maintenance.enqueue_jobs()) == 1


def test_a_tick_that_passed_while_no_scheduler_ran_is_made_up_for_once(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    scheduler(hourly, clock).enqueue_jobs()
    clock.advance(5 * HOUR)
    successor = scheduler(hourly, clock)
    successor.enqueue_jobs()
    (job_id,) = queued(client)
    assert job_id.startswith("cleanup-20261121T110000-"), "the last of the ticks that were missed"
    client.delete("rq:queue:backscroll")
    assert successor.enqueue_jobs() == []
    assert scheduler(hourly, clock).enqueue_jobs() == []


def test_a_queue_emptied_by_hand_does_not_end_maintenance(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    maintenance = scheduler(hourly, clock)
    for _ in range(2):
        maintenance.enqueue_jobs()
        clock.advance(HOUR)
    client.delete("rq:queue:backscroll")  # the job's hash still says that it is queued
    assert len(maintenance.enqueue_jobs()) == 1


def test_a_clock_that_goes_back_repeats_no_tick(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    maintenance = scheduler(hourly, clock)
    maintenance.enqueue_jobs()
    clock.advance(HOUR)
    maintenance.enqueue_jobs()
    client.delete("rq:queue:backscroll")
    clock.advance(-HOUR)
    assert maintenance.enqueue_jobs() == []
    clock.advance(HOUR)
    assert maintenance.enqueue_jobs() == []


def test_a_clock_ahead_back_and_ahead_again_doubles_and_stops_no_tick(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    schedules = scheduler(hourly, clock)
    schedules.enqueue_jobs()
    taken: list[str] = []
    for hours in (1, 12, -12, 1, 12, -12, 1, 1, 24 * 365, -24 * 365, 1, -24 * 30, 1):
        clock.advance(hours * HOUR)
        schedules.enqueue_jobs()
        taken += queued(client)
        client.delete("rq:queue:backscroll")
    ticks = [job_id.split("-")[1] for job_id in taken if job_id.startswith("cleanup")]
    assert len(set(ticks)) == len(ticks)
    assert ticks == [
        f"{START.replace(minute=0) + hours * HOUR:%Y%m%dT%H%M%S}"
        for hours in (1, 13, 2, 14, 3, 4, 4 + 24 * 365, 5, 5 - 24 * 30, 6 - 24 * 30)
    ]


def test_two_queues_of_one_server_have_their_own_maintenance(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    one, other = scheduler(hourly, clock), scheduler(replace(hourly, queue="b.2"), clock)
    for _ in range(2):
        one.enqueue_jobs()
        other.enqueue_jobs()
        clock.advance(HOUR)
    assert len(queued(client)) == 1
    assert len(queued(client, "b.2")) == 1
    assert queued(client) != queued(client, "b.2")


def test_cleanup_is_scheduled_without_any_rule_for_the_sessions_own_ttls(
    settings: Settings, clock: Clock
) -> None:
    assert {job.name for job in scheduler(settings, clock).get_jobs()} == {"compact", "cleanup"}


def test_it_sleeps_until_the_next_tick_or_its_registration_expires(
    hourly: Settings, clock: Clock
) -> None:
    maintenance = scheduler(hourly, clock)
    assert maintenance.calculate_sleep_interval() == 60.0
    clock.time = datetime(2026, 11, 21, 6, 59, 50, 250_000, tzinfo=UTC)
    assert maintenance.calculate_sleep_interval() == 9.75


def test_a_cron_expression_that_never_comes_is_refused_by_name(
    settings: Settings, clock: Clock
) -> None:
    with pytest.raises(InvalidSettingError, match=r"BACKSCROLL_COMPACT_CRON: '0 0 30 2 \*'"):
        scheduler(replace(settings, compact_cron="0 0 30 2 *"), clock)


@pytest.mark.parametrize(
    ("cron", "comes"),
    [
        ("0 30 3 * * *", "2026-11-22 03:30:00"),
        ("15 0 0 31 12 *", "2026-12-31 00:00:15"),
        ("59 59 23 * * sun", "2026-11-22 23:59:59"),
        ("0 0 0 29 2 1", "2027-02-01 00:00:00"),  # a Monday
        ("@Daily", "2026-11-22 00:00:00"),
        ("@weekly", "2026-11-22 00:00:00"),
        ("@yearly", "2027-01-01 00:00:00"),
    ],
)
def test_a_cron_expression_means_to_rq_what_it_means_elsewhere(
    settings: Settings, clock: Clock, client: redis.Redis, cron: str, comes: str
) -> None:
    environ = {"HOME": str(settings.data_dir), "BACKSCROLL_COMPACT_CRON": cron}
    given = replace(settings, compact_cron=Settings.from_environment(environ).compact_cron)
    maintenance = scheduler(given, clock)
    (job,) = (job for job in maintenance.get_jobs() if job.name == "compact")
    moment = datetime.fromisoformat(f"{comes}+00:00")
    assert job.next_enqueue_time == moment
    job.latest_enqueue_time = clock.time
    assert job.get_next_enqueue_time().replace(tzinfo=UTC) == moment
    maintenance.register_birth()
    assert CronScheduler.all(client)


def test_rq_shows_a_running_scheduler_with_jobs_and_forgets_a_stopped_one(
    hourly: Settings, clock: Clock, client: redis.Redis
) -> None:
    maintenance = scheduler(hourly, clock)
    seen: list[CronScheduler] = []

    def look(_seconds: float) -> bool:
        seen.extend(CronScheduler.all(client))
        return True

    maintenance.run(look)
    assert [found.name for found in seen] == [maintenance.name]
    assert {job.func_name for job in seen[0].get_jobs()} == {
        "backscroll_worker.jobs.cleanup",
        "backscroll_worker.jobs.compact",
    }
    assert CronScheduler.all(client) == []


def test_a_server_that_goes_away_and_comes_back_costs_no_tick(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    own = Settings(None, tmp_path, "sqlite://x.db", ttl_hours=1.0, compact_cron="0 0 1 1 *")
    stop = threading.Event()
    pauses: list[float] = []

    def pause(seconds: float) -> bool:
        pauses.append(seconds)
        return stop.wait(min(seconds, 0.1))

    with running_server(own) as url:
        maintenance = MaintenanceScheduler(own, url, now=clock)
        thread = threading.Thread(target=maintenance.run, args=(pause,))
        thread.start()
        with redis.Redis.from_url(url) as client:
            wait_for(lambda: client.exists("backscroll:backscroll:cron:cleanup"), "the first tick")
    try:
        wait_for(lambda: "no answer from unix://" in caplog.text, "the outage to be told")
        tries = len(pauses)
        wait_for(lambda: len(pauses) > tries + 10, "ten more tries")
        assert caplog.text.count("no answer from") <= 2, "an outage is told once, not all the time"
        clock.advance(HOUR)
        with running_server(own) as url, redis.Redis.from_url(url) as client:
            wait_for(lambda: len(queued(client)) == 1, "the tick to be made up for")
            wait_for(lambda: "the server works again" in caplog.text, "the recovery to be logged")
            stop.set()
            thread.join(60)
    finally:
        stop.set()
    assert not thread.is_alive()
