"""A bad job harms only itself: malformed, hostile, pushed twice, requeued."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest
import redis
from rq import Queue
from rq.results import Result

from backscroll import ChatMessage, Producer
from backscroll.contract.codec import encode
from backscroll.contract.ids import new_op_id
from backscroll.contract.operations import Clear
from backscroll.transport.rq_protocol import OrjsonSerializer
from backscroll_worker.settings import Settings
from tests.processes import (
    burst,
    contents,
    depth,
    spawn,
)

BAD_PAYLOADS: list[tuple[str, Any, str]] = [
    ("not JSON", b"\x80\x04pickle", "neither JSON nor compressed"),
    ("no data", None, "the job has no data"),
    ("not a call", b"[1,2]", "not [function"),
    ("cut short", b'["a"', "is not JSON"),
    ("a number, compressed", zlib.compress(b"5"), "not [function"),
    ("nested without end", b"[" + b"[" * 200 + b"]" * 200 + b",null,[],{}]", "not a function"),
    (
        "a state nested without end",
        b'["backscroll_worker.jobs.describe",null,[],{"key":"k","at":1,"attributes":{"state":'
        + b"[" * 200
        + b"]" * 200
        + b"}}]",
        "state: must be one of",
    ),
    ("other function", [b"os.system", None, [], {"command": "true"}], "not a function"),
    ("import path", ["subprocess.run", None, [["true"]], {}], "not a function"),
    ("own internals", ["backscroll_worker.jobs._open_store", None, [], {}], "not a function"),
    ("no function", [None, None, [], {}], "not a function"),
    (
        "instance",
        ["backscroll_worker.jobs.clear", {}, [], {"key": "k", "at": 1}],
        "named arguments",
    ),
    ("positional", ["backscroll_worker.jobs.clear", None, ["k"], {}], "named arguments"),
    ("no key", ["backscroll_worker.jobs.clear", None, [], {"at": 1}], "key: is missing"),
    (
        "key a number",
        ["backscroll_worker.jobs.clear", None, [], {"key": 5, "at": 1}],
        "key: must be text",
    ),
    (
        "time a text",
        ["backscroll_worker.jobs.clear", None, [], {"key": "k", "at": "1"}],
        "at: must be",
    ),
    (
        "time far off",
        ["backscroll_worker.jobs.clear", None, [], {"key": "k", "at": 10**18}],
        "at: must be",
    ),
    (
        "extra field",
        ["backscroll_worker.jobs.clear", None, [], {"key": "k", "at": 1, "z": 1}],
        "unknown",
    ),
    (
        "messages a text",
        ["backscroll_worker.jobs.append", None, [], {"key": "k", "at": 1, "messages": "hi"}],
        "messages: must be of type list",
    ),
    (
        "message a number",
        ["backscroll_worker.jobs.append", None, [], {"key": "k", "at": 1, "messages": [1]}],
        "must be an object",
    ),
    (
        "state unknown",
        [
            "backscroll_worker.jobs.describe",
            None,
            [],
            {"key": "k", "at": 1, "attributes": {"state": "x"}},
        ],
        "state: must be one of",
    ),
]


def push(client: redis.Redis, payload: Any) -> str:
    """Put a job on the queue as anybody with access to the server could."""
    job_id = new_op_id()
    data = payload if isinstance(payload, bytes) or payload is None else _dumps(payload)
    client.hset(f"rq:job:{job_id}", mapping={"created_at": "", "status": "queued"})
    if data is not None:
        client.hset(f"rq:job:{job_id}", "data", data)
    client.rpush("rq:queue:backscroll", job_id)
    return job_id


def _dumps(payload: list[Any]) -> bytes:
    return orjson.dumps([p.decode() if isinstance(p, bytes) else p for p in payload])


def test_bad_jobs_fail_with_the_reason_and_harm_no_other(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    expected = {}
    for _, payload, words in BAD_PAYLOADS:
        producer.append("k", ChatMessage.user("good"))
        expected[push(client, payload)] = words
    producer.append("k", ChatMessage.user("good"))
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["good"] * (len(BAD_PAYLOADS) + 1)
    failed: Any = client.zrange("rq:failed:backscroll", 0, -1)
    assert {job_id.decode() for job_id in failed} == expected.keys()
    for job_id, words in expected.items():
        stream: Any = client.xrevrange(f"rq:results:{job_id}", count=1)
        result = Result.restore(
            job_id, "1-1", stream[0][1], connection=client, serializer=OrjsonSerializer
        )
        assert words in (result.exc_string or ""), job_id
        assert client.hget(f"rq:job:{job_id}", "status") == b"failed"


@pytest.mark.parametrize("ttl", ["9" * 5000, "9" * 19, "--5", "-1", "soon", ""])
def test_a_result_ttl_that_is_none_harms_nobody(
    ttl: str, settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    receipt = producer.append("k", ChatMessage.user("a"))
    client.hset(f"rq:job:{receipt.op_id}", "result_ttl", ttl)
    producer.append("k", ChatMessage.user("b"))
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["a", "b"]


def test_ids_and_keys_that_are_no_jobs_are_let_go(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    client.rpush("rq:queue:backscroll", "gone", "a b\nc", b"\xff\xfe")
    client.set("rq:job:text", "no hash")
    client.rpush("rq:queue:backscroll", "text")
    producer.append("k", ChatMessage.user("good"))
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["good"]
    assert depth(client) == 0


def test_an_id_that_was_pushed_twice_is_applied_once(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    receipt = producer.append("k", ChatMessage.user("once"))
    client.rpush("rq:queue:backscroll", receipt.op_id)
    assert burst(settings, log) == 0
    assert contents(settings, "k") == ["once"]
    assert depth(client) == 0


def test_maintenance_that_fails_leaves_a_traceback_and_the_queue_runs(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    producer.append("odd", ChatMessage.user("a"))
    assert burst(settings, log) == 0
    with apsw.Connection(settings.store.removeprefix("sqlite://")) as connection:
        connection.execute("UPDATE messages SET content = CAST(x'ff61' AS TEXT)")
        connection.execute("UPDATE sessions SET last_activity = 5")
    cleanup = push(client, ["backscroll_worker.jobs.cleanup", None, [], {"at": 1, "ttl_hours": 1}])
    producer.append("k", ChatMessage.user("good"))
    archive = str(tmp_path / "archive")
    assert spawn(settings, "worker", "--burst", log=log, BACKSCROLL_ARCHIVE=archive).wait(60) == 0
    assert contents(settings, "k") == ["good"]
    assert depth(client) == 0
    assert client.zrange("rq:failed:backscroll", 0, -1) == [cleanup.encode()]
    assert client.hget(f"rq:job:{cleanup}", "status") == b"failed"
    assert "Traceback" in log.read_text()


def test_a_requeued_job_is_applied(
    settings: Settings, client: redis.Redis, log: Path, producer: Producer
) -> None:
    producer.append("k", ChatMessage.user("a"), ChatMessage.user("b"))
    job_id = push(client, b"[broken")
    assert burst(settings, log) == 0
    client.hset(f"rq:job:{job_id}", "data", encode(Clear(job_id, 1, "k")))
    Queue("backscroll", connection=client).failed_job_registry.requeue(job_id)
    assert burst(settings, log) == 0
    assert contents(settings, "k") == []
    assert client.zcard("rq:failed:backscroll") == 0


def test_logs_carry_no_message_and_no_password(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    producer.append("k", ChatMessage.user("a secret told in confidence"))
    push(
        client,
        ["backscroll_worker.jobs.append", None, [], {"key": "k", "messages": ["confidence"]}],
    )
    assert spawn(settings, "worker", "--burst", log=log, BACKSCROLL_LOG_LEVEL="DEBUG").wait(60) == 0
    assert "confidence" not in log.read_text()
