"""The acknowledgement of a group of jobs: results, failures, counters, and the jobs' release.

It is sent only after the store has committed. First the jobs that nobody waits for are released, in
steps. The others are released together with their results, in one MULTI/EXEC; large results
are sent before, each by itself, so that no transaction grows with the answers. What is lost of it
is applied again, and the jobs' op ids make that a no-op.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rq.defaults import DEFAULT_FAILURE_TTL, DEFAULT_RESULT_TTL
from rq.utils import now, utcformat

from backscroll.contract.answers import Answer, encode_answer
from backscroll.contract.errors import OperationRefusedError
from backscroll.transport.pinned_connection import Command
from backscroll.transport.rq_protocol import (
    LUA_KEYS,
    Result,
    failure,
    job_key,
    publication,
    registry_key,
    success,
)
from backscroll_worker.loop.reservation import ReservedJob
from backscroll_worker.loop.server_trouble import is_state_of_server

log = logging.getLogger("backscroll.worker")

_BATCH_BYTES: Final = 256 * 1024
"""Larger batches are split. Every server accepts a megabyte, whatever its limits."""

_FEW: Final = 64
"""Released by one script while others read: they wait for it."""

_MANY: Final = 1_000
"""Released by one script otherwise; Lua's unpack has a limit."""

_OVERHEAD_BYTES: Final = 300  # field names and keys of a result

# The jobs are nearly always the head of the list, and removed by one command; if others are between
# them (a stock worker beside this one adds its own), each is removed by itself.
_RELEASE: Final = (
    LUA_KEYS
    + """
local ids, keys, deletes = {unpack(ARGV, 2)}, {}, ARGV[1] == '1'
local head, is_head = redis.call('LRANGE', KEYS[1], 0, #ids - 1), true
for i, id in ipairs(ids) do
  is_head = is_head and head[i] == id
  keys[i] = job_key(id)
end
if is_head then
  redis.call('LTRIM', KEYS[1], #ids, -1)
else
  for _, id in ipairs(ids) do redis.call('LREM', KEYS[1], 1, id) end
end
if deletes then redis.call('DEL', unpack(keys)) end
"""
)


@dataclass(slots=True)
class Batch:
    """Commands that are sent together, or one large result."""

    commands: list[Command] = field(default_factory=list)
    size_bytes: int = 0
    large_answer_to: ReservedJob | None = None


class Acknowledgement:
    """Collects the outcome of jobs; `batches_ahead` and then `commands` are what to send."""

    def __init__(self, queue: str, intermediate_key: str, worker: Any) -> None:
        self._queue = queue
        self._worker = worker
        self._intermediate_key = intermediate_key
        self._failed_key = registry_key("failed", queue)
        self._finished_key = registry_key("finished", queue)
        self._unanswered: list[bytes] = []
        self._answered: list[bytes] = []
        self._kept: list[bytes] = []
        self._ahead: list[Batch] = []
        self._batch = Batch()
        self._last: list[Command] = []
        self.succeeded = 0
        self.failed = 0

    @property
    def released(self) -> Sequence[bytes]:
        """The jobs that it releases, as they are in the intermediate list."""
        return self._unanswered + self._answered + self._kept

    def drop(self, job: ReservedJob) -> None:
        """Release a job whose hash is missing; there is nothing to publish."""
        self._kept.append(job.raw_id)

    def succeed(self, job: ReservedJob, answer: Answer) -> None:
        """The job is done; its result is published if a caller may be waiting for it."""
        self.succeeded += 1
        ttl = DEFAULT_RESULT_TTL if job.result_ttl is None else job.result_ttl
        (self._answered if ttl else self._unanswered).append(job.raw_id)
        if ttl:
            self._publish(job, ttl, success(encode_answer(answer)))

    def succeed_and_keep(self, job: ReservedJob, answer: Answer) -> None:
        """As `succeed`, but the job stays in RQ's finished registry as long as its result.

        For maintenance, which operators look for there.
        """
        self._kept.append(job.raw_id)
        self.succeeded += 1
        ttl = job.result_ttl or DEFAULT_RESULT_TTL
        self._publish(job, ttl, success(encode_answer(answer)))
        self._end(job, "finished")
        self._add("EXPIRE", job_key(job.id), ttl)
        self._add("ZADD", self._finished_key, int(time.time()) + ttl, job.id)

    def decline(self, job: ReservedJob, error: Exception) -> None:
        """A read that cannot be answered: its caller gets the error, and no failed job is kept."""
        self._answered.append(job.raw_id)
        self.succeeded += 1
        self._publish_error(job, job.result_ttl or DEFAULT_RESULT_TTL, error)

    def fail(self, job: ReservedJob, error: Exception) -> None:
        """Move the job to RQ's failed registry, with its payload, for the operator."""
        self._kept.append(job.raw_id)
        self.failed += 1
        self._end(job, "failed")
        self._add("PERSIST", job_key(job.id))  # a read's would expire
        self._add("ZADD", self._failed_key, int(time.time()) + DEFAULT_FAILURE_TTL, job.id)
        if job.payload is None:  # RQ does not accept a job without this field
            self._add("HSET", job_key(job.id), "data", b"")
        self._publish_error(job, DEFAULT_FAILURE_TTL, error)

    def release_only(self, job: ReservedJob) -> None:
        """Release a job whose id or key is not that of an RQ job, and write nothing to it."""
        self._kept.append(job.raw_id)
        self.failed += 1

    def batches_ahead(self) -> Iterator[Batch]:
        """What is to be sent before `commands`; each is dropped when the next is requested."""
        while self._ahead:
            yield self._ahead.pop(0)

    def refuse(self, batch: Batch, reason: str) -> None:
        """Replace a large result that the server refuses by an error for its caller."""
        job = batch.large_answer_to
        if job is not None:
            error = OperationRefusedError(
                f"the server does not accept a result of {batch.size_bytes:,} bytes ({reason}); "
                "ask for less with limit="
            )
            self._publish_error(job, job.result_ttl or DEFAULT_RESULT_TTL, error)

    def also(self, commands: Sequence[Command]) -> None:
        """Have `commands` executed after the jobs' release."""
        self._last += commands

    def commands(self, seconds: float, *, releases_few: bool) -> list[Command]:
        """The jobs' release, their remaining results, and the worker's counters.

        `seconds` is how long the jobs took. Ahead those without a result are released, a few by
        each script where `releases_few` says so; then the others, together with what is said of
        them, in one transaction.
        """
        most = _FEW if releases_few else _MANY
        kept = set(self._kept)  # an id that came twice may be among the others, too
        ahead = [raw_id for raw_id in self._unanswered if raw_id not in kept]
        done = [raw_id for raw_id in self._answered if raw_id not in kept]
        undeleted = [raw_id for raw_id in self.released if raw_id in kept]
        commands = self._batch.commands
        commands[:0] = [
            *self._releases(done, most),
            *self._releases(undeleted, most, deletes=False),
        ]
        if self.succeeded:
            self._add("HINCRBY", self._worker.key, "successful_job_count", self.succeeded)
        if self.failed:
            self._add("HINCRBY", self._worker.key, "failed_job_count", self.failed)
        self._add("HINCRBYFLOAT", self._worker.key, "total_working_time", seconds)
        return [*self._releases(ahead, most), ("MULTI",), *commands, ("EXEC",), *self._last]

    def _releases(
        self, raw_ids: Sequence[bytes], most: int, *, deletes: bool = True
    ) -> Iterator[Command]:
        """What removes the jobs from the intermediate list, and also deletes them."""
        for start in range(0, len(raw_ids), most):
            some = raw_ids[start : start + most]
            yield "EVAL", _RELEASE, 1, self._intermediate_key, int(deletes), *some

    def _publish_error(self, job: ReservedJob, ttl: int, error: Exception) -> None:
        self._publish(job, ttl, failure(_named(error)))

    def _publish(self, job: ReservedJob, ttl: int, result: Result) -> None:
        size_bytes = len(result[-1])
        if size_bytes > _BATCH_BYTES:
            self._cut()
            self._batch.large_answer_to = job
        self._batch.commands += publication(job.id, result, self._worker.name, ttl)
        self._grow(size_bytes)

    def _grow(self, size_bytes: int) -> None:
        self._batch.size_bytes += size_bytes + _OVERHEAD_BYTES
        if self._batch.size_bytes > _BATCH_BYTES:
            self._cut()

    def _cut(self) -> None:
        """Turn what was collected so far into a batch of its own."""
        if self._batch.commands:
            self._ahead.append(self._batch)
        self._batch = Batch()

    def _end(self, job: ReservedJob, status: str) -> None:
        fields = {
            "status": status,
            "ended_at": utcformat(now()),
            "worker_name": self._worker.name,
            "origin": self._queue,  # the queue to which RQ's requeue returns the job
        }
        pairs = [part for pair in fields.items() for part in pair]
        self._add("HSET", job_key(job.id), *pairs)
        self._grow(0)

    def _add(self, *command: Any) -> None:
        self._batch.commands.append(command)


def check_acknowledged(replies: list[Any]) -> None:
    """Raise redis-py's error unless the jobs of an acknowledgement were released.

    If they were, all of it was executed, except commands on a key of the wrong type: these are only
    logged.
    """
    place = next((i for i, reply in enumerate(replies) if isinstance(reply, list)), len(replies))
    for reply in replies[:place]:
        if isinstance(reply, Exception):
            raise reply
    executed = replies[place]
    if isinstance(executed[0], Exception):
        raise executed[0]
    _log_refusals([*executed, *replies[place + 1 :]])


def check_published(replies: list[Any]) -> None:
    """Raise if the server refuses all commands for a while.

    An error about one key is only logged: it would come again, and all jobs would wait.
    """
    for reply in replies:
        if isinstance(reply, Exception) and is_state_of_server(reply):
            raise reply
    _log_refusals(replies)


def _log_refusals(replies: list[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            log.error("the server refused part of an acknowledgement: %s", reply)


def _named(error: Exception) -> str:
    """The error as in the last line of a traceback."""
    return f"{type(error).__module__}.{type(error).__qualname__}: {error}"
