"""The worker, broken on purpose: the laboratory has to notice each of these."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from backscroll.contract.operations import Append, Erase, Operation
from backscroll.contract.results import Outcome
from backscroll.contract.turns import BeginTurn
from backscroll.transport.pinned_connection import Script
from backscroll_worker.contract.clock import Cutoff, Passage
from backscroll_worker.loop import reservation
from backscroll_worker.loop.worker import GroupCommitWorker
from backscroll_worker.maintenance import dispatch
from backscroll_worker.stores.jsonl import JsonlBackend
from backscroll_worker.stores.jsonl import waiting as jsonl_waiting
from backscroll_worker.stores.sqlite import SqliteBackend
from backscroll_worker.stores.sqlite import waiting as sqlite_waiting
from backscroll_worker.stores.sqlite.pending import Pending
from tests.crash.points import around, swap

Op = TypeVar("Op", bound=Operation)


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
        worker._store.apply(operations)

    swap(GroupCommitWorker, "_work_through", hasty)


def _put_back_in_the_wrong_order() -> None:
    text = reservation._PUT_BACK.text
    assert "'RIGHT', 'LEFT'" in text
    script = Script(text.replace("'RIGHT', 'LEFT'", "'LEFT', 'LEFT'"))
    swap(reservation, "_PUT_BACK", script)


def _do_not_sync() -> None:
    def opened(backend: Any, _answer: Any) -> None:
        backend._connection.pragma("synchronous", 0)

    around(SqliteBackend, "_open", after=opened)
    swap(os, "fsync", lambda _descriptor: None)


def _believe_any_clock() -> None:
    swap(dispatch, "refuse_if_ahead", lambda _connection: None)
    swap(Passage, "cutoff", lambda passage, age: Cutoff(passage.now - age))


def _believe_the_files_times() -> None:
    """What is older by its time than a day goes, whatever the store remembers of it."""
    cleanup = JsonlBackend.cleanup

    def hasty(backend: Any, *arguments: Any, **options: Any) -> Any:
        for path in Path(backend._directory.path).glob("*.jsonl"):
            if path.stat().st_mtime < time.time() - 86_400:
                path.unlink()
        return cleanup(backend, *arguments, **options)

    swap(JsonlBackend, "cleanup", hasty)


def _parse(kind: type[Op], change: Callable[[Op], Op]) -> None:
    """Have operations of that kind, and of kinds derived from it, be others."""
    parse = kind.parse.__func__  # type: ignore[attr-defined]
    swap(kind, "parse", classmethod(lambda cls, *given: change(parse(cls, *given))))


def _ignore_what_comes_with_an_append() -> None:
    _parse(Append, lambda operation: replace(operation, session=None))


def _begin_any_turn() -> None:
    _parse(BeginTurn, lambda operation: replace(operation, supersedes=True))


def _erase_another_author() -> None:
    def other(operation: Erase) -> Erase:
        return operation if operation.author is None else replace(operation, author="nobody")

    _parse(Erase, other)


def _let_no_change_wait() -> None:
    for waiting in (sqlite_waiting.WaitingChanges, jsonl_waiting.WaitingChanges):
        swap(waiting, "hold", lambda *_: None)


def _cut_long_messages() -> None:
    def cut(operation: Append) -> Append:
        messages = [
            replace(message, content=message.content[:100_000]) for message in operation.messages
        ]
        return replace(operation, messages=tuple(messages))

    _parse(Append, cut)


MUTANTS: Final[dict[str, Callable[[], None]]] = {
    "skip the op id record": _skip_the_op_id_record,
    "acknowledge before commit": _acknowledge_before_commit,
    "put back in the wrong order": _put_back_in_the_wrong_order,
    "do not sync": _do_not_sync,
    "believe any clock": _believe_any_clock,
    "believe the files' times": _believe_the_files_times,
    "ignore what comes with an append": _ignore_what_comes_with_an_append,
    "cut long messages": _cut_long_messages,
    "begin any turn": _begin_any_turn,
    "erase another author": _erase_another_author,
    "let no change wait": _let_no_change_wait,
}
