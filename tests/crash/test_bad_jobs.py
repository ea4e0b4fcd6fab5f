"""Twenty thousand bad jobs among good ones: each fails with its reason, and the memory is flat."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import redis

from backscroll.contract.codec import decode
from backscroll.contract.errors import MalformedJobError
from backscroll.contract.ids import new_op_id
from tests.crash.checker import FAILED, QUEUE
from tests.crash.laboratory import Laboratory, Tally
from tests.crash.load import working
from tests.processes import wait_for
from tests.test_bad_jobs import BAD_PAYLOADS, _dumps

BAD_JOBS: Final = 20_000
_BOMB: Final = zlib.compress(b"[" * 10_000_000)
_BATCH: Final = 1_000
_FLAT_BYTES: Final = 48 * 1024 * 1024
_KEYS: Final = ("../../etc/passwd", "a\0b", "x\n", "", "k" * 600, "fuzz", 7, None, ["k"])


def fuzzed(rng: random.Random) -> bytes:
    """A payload somebody might put there: known bad ones, broken good ones, enormous ones."""
    dice = rng.random()
    if dice < 0.3:
        payload = rng.choice(BAD_PAYLOADS)[1]
        if payload is None:
            return b""
        return bytes(payload) if isinstance(payload, bytes) else _dumps(payload)
    if dice < 0.5:
        return rng.randbytes(rng.choice((1, 10, 100, 3_000)))
    if dice < 0.501:
        return _BOMB
    good = _good(rng)
    if dice < 0.8:
        broken = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        return bytes(broken)
    return good[: rng.randrange(len(good))]


def _good(rng: random.Random) -> bytes:
    """Nearly good ones."""
    kind = rng.choice(("append", "rollback", "clear", "describe", "os.system", "cleanup"))
    arguments: dict[str, Any] = {"key": "fuzz", "at": rng.choice((1, "1", -1, 10**18, None))}
    if kind == "append":  # one that is good would be stored
        arguments["at"] = "1"
        arguments["messages"] = [{"role": "user", "content": "fuzz " * rng.choice((1, 1_000))}]
    arguments |= {rng.choice(("key", "extra", "messages")): rng.choice(_KEYS)}
    return orjson.dumps([f"backscroll_worker.jobs.{kind}", None, [], arguments])


def push(client: redis.Redis, payloads: Iterator[bytes]) -> dict[str, bytes]:
    """Queue them as anybody with access to the server could."""
    jobs = {new_op_id(): payload for payload in payloads}
    with client.pipeline(transaction=False) as pipeline:
        for job_id, payload in jobs.items():
            fields: dict[Any, Any] = {"data": payload, "created_at": "", "status": "queued"}
            pipeline.hset(f"rq:job:{job_id}", mapping=fields)
            pipeline.rpush(QUEUE, job_id)
        pipeline.execute()
    return jobs


def is_bad(job_id: str, payload: bytes) -> bool:
    try:
        decode(job_id, payload)
    except MalformedJobError:
        return True
    return False


@pytest.mark.parametrize("scheme", ["sqlite"])  # none of them gets as far as the store
def test_twenty_thousand_bad_jobs_fail_with_a_reason_and_harm_no_good_one(
    laboratory: Laboratory, tally: Tally
) -> None:
    client, rng = laboratory.client, random.Random(1)
    bad: set[str] = set()
    sizes: list[int] = []
    with working(laboratory, settings=laboratory.settings):
        pid = worker_pid(client)
        while len(bad) < BAD_JOBS:
            laboratory.write(20)
            jobs = push(client, (fuzzed(rng) for _ in range(_BATCH)))
            bad |= {job_id for job_id, payload in jobs.items() if is_bad(job_id, payload)}
            laboratory.wait_until_drained()
            sizes.append(resident_bytes(pid))
    failed: Any = client.zrange(FAILED, 0, -1)
    assert {job_id.decode() for job_id in failed} == bad
    assert max(sizes[5:]) - sizes[4] < _FLAT_BYTES, sizes
    for job_id in rng.sample(sorted(bad), 200):
        assert client.hget(f"rq:job:{job_id}", "status") == b"failed"
        assert client.xlen(f"rq:results:{job_id}") == 1
    client.delete(FAILED, *(f"rq:job:{job_id}" for job_id in bad))
    assert laboratory.check() == []


def worker_pid(client: redis.Redis) -> int:
    def look() -> bytes | None:
        keys: Any = client.smembers("rq:workers:backscroll")
        pids = [client.hget(key.decode(), "pid") for key in keys]
        return next((pid for pid in pids if pid), None)  # type: ignore[return-value]

    return int(wait_for(look, "the worker's process id"))


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
