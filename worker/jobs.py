"""The functions a job may name, as RQ calls them by name.

The group-commit worker never comes here; it reads a job's payload itself. These are for a stock
`rq worker`, which runs the same jobs one at a time, and correctly: the store's lock and the op id
hold for it too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rq import get_current_job

from producer.answers import Answer, to_json
from producer.codec import parse_call
from producer.errors import OperationRefusedError
from producer.operations import Cleanup, Compact, Operation
from worker.backends import SessionBackend, open_backend, store_lock
from worker.backends.base import Slices, finish
from worker.settings import Settings


def upkeep_slices(backend: SessionBackend, settings: Settings, operation: Operation) -> Slices[Any]:
    """The slices of a cleanup or a compaction, with what the settings say about it."""
    if isinstance(operation, Cleanup):
        ttl_hours = settings.ttl_hours if operation.ttl_hours is None else operation.ttl_hours
        if operation.ttl_hours is None and ttl_hours == 0:
            raise OperationRefusedError(
                "BACKSCROLL_TTL_HOURS is 0, which keeps sessions for ever; "
                "set it, or name a ttl with the cleanup"
            )
        return backend.cleanup(ttl_hours, dry_run=operation.dry_run)
    if isinstance(operation, Compact):
        return backend.compact(settings.op_ids_hours)
    raise TypeError(f"{operation.kind} is no upkeep")


@functools.cache
def _open_store() -> tuple[SessionBackend, Settings]:
    """This process's store, held until the process ends."""
    settings = Settings.from_environment()
    store_lock(settings.store).acquire()
    return open_backend(settings.store), settings


def _job_function(kind: str) -> Callable[..., Any]:
    def run(*positional: Any, **arguments: Any) -> Any:
        job = get_current_job()
        if job is None:
            raise OperationRefusedError(f"worker.jobs.{kind} can only be run as an RQ job")
        operation = parse_call(job.id, f"worker.jobs.{kind}", None, list(positional), arguments)
        backend, settings = _open_store()
        answer: Answer | OperationRefusedError
        if isinstance(operation, Cleanup | Compact):
            answer = finish(upkeep_slices(backend, settings, operation))
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
compact = _job_function("compact")
