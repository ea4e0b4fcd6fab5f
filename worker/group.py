"""The jobs of one round: decoded, then applied together, then acknowledged together."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

from producer.answers import Answer
from producer.codec import decode
from producer.errors import MalformedJobError, OperationRefusedError
from producer.operations import Operation, Read, Upkeep, Write
from worker.acknowledgement import Acknowledgement
from worker.reservation import ReservedJob

log = logging.getLogger("backscroll.worker")


class Group:
    """What is to be applied of the jobs, and the acknowledgement that all of them will get.

    `upkeep` is to be started when `operations` have been applied, so that it sees their effects.
    """

    def __init__(self, jobs: Sequence[ReservedJob], acknowledgement: Acknowledgement) -> None:
        self.acknowledgement = acknowledgement
        self.operations: list[Operation] = []
        self.upkeep: list[tuple[ReservedJob, Upkeep]] = []
        self._jobs: list[ReservedJob] = []
        self.size = len(jobs)
        for job in jobs:
            operation = self._decode(job)
            if isinstance(operation, Upkeep):
                self.upkeep.append((job, operation))
                if not isinstance(operation, Write):
                    continue
            if operation is not None:
                self.operations.append(operation)
                self._jobs.append(job)

    def settle(self, answers: Iterable[Answer | OperationRefusedError]) -> None:
        """Note what came of each operation."""
        acknowledgement = self.acknowledgement
        for job, operation, answer in zip(self._jobs, self.operations, answers, strict=True):
            if isinstance(operation, Upkeep):
                continue  # its job ends with its slices
            if not isinstance(answer, OperationRefusedError):
                acknowledgement.succeed(job, answer)
            elif isinstance(operation, Read):
                acknowledgement.decline(job, answer)
            else:
                log_failure(job, answer)
                acknowledgement.fail(job, answer)

    def _decode(self, job: ReservedJob) -> Any:
        """The job's operation; None when there is none, and the acknowledgement has it already."""
        if job.is_gone:
            self.acknowledgement.drop(job)
            return None
        try:
            if job.problem:
                raise MalformedJobError(job.problem)
            return decode(job.id, job.payload)
        except Exception as error:  # whatever a job holds, it harms only itself
            log_failure(job, error)
            if job.problem:
                self.acknowledgement.release_only(job)
            else:
                self.acknowledgement.fail(job, error)
            return None


def log_failure(job: ReservedJob, error: Exception) -> None:
    """Tell the operators; the job itself tells those who look at it."""
    log.error("job %s failed: %s", job.id, error)
