"""`JsonlBackend`: one write door over a directory, each session's files written once a group.

A group is one frame of a journal, so all of it is applied or none. The session files record the
op ids; `stores.jsonl.writer` says in which order what becomes durable.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from backscroll.contract.errors import (
    OperationRefusedError,
    StoreUnavailableError,
    StoreUnusableError,
)
from backscroll.contract.messages import ChatMessage, to_micros
from backscroll.contract.operations import Erase, Operation, Read, Write
from backscroll.contract.results import Answer, CleanupReport, CompactReport, ErasureReceipt
from backscroll.contract.validation import check_number
from backscroll.private_files import make_private_directory
from backscroll_worker.contract.answer_budget import AnswerBudget, out_of_memory, until_used_up
from backscroll_worker.contract.archiving import RemovalArchive
from backscroll_worker.contract.clock import Clock, StoreClock
from backscroll_worker.contract.findings import Finding, Totals
from backscroll_worker.contract.pacing import Progress, Slices, unobserved
from backscroll_worker.contract.retention import MICROS_PER_HOUR, Retention
from backscroll_worker.contract.store import SessionBackend
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.tombstones import Tombstones
from backscroll_worker.stores.claim import claim
from backscroll_worker.stores.filesystem import check_names
from backscroll_worker.stores.jsonl import maintenance as upkeep
from backscroll_worker.stores.jsonl.activity import Activity
from backscroll_worker.stores.jsonl.cleanup import Cleanup
from backscroll_worker.stores.jsonl.erasure import erase
from backscroll_worker.stores.jsonl.erasure_ledger import Erasures
from backscroll_worker.stores.jsonl.file_names import MESSAGES_SUFFIX, SessionNames
from backscroll_worker.stores.jsonl.files import Directory, naming
from backscroll_worker.stores.jsonl.identity import read_identity, write_identity
from backscroll_worker.stores.jsonl.reader import stream_messages
from backscroll_worker.stores.jsonl.reads import read
from backscroll_worker.stores.jsonl.renames import Renames
from backscroll_worker.stores.jsonl.session_cache import Memories
from backscroll_worker.stores.jsonl.totals import Counts
from backscroll_worker.stores.jsonl.verify import repair, verify
from backscroll_worker.stores.jsonl.write_batch import Group
from backscroll_worker.stores.jsonl.writer import Writer

log = logging.getLogger("backscroll.store")


Answers = list[Answer | OperationRefusedError]


class _BrokenDownError(Exception):
    """An operation is bad in a way nobody foresaw, and may have changed half of what it was to."""


class JsonlBackend(SessionBackend):
    """Sessions as files in one directory; see `open_backend`."""

    def __init__(
        self, path: Path, *, read_only: bool, clock: Clock, keep_edits: bool = False
    ) -> None:
        self.url = f"jsonl://{path}"
        self.path = path
        self._read_only = read_only
        self._keep_edits = keep_edits
        self._lock = threading.RLock()
        self._directory = _open_directory(path, read_only=read_only)
        self._claim = None if read_only else claim(path)
        self._activity = Activity(self._directory, read_only=read_only)
        self._memories = Memories(self._activity)
        self._counts = Counts(self._directory)
        self._renames = Renames(self._directory)
        self._erasures = Erasures(self._directory)
        self._writer = Writer(self._directory, self._activity)
        self._must_recover = not read_only
        if self._must_recover:
            try:
                check_names(path)
                self._recover()
            except BaseException:
                self._give_up()
                raise
        self._clock = StoreClock(clock, self._activity.history, self._activity.latest)
        self._activity.clock = self._clock
        if not read_only and self._activity.is_new:
            self._note_all()

    def apply(
        self,
        operations: Sequence[Operation],
        meanwhile: Callable[[], None] | None = None,
        budget: AnswerBudget | None = None,
    ) -> Answers:
        try:
            with self._group(meanwhile) as group:
                carry_out = partial(self._carry_out, group, budget)
                return until_used_up(budget, map(carry_out, operations))
        except _BrokenDownError:  # find the bad one, and keep the others
            apply_alone = partial(self._apply_alone, budget)
            return until_used_up(budget, map(apply_alone, operations))

    def expect(self, operations: Iterable[ImportSession]) -> None:
        """There is nothing that could be done ahead."""

    def tidy(self) -> bool:
        return False

    def cleanup(
        self,
        retention: Retention | float,
        *,
        dry_run: bool = False,
        archive: RemovalArchive | None = None,
    ) -> Slices[CleanupReport]:
        if not isinstance(retention, Retention):
            retention = Retention.of_hours(retention)
        if not dry_run:
            self._refuse_if_read_only()
        with self._group():  # which brings back what is in the future
            passage = self._clock.passage()
        cleanup = Cleanup(self._group, retention, passage, archive, dry_run=dry_run)
        return self._clock.watch(cleanup.slices())

    def compact(self, op_ids_hours: float) -> Slices[CompactReport]:
        self._refuse_if_read_only()
        with self._group():
            old = self._clock.passage().cutoff(
                int(check_number("op_ids_hours", op_ids_hours, -1e9) * MICROS_PER_HOUR)
            )
        report = yield from self._clock.watch(upkeep.compact(self._group, old))
        self._clock.explain(old.latest)
        with self._group():
            self._activity.flush()  # which writes it down
        return report

    def stream(self, key: str) -> Iterator[ChatMessage]:
        info = self.session(key)
        if info is not None:
            path = self.path / SessionNames.of(key).messages
            yield from stream_messages(path, key, to_micros(info.created_at))

    def carry_out_erasure(self, operation: Erase) -> Slices[ErasureReceipt]:
        self._refuse_if_read_only()
        (answer,) = self.apply([operation])
        if isinstance(answer, OperationRefusedError):
            raise answer
        return (yield from erase(self._group, operation, self._clock.now))

    def tombstones(self) -> Tombstones:
        with self._group() as group:
            return group.erasures.tombstones

    def verify(self, *, deep: bool = False, progress: Progress = unobserved) -> list[Finding]:
        del deep  # there is no index; every line is looked at in any case
        with self._group() as group:
            return verify(group, progress)

    def repair(self, findings: Sequence[Finding], *, progress: Progress = unobserved) -> list[str]:
        self._refuse_if_read_only()
        del findings  # every file is looked at once more
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
                if not self._must_recover:
                    self._check_directory()
                    self._writer.close()
                    self._activity.flush()
            except (StoreUnavailableError, StoreUnusableError) as error:
                log.warning("%s; what the journal has is put in its place at the next start", error)
            finally:
                self._give_up()

    def _apply_alone(
        self, budget: AnswerBudget | None, operation: Operation
    ) -> Answer | OperationRefusedError:
        """In a group of its own, of which nothing is written should it break down."""
        try:
            with self._group() as group:
                return self._carry_out(group, budget, operation)
        except _BrokenDownError as error:
            return OperationRefusedError(f"the store cannot take this operation: {error}")

    def _carry_out(
        self, group: Group, budget: AnswerBudget | None, operation: Operation
    ) -> Answer | OperationRefusedError:
        try:
            if isinstance(operation, Write):
                self._refuse_if_read_only()
                return group.write(operation)
            if isinstance(operation, Read):
                return read(group, operation, budget)
        except OperationRefusedError as refusal:  # raised before anything was changed
            return refusal
        except (StoreUnavailableError, StoreUnusableError, OSError):
            raise  # the store's fault, and not the operation's
        except MemoryError:
            if isinstance(operation, Read):
                return out_of_memory()
            raise  # it may well succeed elsewhere or later
        except Exception as error:
            raise _BrokenDownError(error) from error
        raise TypeError(f"{operation.kind} does not go through apply")

    def _refuse_if_read_only(self) -> None:
        if self._read_only:
            raise StoreUnusableError(f"{self.path} is open for reading only")

    @contextmanager
    def _group(self, meanwhile: Callable[[], None] | None = None) -> Iterator[Group]:
        """A group that is written when it is left; a failure forgets all that was remembered."""
        with self._lock:
            try:
                self._check_directory()
                if self._must_recover:
                    self._recover()
                    self._clock.must_heal = True
                self._keep_time()
                group = Group(
                    self._directory,
                    self._writer,
                    self._memories,
                    self._renames,
                    self._erasures,
                    self._clock,
                    self._keep_edits,
                )
                yield group
                if not self._read_only:
                    group.flush(meanwhile)
                    self._check_directory()  # or what was committed may be where nobody finds it
            except BaseException:
                self._must_recover = not self._read_only
                raise

    def _check_directory(self) -> None:
        """See that the directory is where others look for it."""
        if self._claim is not None:
            self._claim.check()

    def _give_up(self) -> None:
        self._writer.shut_down()
        if self._claim is not None:
            self._claim.close()
            self._claim = None

    def _keep_time(self) -> None:
        """Bring back what is in the future; a reader looks what the writer has noted since."""
        if self._read_only:
            self._activity.load()
            return
        now, reopened = self._clock.now(), self._clock.reopened
        self._activity.fell_back_to = None if reopened is None else reopened[0]
        if self._clock.must_heal:
            self._activity.bring_back(now)
            self._activity.flush()
            self._clock.must_heal = False

    def _note_all(self) -> None:
        """See every session for the first time: what a file says counts now, and not any more."""
        now = self._clock.now()
        for name, stamp in self._directory.stamps(MESSAGES_SUFFIX):
            self._activity.of(name, stamp, now)
        self._activity.flush()

    def _recover(self) -> None:
        """Rely on nothing but the disk, after a crash or a failure."""
        self._memories.clear()
        self._writer.recover()
        self._renames.recover()
        self._erasures.recover()
        self._must_recover = False


def _open_directory(path: Path, *, read_only: bool) -> Directory:
    with naming(path):
        if path.exists() and not path.is_dir():
            raise StoreUnusableError(
                f"{path} is a file, and JSONL sessions lie in a directory; "
                "name another one in BACKSCROLL_STORE"
            )
        if not read_only:
            make_private_directory(path)
        mode = os.R_OK | os.X_OK | (0 if read_only else os.W_OK)
        is_usable = os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not is_usable:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return Directory(path)
