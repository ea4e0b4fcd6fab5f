"""The worker, broken on purpose: the laboratory has to notice each of these."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from producer.answers import Outcome
from producer.channel import Script
from tests.crash.points import around, swap
from worker import reservation
from worker.backends.sqlite import SqliteBackend
from worker.backends.sqlite.pending import Pending
from worker.group_commit import GroupCommitWorker


def _skip_the_op_id_record() -> None:
    flush = Pending.flush_tables

    def forgetful(pending: Any, connection: Any) -> None:
        pending.op_ids = []
        flush(pending, connection)

    swap(Pending, "flush_tables", forgetful)


def _acknowledge_before_commit() -> None:
    def hasty(worker: Any, group: Any) -> None:
        operations = list(group.operations)
        group.settle([Outcome(0)] * len(operations))
        worker._send(group.acknowledgement, 0.0)
        worker._confirm()
        worker._backend.apply(operations)

    swap(GroupCommitWorker, "_work_through", hasty)


def _put_back_in_the_wrong_order() -> None:
    text = reservation._PUT_BACK.text
    assert "'RIGHT', 'LEFT'" in text
    script = Script(text.replace("'RIGHT', 'LEFT'", "'LEFT', 'LEFT'"))
    swap(reservation, "_PUT_BACK", script)


def _do_not_sync() -> None:
    def opened(backend: Any, _answer: Any) -> None:
        backend._connection.pragma("synchronous", 0)

    around(SqliteBackend, "__init__", after=opened)
    swap(os, "fsync", lambda _descriptor: None)


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    "skip the op id record": _skip_the_op_id_record,
    "acknowledge before commit": _acknowledge_before_commit,
    "put back in the wrong order": _put_back_in_the_wrong_order,
    "do not sync": _do_not_sync,
}
