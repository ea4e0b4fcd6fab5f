"""The functions a job may name, as RQ calls them by name.

They are for a stock `rq worker`, which runs the same jobs one at a time, and correctly: the store's
lock and the op id hold for it too. The group-commit worker reads a job's payload itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rq import get_current_job

from backscroll.contract.answers import Answer, to_json
from backscroll.contract.codec import function_name, parse_call
from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.operations import OPERATIONS, Maintenance
from backscroll_worker.contract.pacing import Unfinished, finish
from backscroll_worker.maintenance.dispatch import maintenance_slices
from backscroll_worker.settings import Settings
from backscroll_worker.stores import Store, open_store
from backscroll_worker.stores.identity import recognize


@functools.cache
def _open_store() -> tuple[Store, Settings]:
    """This process's store, held until the process ends."""
    settings = Settings.from_environment()
    return open_store(settings.store, keep_edits=settings.keep_edits), settings


@functools.cache
def _recognize(queue: str) -> None:
    """Once for each queue; `recognize` says what for."""
    store, settings = _open_store()
    if (job := get_current_job()) is not None:
        recognize(job.connection, queue, store, settings.accept_store)


def _job_function(kind: str) -> Callable[..., Any]:
    def run(*positional: Any, **arguments: Any) -> Any:
        job = get_current_job()
        if job is None:
            raise OperationRefusedError(f"{__name__}.{kind} can only be run as an RQ job")
        operation = parse_call(job.id, function_name(kind), None, list(positional), arguments)
        store, settings = _open_store()
        _recognize(job.origin)
        answer: Answer | OperationRefusedError | Unfinished
        if isinstance(operation, Maintenance):
            answer = finish(maintenance_slices(store, settings, operation, job.connection))
        else:
            answer = store.apply([operation])[0]
        if isinstance(answer, Unfinished):
            answer = finish(answer.slices)
        if isinstance(answer, OperationRefusedError):
            raise answer
        return to_json(answer)

    run.__name__ = kind
    return run


globals().update({kind: _job_function(kind) for kind in OPERATIONS})
