"""The jobs of one round: decoded, applied in order, and acknowledged.

Nearly always all of them together. Where payloads or results are large, or reads take long, they
are applied in parts, each part with an acknowledgement of its own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from backscroll.contract.answers import Answer
from backscroll.contract.codec import decode_unpacked, unpack
from backscroll.contract.errors import MalformedJobError, OperationRefusedError
from backscroll.contract.operations import Maintenance, Operation, Read, Write
from backscroll_worker.contract.pacing import Unfinished
from backscroll_worker.loop.acknowledgement import Acknowledgement
from backscroll_worker.loop.reservation import MAX_GROUP_BYTES, ReservedJob

log = logging.getLogger("backscroll.worker")

_FRESH_SECONDS: Final = 0.1


class Group:
    """The operations to be applied, and the acknowledgement of their jobs.

    `operations` are those that are decoded and not yet applied, `done` those of this part that were
    applied, each with its answer. `maintenance` is started when the
    whole group has been applied, so that it sees the group's effects. `unfinished` are writes that
    were applied and whose rest is to be done in slices.
    """

    def __init__(
        self,
        jobs: Iterable[ReservedJob],
        acknowledgement: Callable[[], Acknowledgement],
        is_deadly: Callable[[ReservedJob], bool] = lambda _job: False,
    ) -> None:
        self.size = 0
        self.operations: list[Operation] = []
        self.maintenance: list[tuple[ReservedJob, Maintenance]] = []
        self.unfinished: list[tuple[ReservedJob, Operation, Unfinished]] = []
        self.done: list[tuple[Operation, object]] = []
        self._jobs: list[ReservedJob] = []
        self._waiting = deque[ReservedJob]()
        self._is_deadly = is_deadly
        self._new_acknowledgement = acknowledgement
        self.begin_part()
        for job in jobs:
            self.size += 1
            if self._waiting or self._size_bytes >= MAX_GROUP_BYTES:
                self._waiting.append(job)
            else:
                self._size_bytes += self._take(job)
        self._looked_at = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether all jobs have been applied."""
        return not self.operations and not self._waiting

    def begin_part(self) -> None:
        """Prepare the next part, and an acknowledgement for it."""
        self.acknowledgement = self._new_acknowledgement()
        self.done.clear()
        self._size_bytes = sum(len(job.payload or b"") for job in self._jobs)
        self._decode()

    def drop_stale(self, are_there: Callable[[Sequence[ReservedJob]], Sequence[bool]]) -> None:
        """Drop the reads that nobody waits for any more: the server no longer has their jobs.

        Checked only when some time has passed since the jobs were taken.
        """
        pairs = list(zip(self._jobs, self.operations, strict=True))
        reads = [job for job, operation in pairs if isinstance(operation, Read)]
        if not reads or time.monotonic() - self._looked_at < _FRESH_SECONDS:
            return
        there = are_there(reads)
        gone = {job.raw_id for job, is_there in zip(reads, there, strict=True) if not is_there}
        self._looked_at = time.monotonic()
        if not gone:
            return
        for job in reads:
            if job.raw_id in gone:
                self.acknowledgement.drop(job)
        left = [pair for pair in pairs if pair[0].raw_id not in gone]
        self._jobs = [job for job, _ in left]
        self.operations = [operation for _, operation in left]

    def settle(self, answers: Sequence[Answer | OperationRefusedError | Unfinished]) -> None:
        """Record the results of the first operations; those without a result are still to do."""
        count = len(answers)
        done = zip(self._jobs[:count], self.operations[:count], answers, strict=True)
        for job, operation, answer in done:
            self._settle_one(job, operation, answer)
            self.done.append((operation, answer))
        del self._jobs[:count], self.operations[:count]

    def _settle_one(
        self,
        job: ReservedJob,
        operation: Operation,
        answer: Answer | OperationRefusedError | Unfinished,
    ) -> None:
        if isinstance(operation, Maintenance):
            return  # its job ends with its last slice
        if isinstance(answer, Unfinished):
            self.unfinished.append((job, operation, answer))
            return
        if not isinstance(answer, OperationRefusedError):
            self.acknowledgement.succeed(job, answer)
        elif isinstance(operation, Read):
            self.acknowledgement.decline(job, answer)
        else:
            log_failure(job, answer)
            self.acknowledgement.fail(job, answer)

    def _decode(self) -> None:
        """Decode the jobs that wait, as many as a part may have."""
        while self._waiting and self._size_bytes < MAX_GROUP_BYTES:
            self._size_bytes += self._take(self._waiting.popleft())

    def _take(self, job: ReservedJob) -> int:
        """Decode one job; returns the size of its payload in bytes."""
        if job.is_gone:
            self.acknowledgement.drop(job)
            return 0
        try:
            payload = self._payload(job)
            operation = decode_unpacked(job.id, payload)
        except Exception as error:  # whatever a job contains must not affect others
            log_failure(job, error)
            if job.problem:
                self.acknowledgement.release_only(job)
            else:
                self.acknowledgement.fail(job, error)
            return 0
        if isinstance(operation, Maintenance):
            self.maintenance.append((job, operation))
        if isinstance(operation, Read | Write):
            self.operations.append(operation)
            self._jobs.append(job)
        return len(payload)

    def _payload(self, job: ReservedJob) -> bytes:
        if job.problem:
            raise MalformedJobError(job.problem)
        if self._is_deadly(job):
            raise OperationRefusedError(
                "several workers in a row died, or lost the server, over this job alone: it was "
                "moved to the failed jobs so that later ones are stored. It may have been applied. "
                "The logs of worker and server show why; then requeueing it is safe"
            )
        return unpack(job.payload)


def log_failure(job: ReservedJob, error: Exception) -> None:
    """Log the failure for the operators; the job holds it too."""
    log.error("job %s failed: %s", job.id, error)
