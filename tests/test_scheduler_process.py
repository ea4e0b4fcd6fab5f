"""The scheduler as a process: how it begins, ends, and shares ticks with another."""

from __future__ import annotations

import signal
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from rq import Queue
from rq.utils import as_text

from backscroll.contract.errors import AuthenticationFailedError
from backscroll_worker.maintenance.scheduler import run_scheduler
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from tests.prepared import Prepared
from tests.processes import spawn, wait_for

START = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)


HOUR = timedelta(hours=1)


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


@pytest.fixture
def hourly(settings: Settings) -> Settings:
    """Cleanup every hour, and a compaction that stays out of the way."""
    return replace(settings, ttl_hours=24.0, compact_cron="0 0 1 1 *")


def queued(client: redis.Redis, queue: str = "backscroll") -> list[str]:
    return Queue(queue, connection=client).get_job_ids()


def test_a_wrong_password_ends_it_at_the_start(settings: Settings) -> None:
    assert settings.redis_url is not None
    url = f"{settings.redis_url}?username=nobody&password=wrong"
    with pytest.raises(AuthenticationFailedError, match="refused the login"):
        run_scheduler(settings, url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_with_exit_code_0(
    number: signal.Signals, settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    process = spawn(settings, "scheduler", log=tmp_path / "log")
    try:
        wait_for(lambda: client.zcard("rq:cron_schedulers") == 1, "the scheduler")
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
    assert client.zcard("rq:cron_schedulers") == 0


_MANY_FILES = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(4_096, hard), hard))
opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
from backscroll_worker.cli import main
main()
"""


def test_over_a_thousand_open_files_do_not_disturb_it(
    settings: Settings, client: redis.Redis
) -> None:
    process = Prepared(
        ["-c", _MANY_FILES, "scheduler"],
        env=environment(settings, settings.redis_url or ""),
    )
    wait_for(lambda: process.poll() is not None or client.exists("rq:cron_schedulers"), "it")
    process.terminate()
    assert process.wait(60) == 0


def test_two_processes_share_the_ticks_and_one_killed_loses_none(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    processes = [
        spawn(settings, "scheduler", log=tmp_path / "log", BACKSCROLL_COMPACT_CRON="* * * * * *")
        for _ in range(2)
    ]
    try:
        wait_for(lambda: client.zcard("rq:cron_schedulers") == 2, "both schedulers")
        done = [take_one(client), take_one(client)]
        processes[0].kill()
        done += [take_one(client), take_one(client)]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(set(done)) == 4
    assert done == sorted(done)


def take_one(client: redis.Redis) -> str:
    taken = client.blpop(["rq:queue:backscroll"], 20)
    assert taken is not None
    return as_text(taken[1])
