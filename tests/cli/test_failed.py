"""Failed jobs: shown with their error, requeued in order, discarded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll.contract.codec import encode
from backscroll.contract.ids import new_op_id
from backscroll.contract.operations import Clear
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from tests.cli.command import document, done, in_terminal, run, work_off


@pytest.fixture
def client(server_url: str) -> redis.Redis:
    return redis.Redis.from_url(server_url)


def fail_jobs(settings: Settings, client: redis.Redis, directory: Path, count: int) -> list[str]:
    """Have `count` jobs fail; their payloads name a function that may not be called."""
    ids = [new_op_id() for _ in range(count)]
    for job_id in ids:
        payload = encode(Clear(job_id, 0, "k")).replace(
            b"backscroll_worker.jobs.clear", b"os.system"
        )
        fields: Any = {"data": payload, "origin": "backscroll", "description": "cl\x1b[31mear"}
        client.hset(f"rq:job:{job_id}", mapping=fields)
        client.rpush("rq:queue:backscroll", job_id)
    work_off(settings, directory)
    return ids


def waiting(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


def test_failed_jobs_are_listed_with_what_went_wrong(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    ids = fail_jobs(settings, client, tmp_path, 2)
    jobs = document(settings, "failed", "list")
    assert [job["id"] for job in jobs] == ids
    assert "os.system" in jobs[0]["error"]
    assert jobs[0]["failed_at"].endswith("Z")
    shown = run(settings, "failed", "list")
    assert ids[1] in shown.stdout
    assert "os.system" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert "2 failed jobs" in shown.stderr


def test_a_long_list_shows_the_newest_and_says_so(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    ids = fail_jobs(settings, client, tmp_path, 3)
    shown = run(settings, "failed", "list", "--limit", "1")
    assert [job_id in shown.stdout for job_id in ids] == [False, False, True]
    assert "3 failed jobs, the newest 1 shown" in shown.stderr


def test_requeued_jobs_go_to_the_end_of_the_queue_in_order_of_failure(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    ids = fail_jobs(settings, client, tmp_path, 3)
    with Producer(settings.redis_url) as producer:
        first = producer.append("k", ChatMessage.user("a")).op_id
    assert "requeued 1 job\n" in done(settings, "failed", "requeue", ids[2])
    assert "requeued 2 jobs\n" in done(settings, "failed", "requeue", "--all")
    assert waiting(client) == [first, ids[2], ids[0], ids[1]]
    assert document(settings, "failed", "list") == []


def test_a_requeued_job_is_carried_out_once_its_cause_is_gone(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    (job_id,) = fail_jobs(settings, client, tmp_path, 1)
    with Producer(settings.redis_url) as producer:
        producer.append("k", ChatMessage.user("a"))
    client.hset(f"rq:job:{job_id}", "data", encode(Clear(job_id, 1, "k")))
    done(settings, "failed", "requeue", "--all")
    work_off(settings, tmp_path)
    assert document(settings, "load", "k") == []
    assert document(settings, "failed", "list") == []


def test_a_job_whose_data_is_gone_is_told_and_the_others_are_requeued(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    ids = fail_jobs(settings, client, tmp_path, 2)
    client.delete(f"rq:job:{ids[0]}")
    result = run(settings, "failed", "requeue", "--all")
    assert result.exit_code == ExitCode.FAILED
    assert ids[0] in result.stderr
    assert waiting(client) == [ids[1]]
    assert "discarded 1 job\n" in done(settings, "failed", "discard", ids[0], "--yes")
    assert document(settings, "failed", "list") == []


def test_discarded_jobs_leave_nothing_behind(
    settings: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    ids = fail_jobs(settings, client, tmp_path, 2)
    assert run(settings, "failed", "discard", "--all").exit_code == ExitCode.USAGE
    assert "discarded 1 job\n" in done(settings, "failed", "discard", "--yes", ids[0])
    assert [job["id"] for job in document(settings, "failed", "list")] == [ids[1]]
    ended, shown = in_terminal(settings, "failed", "discard", "--all", typed=b"y\n")
    assert ended == ExitCode.OK
    assert "Delete 1 failed job permanently?" in shown
    assert client.keys("rq:job:*") == client.keys("rq:results:*") == []


def test_jobs_are_named_or_all_of_them_meant_but_not_both(settings: Settings) -> None:
    for arguments in (["requeue"], ["requeue", "--all", "x"], ["discard", "--yes"]):
        assert run(settings, "failed", *arguments).exit_code == ExitCode.USAGE


def test_the_embedded_server_is_started_to_look_into_it(settings: Settings, tmp_path: Path) -> None:
    embedded = Settings(None, tmp_path / "own", f"sqlite://{tmp_path / 'own.db'}")
    result = run(embedded, "failed", "list", "--json")
    assert orjson.loads(result.stdout) == []
    assert "started the embedded Valkey" in result.stderr
