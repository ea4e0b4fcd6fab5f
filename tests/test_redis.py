"""Redis itself, in Debian's version, beside the embedded Valkey that the other tests use."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage, NotConfirmedError, Producer
from backscroll_worker.maintenance.scheduler import MaintenanceScheduler
from backscroll_worker.ops.health import check
from backscroll_worker.settings import Settings
from tests.conftest import in_ci
from tests.processes import in_flight, running_worker, stop, wait_for


def answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    program = shutil.which("redis-server")
    if program is None:
        if in_ci():
            pytest.fail("CI has to install redis-server")
        pytest.skip("redis-server is not installed")
    socket = tmp_path / "redis.sock"
    url = f"unix://{socket}"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path)]
    server = subprocess.Popen(
        [program, *options, "--appendonly", "yes", "--save", ""], stdout=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: answers(url), "redis-server")
        yield Settings(redis_url=url, data_dir=tmp_path, store=f"sqlite://{tmp_path}/b.db")
    finally:
        server.terminate()
        server.wait()


def test_the_whole_way_works_on_it(settings: Settings, tmp_path: Path) -> None:
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url) as client:
        with (
            running_worker(settings, client, tmp_path / "worker.log") as process,
            Producer(settings.redis_url) as producer,
        ):
            for number in range(1200):
                producer.append("k", ChatMessage.user(str(number)))
            producer.rollback("k")
            assert [message.content for message in producer.load("k")] == [
                str(number) for number in range(1199)
            ]
            assert len(producer.search("1198")) == 1
            assert producer.append("k", ChatMessage.user("x"), ack="stored").affected == 1
            assert producer.cleanup(1).sessions == 0
            assert producer.compact().op_ids_purged == 0
            MaintenanceScheduler(settings, settings.redis_url).enqueue_jobs()
            problems = [
                found for found in check(settings, producer.url) if found.level == "problem"
            ]
            assert problems == []
            assert stop(process) == 0
        assert in_flight(client) == []


def test_fsynced_either_holds_or_says_that_it_cannot(settings: Settings) -> None:
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url) as client:
        version = tuple(map(int, str(client.info("server")["redis_version"]).split(".")))
    with Producer(settings.redis_url) as producer:
        if version >= (7, 2):
            assert producer.append("k", ChatMessage.user("x"), ack="fsynced").op_id
        else:
            with pytest.raises(NotConfirmedError, match=r"needs Redis 7\.2"):
                producer.append("k", ChatMessage.user("x"), ack="fsynced")
