"""How a command reaches the data: through the queue, or directly in the store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from backscroll import Producer
from backscroll.contract.errors import (
    AuthenticationFailedError,
    ServerRefusedError,
    ServerUnavailableError,
)
from backscroll.settings import ready_policy
from backscroll.transport.connection import connect, server_errors
from backscroll_worker.cli.output import note
from backscroll_worker.contract.history import HistoryReader
from backscroll_worker.ops.exit_codes import NoWorkerError
from backscroll_worker.ops.server import embedded_url, running_server
from backscroll_worker.ops.stats import WorkerStats, read_workers
from backscroll_worker.settings import Settings
from backscroll_worker.stores import open_store, store_at
from backscroll_worker.transfer.sessions import QueueReader, Reader

_EMBEDDED_IS_DOWN: Final = (
    "the embedded server is not running: start it with 'backscroll up', "
    "or name another server in BACKSCROLL_REDIS_URL"
)


@contextmanager
def open_producer(
    settings: Settings, *, needs_worker: bool = False, timeout_seconds: float = 30.0
) -> Iterator[Producer]:
    """A producer for the queue; `needs_worker` raises `NoWorkerError` before anything is sent."""
    if needs_worker and _is_down(settings):
        raise NoWorkerError(settings.queue)
    with running_server(settings) as url:
        if needs_worker and not _serving(settings, url):
            raise NoWorkerError(settings.queue)
        with Producer(
            url,
            settings.queue,
            timeout_seconds=timeout_seconds,
            max_queue_depth=settings.max_queue_depth,
            max_message_bytes=settings.max_message_bytes,
            redact=ready_policy(settings.redact),
        ) as producer:
            yield producer


@contextmanager
def open_reader(settings: Settings) -> Iterator[Reader]:
    """What answers `load`, `sessions` and `search`.

    The worker, so that operations enqueued just before are seen. Without a worker: the store, if it
    is on this machine. Raises `NoWorkerError` when there is neither.
    """
    store = store_at(settings.store)
    serving, reason = _who_serves(settings, or_none=store.exists())
    if serving:
        with open_producer(settings) as producer:
            yield QueueReader(producer)
        for worker in serving:
            _say_whose_store(settings, worker)
    elif store.exists():
        with HistoryReader(open_store(settings.store, read_only=True)) as reader:
            yield reader
        note(f"{reason}: reading the store directly")
    else:
        raise NoWorkerError(settings.queue, missing_store=store.path)


@contextmanager
def open_exported(settings: Settings) -> Iterator[Reader]:
    """What an export reads: the store, beside the worker, if it is on this machine.

    Otherwise the worker, which an export keeps busy.
    """
    if not store_at(settings.store).exists():
        with open_reader(settings) as reader:
            yield reader
    else:
        with HistoryReader(open_store(settings.store, read_only=True)) as reader:
            yield reader


@contextmanager
def open_connection(settings: Settings) -> Iterator[redis.Redis]:
    """A connection to the server; redis-py's errors become ours."""
    with running_server(settings) as url, server_errors(url), connect(url) as connection:
        yield connection


@contextmanager
def open_running(settings: Settings) -> Iterator[redis.Redis]:
    """As `open_connection`, but does not start a server, which other programs could then use."""
    url = server_url(settings)
    if _is_down(settings):
        raise ServerUnavailableError(_EMBEDDED_IS_DOWN)
    with server_errors(url), connect(url) as connection:
        yield connection


def server_url(settings: Settings) -> str:
    """The URL of the server; that of the embedded server also while it is not running."""
    return settings.redis_url or embedded_url(settings)


def _is_down(settings: Settings) -> bool:
    """Whether the embedded server is to be used, and is not running."""
    return settings.redis_url is None and not _answers(server_url(settings))


def _answers(url: str) -> bool:
    try:
        with connect(url) as connection:
            return bool(connection.ping())
    except redis.RedisError:
        return False


def _serving(settings: Settings, url: str) -> list[WorkerStats]:
    with server_errors(url), connect(url) as connection:
        workers = read_workers(connection, settings.queue)
    return [worker for worker in workers if worker.is_alive]


def _who_serves(settings: Settings, *, or_none: bool) -> tuple[list[WorkerStats], str]:
    """The live workers, and the reason if there are none.

    With `or_none` a server that fails is such a reason; otherwise its error is raised.
    """
    no_worker = f"no worker serves queue {settings.queue!r}"
    if _is_down(settings):
        return [], no_worker
    try:
        return _serving(settings, server_url(settings)), no_worker
    except (ServerUnavailableError, ServerRefusedError, AuthenticationFailedError) as error:
        if not or_none:
            raise
        return [], str(error).partition(". ")[0]


def _say_whose_store(settings: Settings, worker: WorkerStats) -> None:
    """Warn a user who named a store when the worker that answered writes to another one."""
    asked, named = worker.store, store_at(settings.store).url
    if settings.names_store and asked not in (None, named):
        note(f"the worker that answered stores into {asked}, not {named}")
