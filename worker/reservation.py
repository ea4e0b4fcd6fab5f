"""Takes jobs from the queue without letting go of them, and gives them back.

What is in flight is RQ's intermediate list. A job leaves it only when it has been acknowledged;
after a crash or a lost connection the whole list goes back to the head of the queue, in order.
Only the holder of the store's lock may do either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import redis
from rq.intermediate_queue import IntermediateQueue

MAX_GROUP_BYTES: Final = 8 * 1024 * 1024

_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]+")

# Takes ids one by one, because each has to be in the intermediate list the moment it leaves the
# queue. A hash of the wrong type must not stop the script half-way, hence pcall.
_RESERVE: Final = """
local taken, bytes = {}, 0
for i = 1, tonumber(ARGV[1]) do
  local id = redis.call('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT')
  if not id then break end
  local key = 'rq:job:' .. id
  local job = redis.pcall('HMGET', key, 'data', 'result_ttl')
  local problem = ''
  if job.err then
    problem, job = 'its key does not hold an RQ job', {false, false}
  elseif not job[1] and redis.call('EXISTS', key) == 0 then
    problem = 'gone'
  end
  taken[#taken + 1] = {id, job[1], job[2], problem}
  bytes = bytes + (job[1] and #job[1] or 0)
  if bytes >= tonumber(ARGV[2]) then break end
end
return taken
"""

_RESTORE: Final = """
local count = 0
while redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT') do count = count + 1 end
return count
"""


@dataclass(frozen=True, slots=True)
class ReservedJob:
    """A job in the intermediate list, there as `raw_id`.

    `problem` says why there is no payload to look at.
    """

    raw_id: bytes
    id: str
    payload: bytes | None
    result_ttl: int | None
    problem: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether its hash is missing: it was done before and pushed again, or deleted."""
        return self.problem == "gone"


class Reservations:
    """The queue and its intermediate list, as one worker sees them."""

    def __init__(self, connection: redis.Redis, queue_key: str) -> None:
        self._connection = connection
        self._queue_key = queue_key
        self.intermediate_key: str = IntermediateQueue.get_intermediate_queue_key(queue_key)
        self._reserve = connection.register_script(_RESERVE)
        self._restore = connection.register_script(_RESTORE)

    def wait(self, timeout_seconds: int) -> bool:
        """Block until there is a job to take, or the time is up; takes none.

        It moves the head of the queue onto itself: nothing changes, so that a signal or a lost
        reply during the wait cannot leave a job half-taken.
        """
        head = self._connection.blmove(
            self._queue_key, self._queue_key, timeout_seconds, "LEFT", "LEFT"
        )
        return head is not None

    def take(self, most: int) -> list[ReservedJob]:
        """Up to `most` jobs from the head of the queue, in order, with their payloads."""
        rows: Any = self._reserve(
            keys=[self._queue_key, self.intermediate_key], args=[most, MAX_GROUP_BYTES]
        )
        return [_reserved(*row) for row in rows]

    def put_back(self) -> int:
        """Everything in flight back to the head of the queue, in order; how many there were."""
        count: Any = self._restore(keys=[self._queue_key, self.intermediate_key])
        return int(count)


def _reserved(
    job_id: bytes, payload: bytes | None, result_ttl: bytes | None, problem: bytes
) -> ReservedJob:
    name = job_id.decode(errors="backslashreplace")
    if not _JOB_ID.fullmatch(name):
        return ReservedJob(job_id, name, None, None, "its id holds characters RQ does not allow")
    ttl = int(result_ttl) if result_ttl and result_ttl.lstrip(b"-").isdigit() else None
    return ReservedJob(job_id, name, payload, ttl, problem.decode())
