"""`backscroll check`: every finding is found, graded, explained, and nothing is changed by it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis
from rq.suspension import suspend

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.health import Check, check, check_quickly
from backscroll_worker.ops.server import running_server
from backscroll_worker.settings import Settings
from backscroll_worker.testing.conformance.totals import bytes_read
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, done, in_terminal, run, without_styles, work_off
from tests.processes import running_worker, spawn, wait_for


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Settings]:
    """Settings for a server whose configuration a test may change."""
    alone = Settings(None, tmp_path / "own", f"sqlite://{tmp_path / 'backscroll.db'}")
    with running_server(alone) as url:
        yield replace(alone, redis_url=url)


def found(settings: Settings, name: str) -> Check:
    assert settings.redis_url is not None
    checks = [
        one for one in check(settings, settings.redis_url) if f"{one.area} {one.name}" == name
    ]
    assert checks, name
    return checks[0]


def level(settings: Settings, name: str) -> str:
    return found(settings, name).level


def register(client: redis.Redis, name: str, **fields: str) -> None:
    """A worker as RQ registers it."""
    client.sadd("rq:workers:backscroll", f"rq:worker:{name}")
    heartbeat = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    mapping: Any = {"last_heartbeat": heartbeat, "state": "idle", **fields}
    client.hset(f"rq:worker:{name}", mapping=mapping)


def test_a_system_that_works_has_no_problem(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    scheduler = spawn(settings, "scheduler", log=tmp_path / "scheduler.log")
    try:
        with running_worker(settings, client, tmp_path / "worker.log"):
            done(settings, "append", "k", "user", "hello", "--wait")
            wait_for(lambda: client.zcard("rq:cron_schedulers"), "the scheduler")
            result = run(settings, "check")
            checks = document(settings, "check")
    finally:
        scheduler.kill()
        scheduler.wait()
    assert result.exit_code == ExitCode.OK
    assert {one["area"] for one in checks} == {"server", "queue", "worker", "scheduler", "store"}
    assert [one for one in checks if one["level"] != "ok" and one["name"] != "disk"] == []


def test_a_problem_ends_with_exit_code_1_and_advice(settings: Settings) -> None:
    result = run(settings, "check")
    assert result.exit_code == ExitCode.FAILED
    assert "backscroll worker" in result.stdout
    assert "1 problem" in result.stderr


def test_warnings_alone_do_not_fail(settings: Settings, client: redis.Redis) -> None:
    register(client, "w")
    result = run(settings, "check")
    assert (result.exit_code, "warning" in result.stderr) == (ExitCode.OK, True)


def test_a_check_changes_nothing(settings: Settings, client: redis.Redis, tmp_path: Path) -> None:
    with Producer(settings.redis_url) as producer:
        producer.append("k", ChatMessage.user("a"))
    client.zadd("rq:failed:backscroll", {"long-ago": 1})
    client.zadd("rq:cron_schedulers", {"long-ago": 1})
    client.sadd("rq:workers:backscroll", "rq:worker:gone")

    def everything() -> Any:
        return {key: client.dump(key) for key in client.keys("*")}

    before, files = everything(), sorted(tmp_path.iterdir())
    run(settings, "check")
    run(settings, "stats")
    assert (everything(), sorted(tmp_path.iterdir())) == (before, files)


def test_without_a_server_the_store_is_still_looked_at(settings: Settings, tmp_path: Path) -> None:
    done(settings, "append", "k", "user", "hello")
    work_off(settings, tmp_path)
    away = replace(settings, redis_url="redis://me:secret@127.0.0.1:1/0")
    assert level(away, "server reachable") == "problem"
    assert "secret" not in found(away, "server reachable").detail
    assert level(away, "store integrity") == "ok"
    embedded = run(replace(settings, redis_url=None), "check")
    assert "backscroll up" in embedded.stdout
    assert not (tmp_path / "server").exists()


def test_an_append_only_file_that_is_off_is_a_problem(own_server: Settings) -> None:
    assert own_server.redis_url is not None
    assert level(own_server, "server append-only file") == "ok"
    redis.Redis.from_url(own_server.redis_url).config_set("appendonly", "no")
    assert level(own_server, "server append-only file") == "problem"


def test_an_evicting_policy_is_a_problem_once_there_is_a_limit(own_server: Settings) -> None:
    assert own_server.redis_url is not None
    client = redis.Redis.from_url(own_server.redis_url)
    assert level(own_server, "server eviction") == "ok"
    client.config_set("maxmemory-policy", "allkeys-lru")
    assert level(own_server, "server eviction") == "warning"
    client.config_set("maxmemory", "1gb")
    assert level(own_server, "server eviction") == "problem"


def test_memory_near_its_limit_is_a_warning_and_at_it_a_problem(own_server: Settings) -> None:
    assert own_server.redis_url is not None
    client = redis.Redis.from_url(own_server.redis_url)
    info: Any = client.info("memory")
    client.config_set("maxmemory", int(info["used_memory"] * 1.15))
    assert level(own_server, "server memory") == "warning"
    client.config_set("maxmemory", int(info["used_memory"] * 2))
    assert level(own_server, "server memory") == "ok"
    client.config_set("maxmemory", int(info["used_memory"] / 2))
    assert level(own_server, "server memory") == "problem"


def test_a_queue_is_held_against_its_cap(settings: Settings) -> None:
    with Producer(settings.redis_url) as producer:
        for _ in range(9):
            producer.append("k", ChatMessage.user("a"))
    assert level(settings, "queue depth") == "ok"
    assert level(replace(settings, max_queue_depth=10), "queue depth") == "warning"
    assert level(replace(settings, max_queue_depth=9), "queue depth") == "problem"


def test_a_job_that_waits_for_long_is_a_warning(settings: Settings, client: redis.Redis) -> None:
    with Producer(settings.redis_url) as producer:
        op_id = producer.append("k", ChatMessage.user("a")).op_id
    assert level(settings, "queue lag") == "ok"
    past = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S.%fZ}"
    client.hset(f"rq:job:{op_id}", "enqueued_at", past)
    assert level(settings, "queue lag") == "warning"


def test_failed_jobs_are_a_warning(settings: Settings, client: redis.Redis) -> None:
    assert level(settings, "queue failed jobs") == "ok"
    client.zadd("rq:failed:backscroll", {"x": 1})
    assert level(settings, "queue failed jobs") == "warning"


def test_jobs_in_flight_are_a_problem_only_while_nobody_works(
    settings: Settings, client: redis.Redis
) -> None:
    client.rpush("rq:queue:backscroll:intermediate", "x")
    assert level(settings, "queue in flight") == "problem"
    register(client, "w")
    assert level(settings, "queue in flight") == "ok"


def test_a_worker_counts_only_while_it_is_heard_of(settings: Settings, client: redis.Redis) -> None:
    assert level(settings, "worker alive") == "problem"
    client.sadd("rq:workers:backscroll", "rq:worker:gone")
    assert level(settings, "worker alive") == "problem"
    register(client, "w", last_heartbeat="2026-01-01T00:00:00.000000Z")
    assert "w: last heartbeat" in found(settings, "worker alive").detail
    assert level(settings, "worker alive") == "problem"
    register(client, "w2")
    assert level(settings, "worker alive") == "ok"


def test_two_workers_on_one_queue_are_a_warning(settings: Settings, client: redis.Redis) -> None:
    register(client, "a")
    register(client, "b")
    assert level(settings, "worker only one") == "warning"


def test_a_worker_that_was_killed_is_missed(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log") as worker:
        assert level(settings, "worker alive") == "ok"
        worker.kill()
        worker.wait()
    (key,) = client.keys("rq:worker:*")
    past = f"{datetime.now(UTC) - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S.%fZ}"
    client.hset(key, "last_heartbeat", past)
    assert level(settings, "worker alive") == "problem"


def test_a_worker_whose_store_fails_says_why(settings: Settings, client: redis.Redis) -> None:
    register(client, "w", store_error="database or disk is full")
    assert "disk is full" in found(settings, "worker alive").detail
    assert level(settings, "worker alive") == "problem"


def test_a_suspended_worker_is_a_warning(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with running_worker(settings, client, tmp_path / "worker.log"):
        suspend(client)
        wait_for(lambda: level(settings, "worker alive") == "warning", "the suspension")


def test_a_scheduler_that_was_not_heard_of_is_missed(
    settings: Settings, client: redis.Redis
) -> None:
    client.zadd("rq:cron_schedulers", {"old": time.time() - 1000})
    assert level(settings, "scheduler alive") == "warning"
    client.zadd("rq:cron_schedulers", {"new": time.time()})
    assert level(settings, "scheduler alive") == "ok"


def test_a_store_that_is_elsewhere_is_a_warning(settings: Settings, tmp_path: Path) -> None:
    assert level(settings, "store exists") == "warning"
    assert not (tmp_path / "backscroll.db").exists()


def test_a_disk_with_little_room_is_a_warning(settings: Settings) -> None:
    no_room = replace(settings, store="sqlite:///proc/backscroll.db")  # it has 0 bytes of it
    assert level(no_room, "store disk") == "warning"
    assert "worker pauses" in found(no_room, "store disk").advice


def test_a_damaged_store_is_a_problem(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "backscroll.db").write_text("this is no database " * 100)
    assert level(settings, "store readable") == "problem"


def test_an_index_out_of_step_is_a_problem_unless_verifying_is_skipped(
    settings: Settings, tmp_path: Path
) -> None:
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage.user("hello"))
    assert level(settings, "store index") == "ok"
    with apsw.Connection(str(tmp_path / "backscroll.db")) as connection:
        connection.execute("DELETE FROM message_index")
    assert level(settings, "store index") == "problem"
    assert found(settings, "store index").advice
    assert level(settings, "store integrity") == "ok"
    assert settings.redis_url is not None
    skipped = check(settings, settings.redis_url, skip_verify=True)
    assert "index" not in [one.name for one in skipped]


def test_a_check_fits_a_terminal_of_80_columns(settings: Settings) -> None:
    _, shown = in_terminal(settings, "check")
    assert all(len(line) <= 80 for line in without_styles(shown).splitlines())
    assert "✗" in shown


@pytest.mark.parametrize("scheme", ["sqlite", "jsonl"])
def test_a_quick_check_reads_as_little_of_a_large_store_as_of_a_small_one(
    settings: Settings, client: redis.Redis, tmp_path: Path, scheme: str
) -> None:
    register(client, "w")
    assert settings.redis_url is not None
    read = []
    for sessions in (1, 200):
        there = replace(settings, store=f"{scheme}://{tmp_path}/{scheme}{sessions}")
        with open_tested(there.store) as store:
            for number in range(sessions):
                store.append(f"k{number}", ChatMessage.user("x" * 20_000))
        url = settings.redis_url
        checks: list[Check] = []
        check_quickly(there, url)  # whatever is read only once
        read.append(bytes_read(lambda: checks.extend(check_quickly(there, url))))  # noqa: B023
        assert [one.level for one in checks] == ["ok", "ok", "ok"]
    assert read[1] < 2 * read[0] + 20_000


def test_a_quick_check_fails_without_server_worker_or_store(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    assert run(settings, "check", "--quick").exit_code == ExitCode.FAILED
    register(client, "w")
    assert run(settings, "check", "--quick").exit_code == ExitCode.OK
    (tmp_path / "backscroll.db").write_text("this is no database " * 100)
    assert "not a database" in run(settings, "check", "--quick").stdout
    gone = replace(settings, redis_url=f"unix://{tmp_path}/no.sock")
    assert run(gone, "check", "--quick").exit_code == ExitCode.FAILED
    assert run(settings, "check", "--quick", "--deep").exit_code == ExitCode.USAGE
