"""Whether the server can load its append-only file with the rights of its user `default`.

Redis 7 and Valkey before 9.1.2 execute the file's transactions as `default` while they load it.
If that user lacks a right (`user default off` alone removes all rights), the server drops these
transactions at the next restart without an error. Redis 6.2 checks no rights there.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from backscroll.transport.connection import is_forbidden
from backscroll.transport.rq_protocol import (
    QUEUES_KEY,
    WORKERS_KEY,
    in_flight_key,
    job_key,
    own_key,
    queue_key,
    registry_key,
    results_key,
    worker_key,
    workers_key,
)

_FIXED_IN_VALKEY: Final = (9, 1, 2)
_AFFECTED_FROM: Final = (7, 0, 0)


def is_affected(info: dict[str, Any]) -> bool:
    """Whether a server with this INFO checks rights while it loads its append-only file."""
    if not info.get("aof_enabled"):
        return False
    if "valkey_version" in info:
        return _numbers(info["valkey_version"]) < _FIXED_IN_VALKEY
    return _numbers(info.get("redis_version", "")) >= _AFFECTED_FROM


def missing_right(connection: redis.Redis, queue: str) -> str | None:
    """The first right that loading the file needs and `default` lacks; None if it has all.

    Raises `redis.NoPermissionError` when this user may not query that, and redis-py's other errors.
    """
    for command in _written(queue):
        try:
            answer: Any = connection.execute_command("ACL", "DRYRUN", "default", *command)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_forbidden(error):
                raise
            return None  # a server without this command
        if answer not in (b"OK", "OK", True):
            return " ".join(command[:2])
    return None


def _written(queue: str) -> tuple[tuple[str, ...], ...]:
    """The commands in the file's transactions, including those of scripts, with their keys.

    A test compares this with the file of a server after real work.
    """
    waiting, in_flight = queue_key(queue), in_flight_key(queue)
    job, worker, results = job_key("x"), worker_key("x"), results_key("x")
    return (
        ("rpush", waiting, "x"),
        ("rpush", in_flight, "x"),
        ("lmove", in_flight, waiting, "right", "left"),
        ("ltrim", waiting, "1", "-1"),
        ("ltrim", in_flight, "1", "-1"),
        ("lrem", in_flight, "1", "x"),
        ("set", own_key(queue, "fence"), "x"),
        ("hset", own_key(queue, "cron", "x"), "tick", "1"),
        *((command, own_key(queue, name), *value)
          for name in ("pending", "tails")
          for command, value in (("hset", ("x", "x")), ("hdel", ("x",)), ("unlink", ()),
                                 ("del", ()), ("pexpireat", ("1",)))),
        ("hset", job, "data", "x"),
        ("persist", job),
        ("pexpireat", job, "1"),
        ("unlink", job),
        ("del", job),
        ("sadd", QUEUES_KEY, waiting),
        ("xadd", results, "*", "a", "b"),
        ("pexpireat", results, "1"),
        ("unlink", results),
        ("del", results),
        *((command, registry_key(registry, queue), *value, "x")
          for registry in ("failed", "finished")
          for command, value in (("zadd", ("1",)), ("zrem", ()))),
        *((command, workers, worker)
          for workers in (WORKERS_KEY, workers_key(queue))
          for command in ("sadd", "srem")),
        ("hset", worker, "state", "x"),
        ("hincrby", worker, "successful_job_count", "1"),
        ("pexpireat", worker, "1"),
        ("del", worker),
    )  # fmt: skip


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in str(version).split(".")[:3] if part.isdigit())
