"""The worker as operators know it: bursts, signals, standby, crashes, RQ's own commands."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import redis
from rq import Queue, Worker
from rq.job import Job
from rq.suspension import resume, suspend

from backscroll import ChatMessage, Producer
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.ops.server import running_server
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.backends.files import index_pieces
from tests.prepared import run_prepared
from tests.processes import (
    burst,
    contents,
    depth,
    in_flight,
    running_worker,
    spawn,
    stop,
    wait_for,
    work_and_thaw,
    workers,
)


def test_a_burst_stores_what_waits_in_order_and_ends(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    for number in range(1200):
        producer.append("k", ChatMessage.user(str(number)))
    assert burst(settings, log) == 0
    assert contents(settings, "k") == [str(number) for number in range(1200)]
    assert depth(client) == 0
    assert client.keys("rq:job:*") == []


def test_with_nothing_to_do_it_merges_the_index(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    path = Path(settings.store.removeprefix("sqlite://"))
    with open_tested(settings.store) as store:
        for number in range(20):
            store.append("k", ChatMessage.user(str(number)))
    assert index_pieces(path) == 20
    with running_worker(settings, client, log):
        wait_for(lambda: index_pieces(path) == 1, "the index to be merged")
    assert contents(settings, "k") == [str(number) for number in range(20)]


def test_a_worker_within_a_process_that_goes_on_leaves_nothing_behind(
    settings: Settings, producer: Producer, client: redis.Redis
) -> None:
    producer.append("k", ChatMessage.user("a"))
    gc.unfreeze()
    connected, frozen = len(client.client_list()), gc.get_freeze_count()
    python = gc.get_threshold(), sys.getswitchinterval()
    gc.disable()  # it would hang up for what is no longer used, sooner or later
    try:
        work_and_thaw(settings)
        wait_for(lambda: len(client.client_list()) == connected, "the worker to hang up")
        assert gc.get_freeze_count() == frozen
        assert (gc.get_threshold(), sys.getswitchinterval()) == python
    finally:
        gc.freeze()
        gc.enable()
    assert contents(settings, "k") == ["a"]


def test_max_jobs_counts_jobs_not_groups(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    for number in range(10):
        producer.append("k", ChatMessage.user(str(number)))
    assert burst(settings, log, "--max-jobs", "4") == 0
    assert len(contents(settings, "k")) == 4
    assert depth(client) == 6


def test_a_group_of_several_waits_for_more_and_a_single_job_does_not(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    variables = {"BACKSCROLL_GROUP_WAIT_MS": "1000", "BACKSCROLL_LOG_LEVEL": "DEBUG"}
    with running_worker(settings, client, log, **variables):
        suspend(client)
        wait_for(lambda: client.hget(workers(client).pop().decode(), "state") == b"suspended", "")
        for number in range(3):
            producer.append("k", ChatMessage.user(str(number)))
        resume(client)
        wait_for(lambda: len(in_flight(client)) == 3, "the group to begin")
        for number in range(3, 6):
            producer.append("k", ChatMessage.user(str(number)))
        wait_for(lambda: depth(client) == 0, "the jobs")
        producer.append("k", ChatMessage.user("6"))
        wait_for(lambda: re.findall(r"committed (\d+)", log.read_text())[1:], "its log's line")
        assert re.findall(r"committed (\d+)", log.read_text()) == ["6", "1"]


def test_the_first_sigterm_finishes_what_is_in_flight(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log) as process:
        for number in range(2000):
            producer.append("k", ChatMessage.user(str(number)))
        assert stop(process) == 0
    assert in_flight(client) == []
    stored = contents(settings, "k")
    assert stored == [str(number) for number in range(len(stored))]
    assert len(stored) + depth(client) == 2000
    assert burst(settings, log) == 0
    assert len(contents(settings, "k")) == 2000


def test_rq_sees_the_worker_and_its_counters(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log):
        producer.append("k", ChatMessage.user("a"), ack="stored")
        (worker,) = Worker.all(connection=client)
        assert worker.queue_names() == ["backscroll"]
        wait_for(lambda: Worker.all(connection=client)[0].successful_job_count, "its counter")
        assert worker.get_current_job_id() is None
        (key,) = workers(client)
        told = wait_for(lambda: _beyond_started(client, key), "its state")
        assert told in (b"idle", b"busy")


def _beyond_started(client: redis.Redis, key: bytes) -> Any:
    state: Any = client.hget(key.decode(), "state")
    return state if state != b"started" else None


def test_a_worker_whose_registration_is_lost_registers_again(
    settings: Settings, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log):
        client.flushall()
        wait_for(lambda: Worker.all(connection=client), "the worker to be seen again")
        (worker,) = Worker.all(connection=client)
        assert worker.queue_names() == ["backscroll"]
        assert worker.pid is not None


def test_suspension_holds_jobs_back_and_resume_lets_them_go(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log) as process:
        suspend(client)
        (key,) = workers(client)
        wait_for(lambda: client.hget(key.decode(), "state") == b"suspended", "the suspension")
        receipt = producer.append("k", ChatMessage.user("a"))
        assert client.lrange("rq:queue:backscroll", 0, -1) == [receipt.op_id.encode()]
        resume(client)
        wait_for(lambda: depth(client) == 0, "the job")
        assert stop(process) == 0


def test_a_second_worker_waits_says_so_and_takes_over_from_a_killed_one(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    with running_worker(settings, client, log) as first:
        standby_log = tmp_path / "standby.log"
        standby = spawn(settings, "worker", log=standby_log)
        try:
            wait_for(lambda: "standby" in standby_log.read_text(), "the standby's word")
            assert str(first.pid) in standby_log.read_text()
            producer.append("k", ChatMessage.user("a"), ack="stored")
            first.kill()
            assert producer.append("k", ChatMessage.user("b"), ack="stored").affected == 1
            assert stop(standby) == 0
        finally:
            standby.kill()
            standby.wait()
    assert contents(settings, "k") == ["a", "b"]


def test_a_burst_beside_a_running_worker_ends_with_the_reason(
    settings: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    with running_worker(settings, client, log) as process:
        second_log = tmp_path / "second.log"
        assert burst(settings, second_log) != 0
        assert f"held by process {process.pid}" in second_log.read_text()


def test_what_a_killed_worker_had_in_flight_is_applied_first_and_once(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    receipts = [producer.append("k", ChatMessage.user(str(n))) for n in range(6)]
    # As a worker leaves it that dies after its commit of the first two and before acknowledging.
    assert burst(settings, log, "--max-jobs", "2") == 0
    for receipt in receipts[:4]:
        client.lrem("rq:queue:backscroll", 1, receipt.op_id)
        client.rpush("rq:queue:backscroll:intermediate", receipt.op_id)
    for number, receipt in enumerate(receipts[:2]):
        payload = orjson.dumps(
            [
                "backscroll_worker.jobs.append",
                None,
                [],
                {"key": "k", "at": 1, "messages": [{"role": "user", "content": str(number)}]},
            ]
        )
        client.hset(f"rq:job:{receipt.op_id}", mapping={"data": payload, "result_ttl": 0})
    assert burst(settings, log) == 0
    assert contents(settings, "k") == [str(n) for n in range(6)]
    assert in_flight(client) == []


def test_a_worker_killed_again_and_again_loses_and_doubles_nothing(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    sent = 0
    for _ in range(6):
        with running_worker(settings, client, log, BACKSCROLL_GROUP_SIZE="7") as process:
            for _ in range(300):
                producer.append("k", ChatMessage.user(str(sent)))
                sent += 1
            os.kill(process.pid, signal.SIGKILL)
    assert burst(settings, log) == 0
    assert contents(settings, "k") == [str(number) for number in range(sent)]
    with open_tested(settings.store, read_only=True) as store:
        assert store.verify() == []


def test_the_worker_rides_out_a_server_that_was_away(tmp_path: Path, log: Path) -> None:
    base = Settings(redis_url=None, data_dir=tmp_path, store=f"sqlite://{tmp_path}/b.db")
    with ExitStack() as worker_life:
        with running_server(base) as url, redis.Redis.from_url(url) as client:
            settings = base.with_options(redis_url=url)
            process = worker_life.enter_context(running_worker(settings, client, log))
            with Producer(url) as producer:
                producer.append("k", ChatMessage.user("a"), ack="stored")
        wait_for(lambda: "the server fails" in log.read_text(), "the worker to notice")
        with running_server(base) as url, Producer(url) as producer:
            assert producer.append("k", ChatMessage.user("b"), ack="stored").affected == 1
            assert [message.content for message in producer.load("k")] == ["a", "b"]
            assert stop(process) == 0


def rq_command(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert settings.redis_url is not None
    command = ("-m", "rq.cli", "worker", "--burst", "--url", settings.redis_url)
    own = environment(settings, settings.redis_url)
    return run_prepared(*command, *arguments, "backscroll", env=own)


def test_the_class_works_from_rqs_own_command(
    settings: Settings, producer: Producer, client: redis.Redis
) -> None:
    for number in range(30):
        producer.append("k", ChatMessage.user(str(number)))
    done = rq_command(settings, "-w", "backscroll_worker.loop.worker.GroupCommitWorker")
    assert done.returncode == 0, done.stderr
    assert contents(settings, "k") == [str(number) for number in range(30)]


def test_a_stock_rq_worker_runs_the_same_jobs(
    settings: Settings, producer: Producer, client: redis.Redis
) -> None:
    receipt = producer.append("k", ChatMessage.user("a"), ChatMessage.user("b"))
    producer.rollback("k")
    producer.append("k", ChatMessage.user("c"))
    stock = (
        "-w",
        "rq.SimpleWorker",
        "--serializer",
        "backscroll.transport.rq_protocol.OrjsonSerializer",
    )
    done = rq_command(settings, *stock)
    assert done.returncode == 0, done.stderr
    assert contents(settings, "k") == ["a", "c"]
    assert not Job.exists(receipt.op_id, client)


def test_a_stock_worker_beside_ours_cannot_write(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log) as process:
        suspend(client)
        (key,) = workers(client)
        wait_for(lambda: client.hget(key.decode(), "state") == b"suspended", "the suspension")
        resume(client)
        os.kill(process.pid, signal.SIGSTOP)  # it holds the store, and takes no job
        receipt = producer.append("k", ChatMessage.user("a"))
        stock = (
            "-w",
            "rq.SimpleWorker",
            "--serializer",
            "backscroll.transport.rq_protocol.OrjsonSerializer",
        )
        rq_command(settings, *stock)
        os.kill(process.pid, signal.SIGCONT)
        failed: Any = client.zrange("rq:failed:backscroll", 0, -1)
        assert failed == [receipt.op_id.encode()]
        Queue("backscroll", connection=client, serializer=OrjsonSerializer)
        Job.fetch(receipt.op_id, client, OrjsonSerializer).requeue()
        wait_for(lambda: depth(client) == 0, "the requeued job")
        assert stop(process) == 0
    assert contents(settings, "k") == ["a"]
