"""`JsonlBackend`: the store's methods over a directory of session files.

A group is one frame of a journal, so it is applied as a whole or not at all. The session files
record the op ids; `writer` has the order in which everything becomes durable.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Unpack

from backscroll.contract.answers import Answer
from backscroll.contract.errors import (
    OperationRefusedError,
    StoreUnavailableError,
    StoreUnusableError,
)
from backscroll.contract.forks import Fork
from backscroll.contract.ids import new_op_id
from backscroll.contract.messages import ChatMessage, SessionInfo, check_key, to_micros
from backscroll.contract.operations import Erase, Operation, Read, Write
from backscroll.contract.reads import GetSession
from backscroll.contract.results import CleanupReport, CompactReport, ErasureReceipt
from backscroll.private_files import make_private_directory
from backscroll_worker.contract.answer_budget import (
    AnswerBudget,
    forgetful,
    out_of_memory,
    until_used_up,
)
from backscroll_worker.contract.archiving import RemovalArchive
from backscroll_worker.contract.clock import StoreClock
from backscroll_worker.contract.findings import Finding, Totals
from backscroll_worker.contract.pacing import Progress, Slices, Unfinished, unobserved
from backscroll_worker.contract.retention import Retention, micros_of
from backscroll_worker.contract.store import Answers
from backscroll_worker.contract.tombstones import Tombstones
from backscroll_worker.contract.waiting import MAX_AGE_MICROS
from backscroll_worker.stores.filesystem import check_names
from backscroll_worker.stores.jsonl import fork_slices, maintenance
from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.cleanup import Cleanup
from backscroll_worker.stores.jsonl.detached import Detached
from backscroll_worker.stores.jsonl.detached_slices import remove_detached
from backscroll_worker.stores.jsonl.erasure_ledger import Erasures
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, SessionNames
from backscroll_worker.stores.jsonl.files import Directory, naming
from backscroll_worker.stores.jsonl.fork_ledger import Forks
from backscroll_worker.stores.jsonl.identity import read_identity, write_identity
from backscroll_worker.stores.jsonl.own_ttls import OwnTtls
from backscroll_worker.stores.jsonl.reader import stream_messages
from backscroll_worker.stores.jsonl.reads import read
from backscroll_worker.stores.jsonl.renames import Renames
from backscroll_worker.stores.jsonl.session_cache import SessionCache
from backscroll_worker.stores.jsonl.totals import Counts
from backscroll_worker.stores.jsonl.verify import repair, verify
from backscroll_worker.stores.jsonl.waiting import WaitingChanges
from backscroll_worker.stores.jsonl.write_batch import Group
from backscroll_worker.stores.jsonl.writer import Writer
from backscroll_worker.stores.local import LocalStore, Options

log = logging.getLogger("backscroll.store")


class _FailedUnexpectedlyError(Exception):
    """An operation failed unexpectedly, and may have been applied in part."""


class JsonlBackend(LocalStore):
    """Sessions as files in one directory; see `open_store`."""

    scheme = "jsonl"

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        super().__init__(url, **options)
        self._must_recover = not self._read_only
        self._own_ttls = OwnTtls()

    def _check_path(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise StoreUnusableError(
                f"{self.path} is a file, and a JSONL store is a directory; "
                "name a directory in BACKSCROLL_STORE"
            )

    def _lock_path(self, place: Path) -> Path:
        return place / ".lock"

    def _open(self) -> None:
        self._directory = _open_directory(self.path, read_only=self._read_only)
        self.blobs = self._directory.blobs
        self._activity = Activity(self._directory, read_only=self._read_only)
        self._cache = SessionCache(self._activity)
        self._counts = Counts(self._directory)
        self._renames = Renames(self._directory)
        self._waiting = WaitingChanges(self._directory)
        self._forks = Forks(self._directory)
        self._detached = Detached(self._directory)
        self._erasures = Erasures(self._directory)
        self._writer = Writer(self._directory, self._activity)
        if self._must_recover:
            try:
                check_names(self.path)
                self._recover()
            except BaseException:
                self._writer.shut_down()
                raise
        self._clock = StoreClock(self._given_clock, self._activity.history, self._activity.latest)
        self._activity.clock = self._clock
        if not self._read_only and self._activity.is_new:
            self._record_all()
        self._remaining = iter(fork_slices.finish_all(self._group))
        self._is_open = True

    def apply(
        self,
        operations: Sequence[Operation],
        *,
        budget: AnswerBudget | None = None,
        prepare_next: Callable[[], None] | None = None,
    ) -> Answers:
        try:
            with self._group(prepare_next) as group:
                carry_out = partial(self._carry_out, group, budget)
                return until_used_up(budget, map(carry_out, operations))
        except _FailedUnexpectedlyError:  # find the bad one, and keep the others
            apply_alone = partial(self._apply_alone, budget)
            return until_used_up(budget, map(apply_alone, operations))

    def cleanup(
        self,
        retention: Retention,
        *,
        dry_run: bool = False,
        archive: RemovalArchive | None = None,
    ) -> Slices[CleanupReport]:
        if not dry_run:
            self._refuse_if_read_only()
        with self._group():  # which corrects times in the future
            passage = self._clock.passage()
        cleanup = Cleanup(self._group, retention, passage, archive, self._own_ttls, dry_run=dry_run)
        if not dry_run:
            yield from fork_slices.finish_all(self._group)
            yield from remove_detached(self._group)
        return (yield from self._clock.watch(cleanup.slices()))

    def compact(self, op_ids_hours: float) -> Slices[CompactReport]:
        self._refuse_if_read_only()
        micros = micros_of("op_ids_hours", op_ids_hours)
        yield from remove_detached(self._group)
        with self._group():
            passage = self._clock.passage()
        old, waited = passage.cutoff(micros), passage.cutoff(MAX_AGE_MICROS)
        report = yield from self._clock.watch(maintenance.compact(self._group, old, waited))
        self._clock.explain(old.latest)
        with self._group():
            self._activity.flush()  # which saves the explanation
        return report

    def maintain_while_idle(self) -> bool:
        with suppress(StoreUnavailableError, StoreUnusableError):
            if next(self._remaining, True) is None:
                return True
            return bool(self._detached.names) and next(remove_detached(self._group), True) is None
        return False

    def stream(self, key: str) -> Iterator[ChatMessage]:
        (info,) = self.apply([GetSession(new_op_id(), 0, check_key(key))])
        if isinstance(info, SessionInfo):
            path = self.path / SessionNames.of(key).messages
            yield from stream_messages(path, key, to_micros(info.created_at))

    def erase(self, operation: Erase) -> Slices[ErasureReceipt]:
        self._refuse_if_read_only()
        self._begin_erasure(operation)
        yield from fork_slices.finish_all(self._group)
        yield from remove_detached(self._group)
        return (yield from maintenance.erase(self._group, operation, self._clock.now))

    def tombstones(self) -> Tombstones:
        with self._group() as group:
            return group.erasures.tombstones

    def late_until(self) -> float:
        with self._lock:
            if self._must_recover:
                return super().late_until()
            return max(self._erasures.tombstones.latest, self._renames.sessions.latest)

    def verify(self, *, deep: bool = False, progress: Progress = unobserved) -> list[Finding]:
        with self._group() as group:
            return verify(group, deep=deep, progress=progress)

    def repair(self, findings: Sequence[Finding], *, progress: Progress = unobserved) -> list[str]:
        self._refuse_if_read_only()
        del findings  # every file is checked again
        with self._group() as group:
            return repair(group, progress)

    def totals(self) -> Totals:
        with self._lock:
            return self._counts.totals()

    def identity(self) -> str | None:
        with self._lock:
            if not self._read_only and read_identity(self._directory) is None:
                self._check_directory()
                write_identity(self._directory)
            return read_identity(self._directory)

    def size_bytes(self) -> int:
        return self._directory.size_bytes()

    def close(self) -> None:
        with self._lock:
            try:
                if self._is_open and not self._must_recover:
                    self._check_directory()
                    self._writer.close()
                    self._activity.flush()
            except (StoreUnavailableError, StoreUnusableError) as error:
                log.warning("%s; the next start redoes the journal", error)
            finally:
                if self._is_open:
                    self._writer.shut_down()
                self._is_open = False
                self._release()

    def _apply_alone(
        self, budget: AnswerBudget | None, operation: Operation
    ) -> Answer | OperationRefusedError | Unfinished:
        """Apply the operation in a group of its own, which is dropped if it fails."""
        try:
            with self._group() as group:
                return self._carry_out(group, budget, operation)
        except _FailedUnexpectedlyError as error:
            return OperationRefusedError(f"the store cannot take this operation: {error}")

    def _carry_out(
        self, group: Group, budget: AnswerBudget | None, operation: Operation
    ) -> Answer | OperationRefusedError | Unfinished:
        try:
            if isinstance(operation, Write):
                self._refuse_if_read_only()
                answer = group.write(operation)
                if isinstance(operation, Fork) and group.is_copying(operation):
                    return Unfinished(fork_slices.finish(self._group, operation, answer))
                return answer if budget is None else budget.outcome(answer)
            if isinstance(operation, Read):
                return read(group, operation, budget)
        except OperationRefusedError as refusal:  # raised before anything was changed
            return forgetful(refusal)
        except (StoreUnavailableError, StoreUnusableError, OSError):
            raise  # the fault of the store, not of the operation
        except MemoryError:
            if isinstance(operation, Read):
                return out_of_memory()
            raise  # it may well succeed elsewhere or later
        except Exception as error:
            raise _FailedUnexpectedlyError(error) from error
        raise TypeError(f"{operation.kind} does not go through apply")

    @contextmanager
    def _group(self, meanwhile: Callable[[], None] | None = None) -> Iterator[Group]:
        """A group that is committed when the context is left; after a failure caches are empty."""
        with self._lock:
            try:
                self._check_directory()
                if self._must_recover:
                    self._recover()
                    self._clock.must_heal = True
                self._correct_times()
                group = Group(
                    self._directory,
                    self._writer,
                    self._cache,
                    self._renames,
                    self._waiting,
                    self._erasures,
                    self._forks,
                    self._detached,
                    self._clock,
                    self._keep_edits,
                )
                yield group
                if not self._read_only:
                    group.flush(meanwhile)
                    self._check_directory()  # or the commit may be in a directory moved away
            except BaseException:
                self._must_recover = not self._read_only
                raise

    def _check_directory(self) -> None:
        """Raise an error if the directory was moved or replaced."""
        if self._claim is not None:
            self._claim.check()

    def _correct_times(self) -> None:
        """Correct times in the future; a reader reads what the writer has recorded since."""
        if self._read_only:
            self._activity.load()
            self._detached.recover()
            return
        now, reopened = self._clock.now(), self._clock.reopened
        self._activity.fell_back_to = None if reopened is None else reopened[0]
        if self._clock.must_heal:
            self._activity.bring_back(now)
            self._activity.flush()
            self._clock.must_heal = False

    def _record_all(self) -> None:
        """Record the files' times as the sessions' last activity; later they do not count."""
        now = self._clock.now()
        for name, stamp in self._directory.stamps(MESSAGES_SUFFIX):
            self._activity.of(name, stamp, now)
        self._activity.flush()

    def _recover(self) -> None:
        """Drop all caches and redo the journals, after a crash or a failure."""
        self._cache.clear()
        self._writer.recover()
        self._renames.recover()
        self._waiting.recover()
        self._forks.recover()
        self._detached.recover()
        self._erasures.recover()
        self._must_recover = False


def _open_directory(path: Path, *, read_only: bool) -> Directory:
    with naming(path):
        if not read_only:
            make_private_directory(path)
        mode = os.R_OK | os.X_OK | (0 if read_only else os.W_OK)
        is_usable = os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not is_usable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Directory(path)
