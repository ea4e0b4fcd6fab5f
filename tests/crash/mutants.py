"""The worker, broken on purpose: the laboratory has to notice each of these."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import DeleteSessions, Merge, Rename, Reset
from backscroll.contract.operations import Append, Erase, Operation
from backscroll.contract.results import Outcome
from backscroll.contract.splicing import Pop, Splice
from backscroll.contract.turns import BeginTurn
from backscroll.transport.pinned_connection import Script
from backscroll_worker.contract.clock import Cutoff, Passage
from backscroll_worker.loop import reservation
from backscroll_worker.loop.worker import GroupCommitWorker
from backscroll_worker.maintenance import dispatch
from backscroll_worker.stores import blobs
from backscroll_worker.stores.jsonl import JsonlBackend
from backscroll_worker.stores.jsonl import backfilling as jsonl_backfilling
from backscroll_worker.stores.jsonl import waiting as jsonl_waiting
from backscroll_worker.stores.sqlite import SqliteBackend
from backscroll_worker.stores.sqlite import backfilling as sqlite_backfilling
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


def _fork_everything() -> None:
    _parse(Fork, lambda operation: replace(operation, upto=None))


def _rename_nothing() -> None:
    _parse(Rename, lambda operation: replace(operation, key=f"{operation.key}?"))


def _merge_the_other_way_round() -> None:
    _parse(Merge, lambda each: replace(each, key=each.into, into=each.key))


def _reset_nothing() -> None:
    _parse(Reset, lambda operation: replace(operation, key=f"{operation.key}?"))


def _append_to_closed_sessions() -> None:
    swap(Append, "needs_open", False)


def _delete_one_instead_of_all() -> None:
    _parse(DeleteSessions, lambda operation: replace(operation, prefix=f"{operation.prefix}0"))


def _lose_what_is_attached() -> None:
    """A file is there, and has other bytes."""
    swap(blobs, "write_all", lambda descriptor, data: os.write(descriptor, data[:1]))


def _splice_under_no_condition() -> None:
    _parse(Splice, lambda operation: replace(operation, expect=None))


def _pop_one() -> None:
    _parse(Pop, lambda operation: replace(operation, count=1))


def _append_instead_of_backfilling() -> None:
    def last(operation: Any, own: Any, new: Any) -> list[Any]:
        return [each.item for each in (*own, *new)]

    for backfilling in (sqlite_backfilling, jsonl_backfilling):
        swap(backfilling, "with_backfilled", last)


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
    "fork everything": _fork_everything,
    "rename nothing": _rename_nothing,
    "merge the other way round": _merge_the_other_way_round,
    "reset nothing": _reset_nothing,
    "append to closed sessions": _append_to_closed_sessions,
    "delete one instead of all": _delete_one_instead_of_all,
    "lose what is attached": _lose_what_is_attached,
    "splice under no condition": _splice_under_no_condition,
    "pop one": _pop_one,
    "append instead of backfilling": _append_instead_of_backfilling,
}
