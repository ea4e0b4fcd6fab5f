"""Whether the server can read its append-only file back under the rights of its user `default`.

Redis 7 and Valkey before 9.1.2 carry out the file's transactions as `default` while they load it.
Where that user lacks a right (`user default off` alone takes all of them away), what is in them is
dropped at the next restart, and the server does not say so. Redis 6.2 checks no rights there.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from producer.connection import is_forbidden

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
    """The first right that `default` lacks of those that the file needs; None if it has all.

    Raises `redis.NoPermissionError` when this user may not ask, and redis-py's other errors.
    """
    for command in _written(queue):
        try:
            answer: Any = connection.execute_command("ACL", "DRYRUN", "default", *command)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if is_forbidden(error):
                raise
            return None  # a server that does not know the question
        if answer not in (b"OK", "OK", True):
            return " ".join(command[:2])
    return None


def _written(queue: str) -> tuple[tuple[str, ...], ...]:
    """What an append, and its acknowledgement, leave in the append-only file."""
    waiting, job = f"rq:queue:{queue}", "rq:job:x"
    return (
        ("rpush", waiting, "x"),
        ("lmove", waiting, f"{waiting}:intermediate", "left", "right"),
        ("lrem", f"{waiting}:intermediate", "1", "x"),
        ("hset", job, "data", "x"),
        ("sadd", "rq:queues", waiting),
        ("xadd", "rq:results:x", "*", "a", "b"),
        ("zadd", f"rq:failed:{queue}", "1", "x"),
        ("pexpireat", job, "1"),
        ("unlink", job),
        ("del", job),
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in str(version).split(".")[:3] if part.isdigit())
