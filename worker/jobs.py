"""The functions a job may name, as RQ calls them by name.

They are for a stock `rq worker`, which runs the same jobs one at a time, and correctly: the store's
lock and the op id hold for it too. The group-commit worker reads a job's payload itself; of this
module it takes only `upkeep_slices`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import redis
from rq import get_current_job

from producer.answers import Answer, CleanupReport, CompactReport, to_json
from producer.codec import parse_call
from producer.errors import OperationRefusedError
from producer.operations import Cleanup, Compact, Erase, Operation, Restore, Upkeep
from worker.archive import Archive
from worker.archive_disk import ArchiveError
from worker.backends import SessionBackend, open_backend, store_lock
from worker.backends.base import Slices, finish
from worker.clocks import refuse_if_ahead
from worker.erasure import erase as erase_everywhere
from worker.erasure import erase_late
from worker.identity import recognize
from worker.restore import restore as restore_session
from worker.settings import Settings

log = logging.getLogger("backscroll.worker")


def upkeep_slices(
    backend: SessionBackend, settings: Settings, operation: Operation, connection: redis.Redis
) -> Slices[Any]:
    """The slices of what takes long, with what the settings say about it."""
    archive = None if settings.archive is None else Archive(settings.archive)
    if isinstance(operation, Cleanup):
        if operation.ttl_hours is None and not settings.has_retention:
            raise OperationRefusedError(
                "BACKSCROLL_TTL_HOURS is 0, which keeps sessions for ever; set it or "
                "BACKSCROLL_RETENTION, or give the cleanup --ttl-hours"
            )
        return _cleanup(backend, settings, archive, operation, connection)
    if isinstance(operation, Restore):
        return restore_session(backend, archive, operation)
    if isinstance(operation, Erase):
        return erase_everywhere(backend, archive, connection, settings.queue, operation)
    if isinstance(operation, Compact):
        return _compact(backend, settings, archive)
    raise TypeError(f"{operation.kind} is no upkeep")


def _cleanup(
    backend: SessionBackend,
    settings: Settings,
    archive: Archive | None,
    operation: Cleanup,
    connection: redis.Redis,
) -> Slices[CleanupReport]:
    """The rules are read for each cleanup. Should the file be wrong by now, nothing goes."""
    retention = settings.load_retention(operation.ttl_hours)
    if not operation.dry_run:
        refuse_if_ahead(connection)
    slices = backend.cleanup(retention, dry_run=operation.dry_run, archive=archive)
    return (yield from slices)


def _compact(
    backend: SessionBackend, settings: Settings, archive: Archive | None
) -> Slices[CompactReport]:
    tombstones = backend.tombstones()
    if archive is not None and tombstones.items():
        try:  # first, as the oldest of them are about to be forgotten
            yield from erase_late(archive, tombstones)
        except ArchiveError as error:
            log.error("%s; what was erased of it stays there until a compaction can read it", error)
    return (yield from backend.compact(settings.op_ids_hours))


@functools.cache
def _open_store() -> tuple[SessionBackend, Settings]:
    """This process's store, held until the process ends."""
    settings = Settings.from_environment()
    store_lock(settings.store).acquire()
    return open_backend(settings.store, keep_edits=settings.keep_edits), settings


@functools.cache
def _recognize(queue: str) -> None:
    """Once for each queue; `recognize` says what for."""
    backend, settings = _open_store()
    if (job := get_current_job()) is not None:
        recognize(job.connection, queue, backend, settings.accept_store)


def _job_function(kind: str) -> Callable[..., Any]:
    def run(*positional: Any, **arguments: Any) -> Any:
        job = get_current_job()
        if job is None:
            raise OperationRefusedError(f"worker.jobs.{kind} can only be run as an RQ job")
        operation = parse_call(job.id, f"worker.jobs.{kind}", None, list(positional), arguments)
        backend, settings = _open_store()
        _recognize(job.origin)
        answer: Answer | OperationRefusedError
        if isinstance(operation, Upkeep):
            answer = finish(upkeep_slices(backend, settings, operation, job.connection))
        else:
            answer = backend.apply([operation])[0]
        if isinstance(answer, OperationRefusedError):
            raise answer
        return to_json(answer)

    run.__name__ = kind
    return run


append = _job_function("append")
rollback = _job_function("rollback")
replace = _job_function("replace")
clear = _job_function("clear")
delete = _job_function("delete")
describe = _job_function("describe")
rename_agent = _job_function("rename_agent")
load = _job_function("load")
session = _job_function("session")
sessions = _job_function("sessions")
search = _job_function("search")
cleanup = _job_function("cleanup")
restore = _job_function("restore")
compact = _job_function("compact")
erase = _job_function("erase")
