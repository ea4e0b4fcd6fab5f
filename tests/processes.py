"""Real processes for tests, and waiting for what they do."""

from __future__ import annotations

import gc
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import redis

from backscroll_worker.loop.running import run_worker
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.prepared import Prepared

T = TypeVar("T")


def wait_for(condition: Callable[[], T | None], what: str, seconds: float = 60.0) -> T:
    """The first true value of `condition`, or a failed test that says what never came."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited {seconds:g} s in vain for {what}")


def spawn(
    settings: Settings, *arguments: str, log: Path, **variables: str
) -> subprocess.Popen[bytes]:
    """Start `backscroll ARGUMENTS` with these settings, both its outputs in `log`."""
    assert settings.redis_url is not None
    complete = {**environment(settings, settings.redis_url), **variables}
    with log.open("ab") as output:
        if "PYTHONPATH" not in variables:
            return Prepared(arguments, env=complete, stdout=output, stderr=output)
        program = [sys.executable, "-m", "backscroll_worker.cli", *arguments]
        return subprocess.Popen(program, env=complete, stdout=output, stderr=output)


def workers(client: redis.Redis, queue: str = "backscroll") -> set[bytes]:
    """The keys of the workers registered for the queue."""
    found: Any = client.smembers(f"rq:workers:{queue}")
    return set(found)


def in_flight(client: redis.Redis, queue: str = "backscroll") -> list[bytes]:
    """The ids in the intermediate list."""
    found: Any = client.lrange(f"rq:queue:{queue}:intermediate", 0, -1)
    return list(found)


@contextmanager
def running_worker(
    settings: Settings, client: redis.Redis, log: Path, **variables: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process that has begun to work; it is killed at the end if it still runs."""
    before = workers(client, settings.queue)

    def has_begun() -> bool:
        new = workers(client, settings.queue) - before
        return any(client.hexists(key, "state") for key in new)  # the last that it registers

    process = spawn(settings, "worker", log=log, **variables)
    try:
        wait_for(lambda: has_begun() or process.poll() is not None, "the worker")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def stop(process: subprocess.Popen[bytes]) -> int:
    """Ask the process to end as systemd would; its exit code."""
    process.terminate()
    return process.wait(timeout=60)


def depth(client: redis.Redis) -> int:
    waiting: Any = client.llen("rq:queue:backscroll")
    return int(waiting) + len(in_flight(client))


def contents(settings: Settings, key: str) -> list[str]:
    with open_tested(settings.store, read_only=True) as store:
        return [message.content for message in store.load(key)]


def work_here(settings: Settings) -> None:
    """Empty the queue with a worker in this process, which is quicker than one to be started."""
    work_and_thaw(settings)
    gc.freeze()


def work_and_thaw(settings: Settings) -> None:
    """The same, and leave all that was imported to Python's collector, as a worker does."""
    assert settings.redis_url is not None
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run_worker(settings, settings.redis_url, burst=True)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def burst(settings: Settings, log: Path, *options: str) -> int:
    return spawn(settings, "worker", "--burst", *options, log=log).wait(timeout=60)
