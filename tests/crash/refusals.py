"""A server that is there, and refuses what it is asked, until it is let."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import redis

_NOBODY: Final = "1"  # a port at which nobody listens

Refusal = Callable[[redis.Redis], AbstractContextManager[None]]


def _setting(**values: str) -> Refusal:
    """The server has these settings meanwhile."""

    @contextmanager
    def refuse(client: redis.Redis) -> Iterator[None]:
        names = {name.replace("_", "-"): value for name, value in values.items()}
        before: Any = client.config_get(*names)
        for name, value in names.items():
            client.config_set(name, value)
        try:
            yield
        finally:
            for name in names:
                client.config_set(name, before[name])

    return refuse


@contextmanager
def _as_a_replica(client: redis.Redis) -> Iterator[None]:
    client.replicaof("127.0.0.1", _NOBODY)
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")


@contextmanager
def _without_stale_data(client: redis.Redis) -> Iterator[None]:
    with _setting(replica_serve_stale_data="no")(client), _as_a_replica(client):
        yield


@contextmanager
def _paused(client: redis.Redis) -> Iterator[None]:
    client.client_pause(500, all=False)
    try:
        yield
    finally:
        client.client_unpause()


@contextmanager
def _busy(client: redis.Redis) -> Iterator[None]:
    """A script that does not end."""
    with _setting(busy_reply_threshold="20")(client):
        connection: Any = client.connection_pool.get_connection()
        connection.send_command("EVAL", "while true do end", 0)
        try:
            yield
        finally:
            client.script_kill()
            connection.disconnect()
            client.connection_pool.release(connection)


REFUSALS: Final[dict[str, Refusal]] = {
    "OOM": _setting(maxmemory="1"),
    "NOREPLICAS": _setting(min_replicas_to_write="1"),
    "READONLY": _as_a_replica,
    "MASTERDOWN": _without_stale_data,
    "BUSY": _busy,
    "writes paused": _paused,
}
