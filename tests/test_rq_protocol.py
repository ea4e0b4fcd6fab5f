"""The wire is RQ's own, and an adapter writes it without RQ."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from typing import Any, cast

import pytest
import redis
from rq import Queue, SimpleWorker, worker_registration
from rq.intermediate_queue import IntermediateQueue
from rq.job import Job
from rq.registry import (
    CanceledJobRegistry,
    DeferredJobRegistry,
    FailedJobRegistry,
    FinishedJobRegistry,
    ScheduledJobRegistry,
    StartedJobRegistry,
)
from rq.results import Result
from rq.suspension import WORKERS_SUSPENDED

from backscroll import ChatMessage, Producer
from backscroll.contract.codec import payload_json
from backscroll.transport import rq_protocol
from backscroll.transport.rq_protocol import OrjsonSerializer
from tests.servers import ROOT

HI = ChatMessage.user("hi")
NAME = "backscroll"


def test_every_key_has_the_name_that_rq_gives_it() -> None:
    queue = Queue.redis_queue_namespace_prefix + NAME
    registries = {
        "failed": FailedJobRegistry, "finished": FinishedJobRegistry, "wip": StartedJobRegistry,
        "canceled": CanceledJobRegistry, "scheduled": ScheduledJobRegistry,
        "deferred": DeferredJobRegistry,
    }  # fmt: skip
    assert rq_protocol.queue_key(NAME) == queue
    assert rq_protocol.in_flight_key(NAME) == IntermediateQueue.get_intermediate_queue_key(queue)
    assert Queue.redis_queues_keys == rq_protocol.QUEUES_KEY
    assert rq_protocol.SUSPENDED_KEY == WORKERS_SUSPENDED
    assert rq_protocol.job_key("x") == Job.key_for("x")
    assert rq_protocol.results_key("x") == Result.get_key("x")  # type: ignore[no-untyped-call]
    assert rq_protocol.worker_key("x") == SimpleWorker.redis_worker_namespace_prefix + "x"
    assert rq_protocol.WORKERS_KEY == worker_registration.REDIS_WORKER_KEYS
    assert rq_protocol.workers_key(NAME) == worker_registration.WORKERS_BY_QUEUE_KEY % NAME
    for name, registry in registries.items():
        assert rq_protocol.registry_key(name, NAME) == registry.key_template.format(NAME)


def test_no_other_file_spells_a_key_on_the_server() -> None:
    spelled = re.compile(r"""["'](rq|backscroll):[{a-z]""")
    files = [*ROOT.glob("producer/backscroll/**/*.py"), *ROOT.glob("worker/**/*.py")]
    spelling = [path for path in files if spelled.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in spelling] == ["rq_protocol.py"]


def test_a_job_hash_is_one_that_rq_writes_itself(
    server_url: str, client: redis.Redis, producer: Producer
) -> None:
    """Ours has fewer fields; each is one of RQ's, of the same form, and RQ reads all of it."""
    receipt = producer.append("s", HI, ack="queued")
    ours = _hash(client, receipt.op_id)
    job = Job.fetch(receipt.op_id, connection=client, serializer=OrjsonSerializer)
    queue = Queue(NAME, connection=client, serializer=OrjsonSerializer)
    same = queue.enqueue_call(
        job.func_name or "", job.args, job.kwargs, result_ttl=0, description=job.description
    )
    theirs = _hash(client, same.id)

    assert ours.keys() <= theirs.keys()
    for field in ("origin", "status", "result_ttl", "description"):
        assert ours[field] == theirs[field], field
    for field in ("created_at", "enqueued_at"):
        assert re.sub(rb"\d", b"0", ours[field]) == re.sub(rb"\d", b"0", theirs[field]), field
    # RQ compresses, and reads both.
    assert payload_json(ours["data"]) == payload_json(theirs["data"])
    assert job.get_status() == "queued"
    assert queue.job_ids == [receipt.op_id, same.id]


def _hash(client: redis.Redis, job_id: str) -> dict[str, bytes]:
    found: Any = client.hgetall(rq_protocol.job_key(job_id))
    return {name.decode(): value for name, value in found.items()}


@pytest.mark.parametrize("is_success", [True, False])
def test_a_result_is_one_that_rq_writes_itself(client: redis.Redis, is_success: bool) -> None:
    job = Job.create("x.y", id="theirs", connection=client, serializer=OrjsonSerializer)
    if is_success:
        Result.create(job, Result.Type.SUCCESSFUL, ttl=60, worker_name="w", return_value=[1])
        result = rq_protocol.success(b"[1]")
    else:
        Result.create(job, Result.Type.FAILED, ttl=60, worker_name="w", exc_string="a.B: c")
        result = rq_protocol.failure("a.B: c")
    for command in rq_protocol.publication("ours", result, "w", 60):
        client.execute_command(*command)  # type: ignore[no-untyped-call]

    streams = (client.xrange(rq_protocol.results_key(name)) for name in ("ours", "theirs"))
    ours, theirs = ([fields for _, fields in cast(Any, stream)] for stream in streams)
    assert ours == theirs
    for name in ("ours", "theirs"):
        assert 0 < client.ttl(rq_protocol.results_key(name)) <= 60


def test_an_adapter_needs_no_rq(server_url: str, client: redis.Redis) -> None:
    adapter = """
        import json, sys
        sys.modules["rq"] = None
        from backscroll import ChatMessage, NotConfirmedError, Producer
        with Producer(sys.argv[1], timeout_seconds=0.2) as producer:
            op_id = producer.append("s", ChatMessage.user("hi")).op_id
            try:
                producer.load("s")
            except NotConfirmedError:
                print(json.dumps([op_id, sorted(name for name in sys.modules if "worker" in name)]))
    """
    command = [sys.executable, "-c", textwrap.dedent(adapter), server_url]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    op_id, of_workers = json.loads(ended.stdout)
    assert not any(name.startswith("backscroll_worker") for name in of_workers)
    assert client.exists(rq_protocol.job_key(op_id))


def test_a_plain_installation_brings_no_rq() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not any(named.startswith("rq") for named in project["dependencies"])
    (pinned,) = (it for it in project["optional-dependencies"]["worker"] if it.startswith("rq>="))
    assert ",<" in pinned
