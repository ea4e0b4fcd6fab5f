"""A platform's message that is delivered again, after whatever became of its first job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from rq import Queue
from rq.job import Job, JobStatus
from rq.registry import CanceledJobRegistry, FailedJobRegistry

from backscroll import ChatMessage, Producer
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.settings import Settings
from tests.processes import contents, in_flight, running_worker, work_here

HI = ChatMessage.user("hi")


def waiting(client: redis.Redis) -> list[str]:
    ids: Any = client.lrange("rq:queue:backscroll", 0, -1)
    return [job_id.decode() for job_id in ids]


def deliver(producer: Producer, **options: Any) -> Any:
    return producer.append("k", HI, dedup_key="update 1", **options)


def failed(client: redis.Redis) -> list[str]:
    registry = FailedJobRegistry("backscroll", connection=client, serializer=OrjsonSerializer)
    return list(registry.get_job_ids(cleanup=False))


@pytest.fixture
def failed_id(producer: Producer, client: redis.Redis, settings: Settings) -> str:
    """The id of a message whose job has failed: its payload was damaged."""
    op_id: str = deliver(producer).op_id
    client.hset(f"rq:job:{op_id}", "data", "[]")
    work_here(settings)
    assert failed(client) == [op_id]
    return op_id


def test_a_message_whose_job_failed_is_stored_when_it_is_delivered_again(
    failed_id: str, producer: Producer, client: redis.Redis, settings: Settings
) -> None:
    producer.append("k", ChatMessage.user("before"))
    assert deliver(producer).op_id == failed_id
    producer.append("k", ChatMessage.user("after"))
    assert failed(client) == []
    work_here(settings)
    assert contents(settings, "k") == ["before", "hi", "after"]
    assert not client.exists(f"rq:job:{failed_id}")


def test_a_message_whose_job_failed_is_answered_with_its_new_result(
    failed_id: str, producer: Producer, client: redis.Redis, settings: Settings, log: Path
) -> None:
    with running_worker(settings, client, log):
        said = [deliver(producer, ack="stored") for _ in "abc"]
    assert {receipt.op_id for receipt in said} == {failed_id}
    assert [receipt.duplicate for receipt in said] == [False, True, True]
    assert contents(settings, "k") == ["hi"]
    assert client.ttl(f"rq:results:{failed_id}") <= 600  # and not for a year, as a failure's


def test_a_job_that_fails_again_is_in_the_failed_registry_again(
    failed_id: str, producer: Producer, client: redis.Redis, settings: Settings
) -> None:
    deliver(producer)
    client.hset(f"rq:job:{failed_id}", "data", "[]")
    work_here(settings)
    assert failed(client) == [failed_id]


@pytest.mark.parametrize("status", ["stopped", "canceled", "scheduled", "deferred", "?", None])
def test_a_message_whose_job_never_comes_to_a_worker_is_queued_anew(
    status: str | None, producer: Producer, client: redis.Redis
) -> None:
    op_id = deliver(producer).op_id
    client.lrem("rq:queue:backscroll", 1, op_id)
    if status is None:
        client.hdel(f"rq:job:{op_id}", "status")
    else:
        client.hset(f"rq:job:{op_id}", "status", status)
        client.zadd(f"rq:{status}:backscroll", {op_id: 1e12})
        client.expire(f"rq:job:{op_id}", 1000)
    deliver(producer)
    assert waiting(client) == [op_id]
    assert client.hget(f"rq:job:{op_id}", "status") == b"queued"
    assert client.ttl(f"rq:job:{op_id}") == -1  # a write never expires
    if status in ("canceled", "scheduled", "deferred"):
        assert client.zcard(f"rq:{status}:backscroll") == 0


def test_a_message_cancelled_in_the_dashboard_is_stored_when_redelivered(
    producer: Producer, client: redis.Redis, settings: Settings
) -> None:
    op_id = deliver(producer).op_id
    Job.fetch(op_id, client, serializer=OrjsonSerializer).cancel()
    work_here(settings)
    deliver(producer)
    work_here(settings)
    assert contents(settings, "k") == ["hi"]
    assert CanceledJobRegistry("backscroll", connection=client).get_job_ids() == []


def test_a_message_that_was_on_a_queue_emptied_by_hand_is_queued_anew(
    producer: Producer, client: redis.Redis, settings: Settings
) -> None:
    op_id = deliver(producer).op_id
    client.delete("rq:queue:backscroll")
    producer.append("k", ChatMessage.user("later"))
    assert deliver(producer).op_id == op_id
    assert waiting(client)[1:] == [op_id]
    work_here(settings)
    assert contents(settings, "k") == ["later", "hi"]


@pytest.mark.parametrize("place", ["queue:backscroll", "queue:backscroll:intermediate"])
def test_a_message_that_waits_or_is_in_flight_is_not_queued_twice(
    place: str, producer: Producer, client: redis.Redis
) -> None:
    op_id = deliver(producer).op_id
    client.rename("rq:queue:backscroll", f"rq:{place}")
    for _ in range(2):
        deliver(producer)
    assert waiting(client) + [id_.decode() for id_ in in_flight(client)] == [op_id]


def test_a_message_redelivered_behind_a_long_queue_keeps_its_first_place(
    producer: Producer, client: redis.Redis, settings: Settings
) -> None:
    deliver(producer)
    producer.append("k", ChatMessage.user("next"))
    client.rpush("rq:queue:backscroll", *[f"gone-{number}" for number in range(1500)])
    assert deliver(producer, ack="queued").op_id
    producer.append("k", ChatMessage.user("last"))
    work_here(settings)
    assert contents(settings, "k") == ["hi", "next", "last"]
    assert failed(client) == []


def test_a_finished_job_is_not_run_again_and_its_result_is_found(
    producer: Producer, client: redis.Redis, settings: Settings, log: Path
) -> None:
    with running_worker(settings, client, log):
        receipt = deliver(producer, ack="stored")
    # A stock worker keeps the job for as long as its result.
    job = Job.create(
        "backscroll_worker.jobs.append", id=receipt.op_id, connection=client, origin="backscroll",
        status=JobStatus.FINISHED, serializer=OrjsonSerializer,
    )  # fmt: skip
    job.save()
    again = deliver(producer, ack="stored")
    assert (again.affected, again.duplicate) == (1, True)
    assert waiting(client) == []
    assert Queue("backscroll", connection=client).count == 0
