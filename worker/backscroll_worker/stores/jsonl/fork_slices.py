"""Copies large forks in slices: a file grows beside the others, and then gets its name.

The bytes that the source has are copied, whatever is added to it meanwhile; what is removed from it
meanwhile has the fork completed before (`Group`). The rename is what makes the fork, so nothing
older may be redone after it: the journals from before have to be gone. It is acknowledged when
those are gone, too, that were there at the rename: a copy of the directory that was begun before it
notices that and begins anew (`copying`).
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import BinaryIO, Final

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.forks import Fork
from backscroll.contract.ids import new_op_id
from backscroll.contract.results import Outcome
from backscroll.private_files import open_private, write_all
from backscroll_worker.contract.forks import SLICE_SECONDS, unknown_message, unknown_session
from backscroll_worker.contract.pacing import SliceClock, Slices, aside
from backscroll_worker.contract.turns import outcome
from backscroll_worker.stores.jsonl.decoding import ENCODING_BYTES, as_utf8
from backscroll_worker.stores.jsonl.file_names import SessionNames
from backscroll_worker.stores.jsonl.files import TEMPORARY, Stamp, naming, set_mtime
from backscroll_worker.stores.jsonl.fork_ledger import Besides, PendingFork
from backscroll_worker.stores.jsonl.forks import Copier, complete, describe
from backscroll_worker.stores.jsonl.lines import Record, control_line, joined
from backscroll_worker.stores.jsonl.session_cache import CachedSession
from backscroll_worker.stores.jsonl.slices import OpenGroup
from backscroll_worker.stores.jsonl.transcript import stream
from backscroll_worker.stores.jsonl.write_batch import Group

_FILES_PER_SLICE: Final = 4
_BYTES_PER_WRITE: Final = 64 * 1024
"""Each begins to be written at once: commits wait for a large sync of another file, too."""


def finish_all(open_group: OpenGroup) -> Generator[None]:
    """Copy all that is still to be copied."""
    with open_group() as group:
        ids = list(group.forks.pending)
    for op_id in ids:
        with suppress(OperationRefusedError):  # what was refused is asked for again, or never
            yield from _finish(open_group, op_id)


def finish(open_group: OpenGroup, operation: Fork, begun: Outcome) -> Slices[Outcome]:
    """Carry out what is left of `operation`; raises `OperationRefusedError` if it cannot be."""
    yield from _finish(open_group, operation.op_id)
    with open_group() as group:
        affected = group.applied(group.find(operation.new_key), operation)
        is_erased = group.erasures.tombstones.cover(operation)
        is_there = group.find(operation.key).exists
    if affected is None and not is_erased:
        raise unknown_message(operation) if is_there else unknown_session(operation)
    return outcome(affected or 0, duplicate=begun.duplicate)


def _finish(open_group: OpenGroup, op_id: str) -> Generator[None]:
    with open_group() as group:
        fork = group.forks.pending.get(op_id)
        if fork is None:
            return
        if group.find(fork.new_key).applied(op_id) is not None:  # a kill came just before this
            group.forks.drop(op_id)
            return
        source = group.find(fork.key)
        if not source.exists:
            group.forks.drop(op_id)
            return
        began, path = source.sidecar.created_at, group.directory.locate(source.names.messages)
        name = f"{TEMPORARY}.fork-{new_op_id()}"  # its own, if somebody else copies, too
        beside = group.directory.locate(name)
    with ExitStack() as opened:
        with naming(path):
            file = opened.enter_context(Path(path).open("rb"))
        opened.callback(Path(beside).unlink, missing_ok=True)
        copy = opened.enter_context(closing(_Copy(fork, name, beside)))
        start = file.read(ENCODING_BYTES)
        file.seek(0)
        if as_utf8(start) is not start:  # another program wrote it
            with open_group() as group:
                complete(group, fork)
            return
        yield from copy.write(file, began)
        with open_group() as group:
            if op_id not in group.forks.pending:  # it was completed meanwhile
                return
            if copy.is_complete:
                group.erasures.exclude_fork(fork.new_key)
            else:
                group.forks.drop(op_id)
        if not copy.is_complete:
            raise unknown_message(fork.operation())
        yield from _renew_journals(open_group)
        with open_group() as group:
            if op_id not in group.forks.pending:
                return
            copy.publish(group, group.forks.pending[op_id].besides)
            group.forks.drop(op_id)
    yield from _renew_journals(open_group)


def _renew_journals(open_group: OpenGroup) -> Generator[None]:
    """Begin a new journal, and wait until all before it are gone."""
    with open_group() as group:
        number = group.writer.retire()
        group.forks.write_again()
    while True:
        with open_group() as group:
            if group.writer.is_removed(number):
                return
            group.writer.sync_some(_FILES_PER_SLICE)
        yield


class _Copy:
    """The copy of one fork, in the file `name`."""

    def __init__(self, fork: PendingFork, name: str, path: str) -> None:
        self._fork = fork
        self._name = name
        self._path = path
        self._copier = Copier(fork.operation())
        self.is_complete = False
        self._last: str | None = None
        with naming(path):
            self._descriptor = open_private(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW)

    def close(self) -> None:
        os.close(self._descriptor)

    def write(self, source: BinaryIO, began: int) -> Generator[None]:
        """Copy the lines that the file has now, up to the last message of the fork, durably."""
        clock, waiting = SliceClock(SLICE_SECONDS), list[bytes]()
        size = 0
        for line in stream(_as_it_is(source), self._fork.key, began):
            raw = self._copier.copy(line).raw
            waiting.append(raw)
            size += len(raw)
            self._last = line.message.message_id
            self.is_complete = self._fork.ends_with(line.message)
            if size > _BYTES_PER_WRITE or self.is_complete:
                self._write(joined(waiting))
                waiting, size = [], 0
            if self.is_complete:
                break
            if clock.is_over:
                yield
                clock.begin()
        yield from aside(self._sync)

    def publish(self, group: Group, besides: Besides) -> None:
        """Give the file its name, with the sidecar before it; the group commits nothing of it."""
        fork, directory, now = self._fork, group.directory, group.now
        target, count = group.new_session(fork.new_key), self._copier.count
        describe(target, besides, self._last)
        records = {**target.own_records(), fork.op_id: Record(now, count)}
        self._write(control_line(records) + b"\n")
        with naming(self._path):
            set_mtime(self._descriptor, now * 1000)
        self._sync()
        names = SessionNames.of(fork.new_key)
        directory.replace(names.sidecar, target.sidecar.dumps())
        directory.rename(self._name, names.messages)
        directory.sync()
        with naming(self._path):
            stamp = Stamp.of(os.fstat(self._descriptor))
        known = {op_id: record.affected for op_id, record in records.items()}
        cached = CachedSession(stamp, self._copier.known, count, has_sidecar=True)
        cached.known.update(known)
        cached.platform_ids = self._copier.platform_ids
        group.activity.note(names.messages, now, stamp.size)
        group.remember(fork.new_key, cached)

    def _write(self, content: bytes) -> None:
        with naming(self._path):
            write_all(self._descriptor, content)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _sync(self) -> None:
        with naming(self._path):
            os.fsync(self._descriptor)


def _as_it_is(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, without what is added to it from here on."""
    left = os.fstat(file.fileno()).st_size
    for raw in file:
        if left <= 0:
            return
        left -= len(raw)
        yield raw
