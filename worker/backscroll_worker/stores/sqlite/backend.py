"""`SqliteBackend`: one write door, one transaction a group, everything in step when it closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final, Unpack

import apsw

from backscroll.contract.errors import (
    BackscrollError,
    OperationRefusedError,
    StoreUnavailableError,
    StoreUnusableError,
)
from backscroll.contract.forks import Fork
from backscroll.contract.messages import ChatMessage, check_key
from backscroll.contract.operations import Erase, Operation, Read, Write
from backscroll.contract.results import CleanupReport, CompactReport, ErasureReceipt
from backscroll_worker.contract.answer_budget import AnswerBudget, forgetful
from backscroll_worker.contract.archiving import RemovalArchive
from backscroll_worker.contract.findings import Finding, Totals
from backscroll_worker.contract.pacing import Progress, Slices, unobserved
from backscroll_worker.contract.retention import Retention, micros_of
from backscroll_worker.contract.store import Answers
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.tombstones import Tombstones
from backscroll_worker.contract.waiting import MAX_AGE_MICROS
from backscroll_worker.stores.local import Options
from backscroll_worker.stores.search.text import Folder
from backscroll_worker.stores.sqlite import forks
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.attachments import beside, remove_unused
from backscroll_worker.stores.sqlite.clock import Times, open_clock
from backscroll_worker.stores.sqlite.failures import (
    is_out_of_memory,
    is_store_failure,
    store_errors,
)
from backscroll_worker.stores.sqlite.files import size_bytes
from backscroll_worker.stores.sqlite.folding import refolded
from backscroll_worker.stores.sqlite.fts_merge import merge, merge_pace
from backscroll_worker.stores.sqlite.identity import read_identity
from backscroll_worker.stores.sqlite.maintenance import erasure
from backscroll_worker.stores.sqlite.maintenance.cleanup import Cleanup
from backscroll_worker.stores.sqlite.maintenance.compaction import compact
from backscroll_worker.stores.sqlite.maintenance.purge import give_way, purge_detached
from backscroll_worker.stores.sqlite.maintenance.repair import repair
from backscroll_worker.stores.sqlite.maintenance.space import with_checkpoints
from backscroll_worker.stores.sqlite.maintenance.verify import verify
from backscroll_worker.stores.sqlite.reads import messages_after, read
from backscroll_worker.stores.sqlite.refusal import refused
from backscroll_worker.stores.sqlite.totals import totals
from backscroll_worker.stores.sqlite.transactions import TransactionalStore
from backscroll_worker.stores.sqlite.write_batch import Group
from backscroll_worker.stores.sqlite.writer_cache import Memory

_MOST_KNOWN_SESSIONS: Final = 20_000
_MERGED_GROUPS: Final = 64  # each is a segment of the index, until it is merged


class SqliteBackend(TransactionalStore):
    """Sessions in one SQLite file with FTS5; see `open_store`."""

    scheme = "sqlite"

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        super().__init__(url, **options)
        self._memory: Memory | None = None
        self._fold = Folder()
        self._unmerged_groups = _MERGED_GROUPS  # those before it may have left some
        self._merging = merge_pace()

    def close(self) -> None:
        with self._lock:
            if self._is_open:
                self._committer.close()
                if self._claim is not None:
                    self._save_log()
                self._log.close()
                self._database.close()
                self._is_open = False
            self._release()

    def apply(
        self,
        operations: Sequence[Operation],
        *,
        budget: AnswerBudget | None = None,
        prepare_next: Callable[[], None] | None = None,
    ) -> Answers:
        try:
            if prepare_next is None and all(isinstance(each, Read) for each in operations):
                return self._answer(operations, budget)
            return self._apply_together(operations, prepare_next, budget)
        except BackscrollError:
            raise
        except Exception:
            # One of them failed unexpectedly. Find it, and keep the others.
            return self._apply_one_by_one(operations, budget)

    def expect(self, imports: Iterable[ImportSession]) -> None:
        self._fold.expect(message.content for each in imports for message in each.messages)

    def maintain_while_idle(self) -> bool:
        if self._unmerged_groups < _MERGED_GROUPS:
            self._save_log()
            return False
        with suppress(apsw.Error, StoreUnavailableError, StoreUnusableError):
            if next(self._remaining, True) is None:
                return True
            with self._merging.slice() as pages, self._repeatable() as connection:
                if merge(connection, "message_index", pages):
                    return True
        self._unmerged_groups = 0
        return False

    def cleanup(
        self,
        retention: Retention,
        *,
        dry_run: bool = False,
        archive: RemovalArchive | None = None,
    ) -> Slices[CleanupReport]:
        if not dry_run:
            yield from self._times.heal()
        passage = self._clock.passage()
        cleanup = Cleanup(self._access, retention, passage, archive, self.blobs, dry_run=dry_run)
        report = yield from self._clock.watch(cleanup.slices())
        if not dry_run and (report.messages or report.capped):
            yield from remove_unused(self._access, self.blobs)
        return report

    def finish_removals(self) -> Slices[None]:
        yield from with_checkpoints(self._access, purge_detached(self._access.repeatable))

    def compact(self, op_ids_hours: float) -> Slices[CompactReport]:
        with store_errors(self.path):
            yield from self._times.heal()
            old = self._clock.passage().cutoff(micros_of("op_ids_hours", op_ids_hours))
            waited = self._clock.passage().cutoff(MAX_AGE_MICROS)
            compacting = compact(self._access, self.size_bytes, old, waited)
            report = yield from self._clock.watch(compacting)
        self._clock.explain(old.latest)
        yield from self._times.heal()  # which writes it down
        self._memory = None  # it may know of tombstones that are gone
        removed = yield from remove_unused(self._access, self.blobs)
        return replace(report, blobs_removed=removed.number)

    def erase(self, operation: Erase) -> Slices[ErasureReceipt]:
        self._begin_erasure(operation)
        with store_errors(self.path):
            yield from forks.finish_all(self._access, self._copier)
            receipt = yield from erasure.erase(self._access, operation, self._clock.now)
        self._memory = None  # it may know of an author who was being erased
        yield from remove_unused(self._access, self.blobs)
        return replace(receipt, finished_at=self._clock.now())

    def stream(self, key: str) -> Iterator[ChatMessage]:
        check_key(key)
        after = -1
        while True:
            with self._transaction() as connection:
                messages = messages_after(connection, key, after)
            if not messages:
                return
            after = messages[-1][0]
            yield from (message for _, message in messages)

    def tombstones(self) -> Tombstones:
        with self._outside() as connection:
            return erasure.load_tombstones(connection)

    def late_until(self) -> float:
        with self._lock:
            memory = self._memory
            if memory is None:
                return super().late_until()
            return max(memory.tombstones.latest, memory.renames.latest)

    def verify(self, *, deep: bool = False, progress: Progress = unobserved) -> list[Finding]:
        with self._lock, store_errors(self.path):
            return verify(self._connection, self.blobs, deep=deep, progress=progress)

    def repair(self, findings: Sequence[Finding], *, progress: Progress = unobserved) -> list[str]:
        self._refuse_if_read_only()
        with self._transaction() as connection:
            self._memory = None
            return repair(connection, findings, self._clock.now(), progress)

    def totals(self) -> Totals:
        with self._transaction() as connection:
            return totals(connection, self.size_bytes(), self.blobs)

    def identity(self) -> str | None:
        with self._outside() as connection:
            return read_identity(connection)

    def size_bytes(self) -> int:
        return size_bytes(self.path)

    def _open(self) -> None:
        super()._open()
        self.blobs = beside(self.path)
        with store_errors(self.path):
            self._clock = open_clock(self._connection, self._given_clock)
        self._access = Access(
            self._transaction,
            self._repeatable,
            self._outside,
            self.path,
            self._removing,
            self._watched_log,
            self._unbounded_log,
        )
        self._copier = forks.Copier(self._fold, self._clock.now)
        self._times = Times(self._clock, self._repeatable)
        self._is_open = True

    def _open_files(self) -> None:
        self._memory, self._remaining = None, self._remains()
        super()._open_files()

    def _remains(self) -> Iterator[None]:
        yield from forks.finish_all(self._access, self._copier)
        yield from refolded(self._repeatable)

    def _answer(self, operations: Sequence[Operation], budget: AnswerBudget | None) -> Answers:
        """Apply reads alone, for which there is much less to do."""
        with self._snapshot():
            if budget is not None:
                budget.restart()
            return self._carry_out(None, self._clock.now(), operations, budget)

    def _apply_together(
        self,
        operations: Sequence[Operation],
        prepare_next: Callable[[], None] | None,
        budget: AnswerBudget | None,
    ) -> Answers:
        with self._transaction(commits=False) as connection:
            now, memory = self._clock.now(), self._memory
            self._memory = None  # until it is committed
            if memory is None or memory.is_stale(connection, now):
                memory = Memory(connection, now)
            group = self._group(connection, now, operations, memory)
            if budget is not None:
                budget.restart()
            answers = self._carry_out(group, now, operations, budget)
            if not self._read_only:
                self._times.write(connection)
            self._commit(group, prepare_next)
        self._times.settle()
        self._unmerged_groups += 1
        if len(memory.sessions) < _MOST_KNOWN_SESSIONS:
            self._memory = memory
        return answers

    def _apply_one_by_one(
        self, operations: Sequence[Operation], budget: AnswerBudget | None
    ) -> Answers:
        """Still one transaction, but a savepoint around each operation."""
        answers: Answers = []
        if budget is not None:
            budget.restart()
        with self._transaction() as connection:
            for operation in operations:
                if answers and budget is not None and budget.is_used_up:
                    break
                try:
                    with connection:  # APSW makes it a savepoint
                        now = self._clock.now()
                        give_way(connection, operation)
                        group = self._group(connection, now, [operation], Memory(connection, now))
                        answer = self._carry_out(group, now, [operation], budget)
                        group.flush()
                    answers += answer
                except Exception as error:
                    if isinstance(error, BackscrollError) or is_store_failure(error):
                        raise
                    if is_out_of_memory(error) and isinstance(operation, Write):
                        raise  # it may well succeed elsewhere or later
                    answers.append(refused(connection, operation, error, self._clock.now()))
        return answers

    def _group(
        self,
        connection: apsw.Connection,
        now: int,
        operations: Sequence[Operation],
        memory: Memory,
    ) -> Group:
        return Group(
            connection,
            now,
            operations,
            memory,
            self._fold.function,
            clock=self._clock,
            keep_edits=self._keep_edits,
            blobs=self.blobs,
        )

    def _carry_out(
        self,
        group: Group | None,
        now: int,
        operations: Sequence[Operation],
        budget: AnswerBudget | None,
    ) -> Answers:
        answers: Answers = []
        for operation in operations:
            try:
                if isinstance(operation, Write) and group is not None:
                    if self._read_only:
                        self._refuse_if_read_only()
                    outcome = group.write(operation)
                    answers.append(outcome)
                    if isinstance(operation, Fork):
                        answers[-1] = forks.rest(self._access, self._copier, operation, outcome)
                    if outcome.messages is None or budget is None:
                        continue
                    answers[-1] = budget.outcome(outcome)
                elif isinstance(operation, Read):
                    if group is not None:
                        group.flush()
                    answers.append(read(self._database, self.blobs, now, operation, budget))
                else:
                    raise TypeError(f"{operation.kind} does not go through apply")
                if budget is not None and budget.is_used_up:
                    break
            except OperationRefusedError as refusal:  # raised before anything was changed
                answers.append(forgetful(refusal))
        return answers

    @contextmanager
    def _removing(self) -> Iterator[apsw.Connection]:
        """A repeatable transaction that may take sessions or messages away."""
        with self._repeatable() as connection:
            if self._memory is not None:
                self._memory.sessions.clear()
            yield connection

    def _commit(self, group: Group, prepare_next: Callable[[], None] | None) -> None:
        group.flush_tables()
        self._committer.run(partial(self._index_and_commit, group), prepare_next)

    def _index_and_commit(self, group: Group) -> None:
        group.flush_index()
        self._connection.execute("COMMIT")
