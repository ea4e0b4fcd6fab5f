"""Tells Redis what became of a group of jobs: results, failures, counters, and their release.

All of it is one MULTI/EXEC, sent only after the store has committed (very large answers go ahead of
it). If it is lost, the jobs are applied again, and their op ids keep that from having an effect.
"""

from __future__ import annotations

import time
from functools import cached_property
from typing import Any, Final

import orjson
import redis
from redis.client import Pipeline
from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry
from rq.results import Result
from rq.utils import now, utcformat

from producer.answers import Answer, to_json
from producer.channel import Command
from producer.errors import OperationRefusedError
from producer.serializer import OrjsonSerializer
from worker.reservation import ReservedJob

MAX_ANSWER_BYTES: Final = 32 * 1024 * 1024

# Takes the ids after the first ARGV[1] out of the intermediate list, and deletes the jobs of all
# that are not among those first ones. They are nearly always the head of the list, and go in one
# command; if others got between them (a stock worker beside this one keeps its own there), each is
# taken out by itself.
_RELEASE: Final = """
local kept_count, kept, keys = tonumber(ARGV[1]), {}, {}
for i = 2, kept_count + 1 do kept[ARGV[i]] = true end
local before = kept_count + 1
local count = #ARGV - before
local head, is_head = redis.call('LRANGE', KEYS[1], 0, count - 1), true
for i = 1, count do
  local id = ARGV[before + i]
  is_head = is_head and head[i] == id
  if not kept[id] then keys[#keys + 1] = 'rq:job:' .. id end
end
if is_head then
  redis.call('LTRIM', KEYS[1], count, -1)
else
  for i = 1, count do redis.call('LREM', KEYS[1], 1, ARGV[before + i]) end
end
for i = 1, #keys, 1000 do redis.call('DEL', unpack(keys, i, math.min(i + 999, #keys))) end
"""


class Acknowledgement:
    """Collects what became of the jobs of one round; `send` tells Redis all of it at once."""

    def __init__(
        self, connection: redis.Redis, queue: str, intermediate_key: str, worker: Any
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._worker = worker
        self._intermediate_key = intermediate_key
        self._failed_key = FailedJobRegistry.key_template.format(queue)
        self._finished_key = FinishedJobRegistry.key_template.format(queue)
        self._released: list[bytes] = []
        self._kept: list[bytes] = []
        self._answer_bytes = 0
        self.succeeded = 0
        self.failed = 0

    def drop(self, job: ReservedJob) -> None:
        """There is nothing to do for this job: its hash is gone."""
        self._keep(job)

    def succeed(self, job: ReservedJob, answer: Answer) -> None:
        """The job is done; its answer is published if anybody may be waiting for it."""
        self._released.append(job.raw_id)
        self.succeeded += 1
        ttl = DEFAULT_RESULT_TTL if job.result_ttl is None else job.result_ttl
        if ttl == 0:
            return
        value = to_json(answer)
        size_bytes = len(orjson.dumps(value)) if isinstance(value, list) else 0
        if size_bytes > MAX_ANSWER_BYTES:
            refusal = OperationRefusedError(
                f"the answer has {size_bytes:,} bytes, more than the {MAX_ANSWER_BYTES:,} that "
                "may travel; ask for less with limit="
            )
            self._publish(job, Result.Type.FAILED, ttl, exc_string=_named(refusal))
            return
        self._publish(job, Result.Type.SUCCESSFUL, ttl, return_value=value)
        self._answer_bytes += size_bytes
        if self._answer_bytes > MAX_ANSWER_BYTES:  # the commit is done, so some may go ahead
            self._pipeline.execute()
            self._answer_bytes = 0

    def succeed_and_keep(self, job: ReservedJob, answer: Answer) -> None:
        """As `succeed`, but the job stays visible in RQ's finished registry while its result does.

        For upkeep, which operators look for there.
        """
        self._keep(job)
        self.succeeded += 1
        ttl = job.result_ttl or DEFAULT_RESULT_TTL
        self._publish(job, Result.Type.SUCCESSFUL, ttl, return_value=to_json(answer))
        self._end(job, "finished")
        self._pipeline.expire(Job.key_for(job.id), ttl)
        self._pipeline.zadd(self._finished_key, {job.id: int(time.time()) + ttl})

    def decline(self, job: ReservedJob, error: Exception) -> None:
        """A read that cannot be answered: its caller is told, and nobody else needs to know."""
        self._released.append(job.raw_id)
        self.succeeded += 1
        ttl = job.result_ttl or DEFAULT_RESULT_TTL
        self._publish(job, Result.Type.FAILED, ttl, exc_string=_named(error))

    def fail(self, job: ReservedJob, error: Exception) -> None:
        """The job goes to RQ's failed registry, its payload untouched, to be looked at."""
        self._keep(job)
        self.failed += 1
        self._end(job, "failed")
        self._pipeline.persist(Job.key_for(job.id))  # a read's would expire
        self._pipeline.zadd(self._failed_key, {job.id: int(time.time()) + DEFAULT_FAILURE_TTL})
        if job.payload is None:  # RQ takes a job without this field for no job at all
            self._pipeline.hset(Job.key_for(job.id), "data", b"")
        self._publish(job, Result.Type.FAILED, DEFAULT_FAILURE_TTL, exc_string=_named(error))

    def release_only(self, job: ReservedJob) -> None:
        """Let go of a job whose id or key is no RQ job's, so that nothing can be written to it."""
        self._keep(job)
        self.failed += 1

    def commands(self, seconds: float) -> list[Command]:
        """Everything above, the worker's counters, and the release of the jobs; in one go.

        `seconds` is how long the jobs took.
        """
        pipeline = self._pipeline
        if self._released:
            ids: list[Any] = [len(self._kept), *self._kept, *self._released]
            pipeline.eval(_RELEASE, 1, self._intermediate_key, *ids)
        if self.succeeded:
            pipeline.hincrby(self._worker.key, "successful_job_count", self.succeeded)
        if self.failed:
            pipeline.hincrby(self._worker.key, "failed_job_count", self.failed)
        pipeline.hincrbyfloat(self._worker.key, "total_working_time", seconds)
        return [("MULTI",), *[command for command, _ in pipeline.command_stack], ("EXEC",)]

    @cached_property
    def _pipeline(self) -> Pipeline:  # made late: a job should not wait for it to be stored
        return self._connection.pipeline(transaction=True)

    def _keep(self, job: ReservedJob) -> None:
        """Release the job, and leave its hash as it is."""
        self._released.append(job.raw_id)
        self._kept.append(job.raw_id)

    def _publish(self, job: ReservedJob, kind: Result.Type, ttl: int, **what: Any) -> None:
        result = Result(
            job.id,
            kind,
            self._connection,
            worker_name=self._worker.name,
            serializer=OrjsonSerializer,
            **what,
        )
        result.save(ttl, pipeline=self._pipeline)  # type: ignore[no-untyped-call]

    def _end(self, job: ReservedJob, status: str) -> None:
        fields: dict[Any, Any] = {
            "status": status,
            "ended_at": utcformat(now()),
            "worker_name": self._worker.name,
            "origin": self._queue,  # where RQ's requeue puts it, whoever wrote the job
        }
        self._pipeline.hset(Job.key_for(job.id), mapping=fields)


def _named(error: Exception) -> str:
    """As the last line of a traceback has it."""
    return f"{type(error).__module__}.{type(error).__qualname__}: {error}"
