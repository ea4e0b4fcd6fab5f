"""RQ's own commands and maintenance beside ours: they may fail a job, they may not lose one.

What RQ fails or requeues goes to the end of the queue, so its place in time is lost; nothing else.
"""

from __future__ import annotations

import subprocess
import time
from multiprocessing.context import ForkServerProcess
from typing import Any

import pytest
import redis
from rq import Queue, SimpleWorker
from rq.intermediate_queue import IntermediateQueue
from rq.registry import FailedJobRegistry, clean_registries
from rq.suspension import resume, suspend

from backscroll import ChatMessage, Producer
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.ops.dashboard import make_app
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from tests.crash.checker import FAILED, IN_FLIGHT, QUEUE
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.load import Load, working, writing
from tests.crash.test_two_workers import freeze, thaw
from tests.prepared import Prepared, run_prepared
from tests.processes import contents, depth, wait_for

STOCK = ("--serializer", "backscroll.transport.rq_protocol.OrjsonSerializer")
FROM_THE_PAGE = {"X-Requested-With": "XMLHttpRequest"}


def rq(settings: Settings, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert settings.redis_url is not None
    own = environment(settings, settings.redis_url)
    return run_prepared("-m", "rq.cli", *arguments, env=own)


def failed_ids(client: redis.Redis) -> list[str]:
    found: Any = client.zrange(FAILED, 0, -1)
    return [job_id.decode() for job_id in found]


def fail(laboratory: Laboratory, count: int) -> list[str]:
    """Good jobs that failed all the same: their key is one character too long for a while."""
    client = laboratory.client
    with Producer(laboratory.settings.redis_url) as producer:
        ids = [
            producer.append("requeued", ChatMessage.user(str(number))).op_id
            for number in range(count)
        ]
    good = {job_id: client.hget(f"rq:job:{job_id}", "data") for job_id in ids}
    for job_id in ids:
        client.hset(f"rq:job:{job_id}", "data", b"[broken")
    laboratory.drain()
    assert sorted(failed_ids(client)) == sorted(ids)
    for job_id, data in good.items():
        client.hset(f"rq:job:{job_id}", "data", data)
    return ids


@pytest.mark.parametrize("by", ["rq requeue", "the dashboard", "the dashboard, all at once"])
def test_what_is_requeued_is_applied_once(laboratory: Laboratory, tally: Tally, by: str) -> None:
    ids = fail(laboratory, 20)
    url = str(laboratory.settings.redis_url)
    if by == "rq requeue":
        done = rq(
            laboratory.settings, "requeue", "--queue", "backscroll", "--all", "--url", url, *STOCK
        )
        assert done.returncode == 0, done.stderr
    else:
        page = make_app(laboratory.settings, url).test_client()
        paths = [f"/job/{job_id}/requeue" for job_id in ids]
        if by.endswith("at once"):
            paths = ["/requeue/backscroll"]
        for path in paths:
            answer = page.post(path, headers=FROM_THE_PAGE)
            assert answer.status_code == 200, (path, answer.text)
    assert sorted(queued_ids(laboratory.client)) == sorted(ids)
    laboratory.drain()
    laboratory.drain()
    assert sorted(contents(laboratory.settings, "requeued")) == sorted(map(str, range(20)))
    assert failed_ids(laboratory.client) == []


def queued_ids(client: redis.Redis) -> list[str]:
    return Queue("backscroll", connection=client, serializer=OrjsonSerializer).get_job_ids()


def test_suspended_and_resumed_under_load_nothing_is_lost(
    laboratory: Laboratory, tally: Tally
) -> None:
    url = str(laboratory.settings.redis_url)
    with working(laboratory), writing(laboratory, Load(0, 2, 50.0, acks=("queued",))):
        for _ in range(3):
            time.sleep(0.2)
            assert rq(laboratory.settings, "suspend", "--url", url).returncode == 0
            wait_for(lambda: laboratory.client.llen(QUEUE) > 10, "jobs to wait")
            assert rq(laboratory.settings, "resume", "--url", url).returncode == 0
    assert laboratory.check() == []


def test_a_worker_killed_while_suspended_leaves_nothing_behind(
    laboratory: Laboratory, tally: Tally
) -> None:
    for _ in range(5):
        laboratory.write(30)
        process = laboratory.begin(laboratory.life(burst=False))
        suspend(laboratory.client)
        laboratory.write(10)
        process.kill()
        process.join()
        resume(laboratory.client)
    laboratory.drain()
    assert laboratory.check() == []


def test_rqs_registry_maintenance_takes_nothing_from_a_worker_at_work(
    laboratory: Laboratory, tally: Tally
) -> None:
    queue = Queue("backscroll", connection=laboratory.client, serializer=OrjsonSerializer)
    with working(laboratory), writing(laboratory, Load(0, writers=2)):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            clean_registries(queue)
            queue.failed_job_registry.cleanup()
    assert laboratory.check() == []


@pytest.mark.parametrize("kind", ["rq.SimpleWorker", "rq.Worker"])
def test_a_stock_worker_beside_ours_loses_and_doubles_nothing(
    laboratory: Laboratory, tally: Tally, kind: str
) -> None:
    """What it takes it cannot store, as the lock is ours: it fails, and can be requeued."""
    settings, client, count = laboratory.settings, laboratory.client, 0
    with working(laboratory):
        process = start_stock(laboratory, kind)
        try:
            wait_for(lambda: client.scard("rq:workers:backscroll") == 2, "the stock worker")
            with Producer(settings.redis_url) as producer:
                while count < 300 or not failed_ids(client):
                    producer.append(f"stock/{count % 5}", ChatMessage.user(str(count)))
                    count += 1
                    if count % 30 == 0:
                        time.sleep(0.1)
            wait_for(lambda: depth(client) == 0, "the queue to be empty", 60)
        finally:
            process.terminate()
            process.wait(60)
        registry = FailedJobRegistry("backscroll", connection=client, serializer=OrjsonSerializer)
        refused = registry.get_job_ids(cleanup=False)
        assert refused
        for job_id in refused:
            registry.requeue(job_id)
        wait_for(lambda: depth(client) == 0, "the requeued jobs", 60)
    stored = [text for key in range(5) for text in contents(settings, f"stock/{key}")]
    assert sorted(stored, key=int) == [str(number) for number in range(count)]


def start_stock(laboratory: Laboratory, kind: str) -> subprocess.Popen[bytes]:
    url = str(laboratory.settings.redis_url)
    with (laboratory.directory / "stock.log").open("ab") as log:
        return Prepared(
            ["-m", "rq.cli", "worker", "-w", kind, *STOCK, "--url", url, "backscroll"],
            env=environment(laboratory.settings, url),
            stdout=log,
            stderr=log,
        )


def test_rqs_maintenance_of_a_long_pause_fails_jobs_and_loses_none(
    laboratory: Laboratory, tally: Tally
) -> None:
    """RQ takes a job that is in flight for a minute for stuck: a stock worker beside ours fails it.

    It is applied by ours all the same, once.
    """
    client = laboratory.client
    queue = Queue("backscroll", connection=client, serializer=OrjsonSerializer)
    process = laboratory.begin(laboratory.life(burst=False, settings=laboratory.settings))
    try:
        laboratory.write(3)
        laboratory.wait_until_drained()
        key, ids = taken_while_frozen(laboratory, process)
        age_in_flight(client, queue)
        stock = SimpleWorker([queue], connection=client, serializer=OrjsonSerializer)
        IntermediateQueue(queue.key, client).cleanup(stock, queue)
        assert failed_ids(client) == ids[:1]
        thaw(process)
        laboratory.wait_until_drained()
    finally:
        process.kill()
        process.join()
    registry = FailedJobRegistry("backscroll", connection=client, serializer=OrjsonSerializer)
    for job_id in failed_ids(client):
        if client.exists(f"rq:job:{job_id}"):
            registry.requeue(job_id)
    laboratory.drain()
    assert sorted(contents(laboratory.settings, key)) == ["0", "1", "2"]


def taken_while_frozen(laboratory: Laboratory, process: ForkServerProcess) -> tuple[str, list[str]]:
    """Freeze the worker while it waits for jobs, and give it three: key, and ids in flight.

    Its wait may end just before; then it goes on, and waits again.
    """
    for attempt in range(20):
        key = f"long {attempt}"
        with Producer(laboratory.settings.redis_url) as producer:
            wait_for(lambda: is_waiting(laboratory.client), "the worker's wait for jobs")
            freeze(process)
            ids = [producer.append(key, ChatMessage.user(str(n))).op_id for n in range(3)]
        end = time.monotonic() + 2
        while time.monotonic() < end:
            if laboratory.client.llen(IN_FLIGHT):
                return key, ids
        thaw(process)
        laboratory.wait_until_drained()
    raise AssertionError("no take was on its way, in 20 attempts")


def is_waiting(client: redis.Redis) -> bool:
    return any("b" in each["flags"] for each in client.client_list())


def age_in_flight(client: redis.Redis, queue: Queue) -> None:
    """As if RQ had first seen these jobs in flight two minutes ago."""
    intermediate = IntermediateQueue(queue.key, client)
    for job_id in intermediate.get_job_ids():
        intermediate.set_first_seen(job_id)
        client.set(intermediate.get_first_seen_key(job_id), time.time() - 120)
