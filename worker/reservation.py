"""Takes jobs from the queue without letting go of them, and gives them back.

What is in flight is RQ's intermediate list. A job leaves it only when it has been acknowledged;
after a crash or a lost connection the whole list goes back to the head of the queue, in order.
Only the holder of the store's lock may do either.
"""

from __future__ import annotations

import re
import uuid
from contextlib import suppress
from typing import Any, Final, NamedTuple

import redis
from rq.intermediate_queue import IntermediateQueue
from rq.suspension import WORKERS_SUSPENDED

MAX_GROUP_BYTES: Final = 8 * 1024 * 1024

_TTL: Final = re.compile(rb"[0-9]{1,9}")
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]+")

# Everything is looked at before anything is moved. A hash of the wrong type must not stop the
# script, hence pcall; Lua's unpack has a bound, hence the stretches.
_TAKE: Final = """
local queue, in_flight, suspended, fence = unpack(KEYS)
if redis.call('GET', fence) ~= ARGV[3] then return 'fenced' end
if redis.call('EXISTS', suspended) == 1 then return 'suspended' end
local ids = redis.call('LRANGE', queue, 0, tonumber(ARGV[1]) - 1)
local jobs, count, bytes = {}, 0, 0
for i, id in ipairs(ids) do
  local key, problem = 'rq:job:' .. id, ''
  local job = redis.pcall('HMGET', key, 'data', 'result_ttl')
  if job.err then
    problem, job = 'its key does not hold an RQ job', {false, false}
  elseif not job[1] and redis.call('EXISTS', key) == 0 then
    problem = 'gone'
  end
  jobs[i], count = {id, job[1], job[2], problem}, i
  bytes = bytes + (job[1] and #job[1] or 0)
  if bytes >= tonumber(ARGV[2]) then break end
end
for i = 1, count, 1000 do
  redis.call('RPUSH', in_flight, unpack(ids, i, math.min(i + 999, count)))
end
if count > 0 then redis.call('LTRIM', queue, count, -1) end
return jobs
"""

# The fence stops a take that is still on its way: one that a frozen server carries out late, on a
# connection given up long ago, would leave jobs in flight that nobody knows of.
_PUT_BACK: Final = """
redis.call('SET', KEYS[3], ARGV[1])
local count = 0
while redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT') do count = count + 1 end
return count
"""


class ReservedJob(NamedTuple):
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


class FencedError(redis.ConnectionError):
    """Somebody else put the jobs in flight back, or the server lost its data: start anew."""


class SuspendedError(Exception):
    """`rq suspend` holds the workers back; nothing was taken."""


class Reservations:
    """The queue and its intermediate list, as one worker sees them.

    `put_back` comes first; it also makes this worker the one that may take.
    """

    def __init__(self, connection: redis.Redis, queue: str, queue_key: str) -> None:
        self._redis = connection
        self._queue_key = queue_key
        self.intermediate_key: str = IntermediateQueue.get_intermediate_queue_key(queue_key)
        self._fence_key = f"backscroll:{queue}:fence"
        self._token = ""
        self._take_script = connection.register_script(_TAKE)
        self._put_back_script = connection.register_script(_PUT_BACK)
        self._asked: Any = None

    def wait(self, timeout_seconds: int) -> bool:
        """Block until there is a job to take, or the time is up; takes none.

        It moves the head of the queue onto itself: nothing changes, so that a signal or a lost
        reply during the wait cannot leave a job half-taken.
        """
        head = self._redis.blmove(self._queue_key, self._queue_key, timeout_seconds, "LEFT", "LEFT")
        return head is not None

    def take(self, most: int) -> list[ReservedJob]:
        """Up to `most` jobs from the head of the queue, in order, with their payloads.

        What was asked for before comes first, however many that are.
        """
        if self._asked is not None:
            with suppress(redis.exceptions.NoScriptError):  # then nothing was taken
                return self._receive(self._asked)
        reply: Any = self._take_script(keys=self._take_keys(), args=self._take_arguments(most))
        return _parse(reply)

    def ask(self, most: int) -> None:
        """Have the server prepare the next `take` while this process does something else."""
        self._asked = self._redis.connection_pool.get_connection()
        keys, arguments = self._take_keys(), self._take_arguments(most)
        sha = self._take_script.sha
        self._asked.send_command("EVALSHA", sha, len(keys), *keys, *arguments)

    def put_back(self) -> int:
        """Everything in flight back to the head of the queue, in order; how many there were."""
        self._forget_asked()
        self._token = uuid.uuid4().hex
        keys = [self._queue_key, self.intermediate_key, self._fence_key]
        count: Any = self._put_back_script(keys=keys, args=[self._token])
        return int(count)

    def _receive(self, connection: Any) -> list[ReservedJob]:
        try:
            reply = connection.read_response()
        except BaseException:
            connection.disconnect()
            raise
        finally:
            self._asked = None
            self._redis.connection_pool.release(connection)
        return _parse(reply)

    def _forget_asked(self) -> None:
        if self._asked is not None:
            self._asked.disconnect()
            self._redis.connection_pool.release(self._asked)
            self._asked = None

    def _take_keys(self) -> list[str]:
        return [self._queue_key, self.intermediate_key, WORKERS_SUSPENDED, self._fence_key]

    def _take_arguments(self, most: int) -> list[Any]:
        return [most, MAX_GROUP_BYTES, self._token]


def _parse(reply: Any) -> list[ReservedJob]:
    if reply == b"fenced":
        raise FencedError(
            "the jobs in flight were put back by somebody else; "
            "does another worker serve this queue for another store?"
        )
    if reply == b"suspended":
        raise SuspendedError
    return [_reserved(*row) for row in reply]


def _reserved(
    raw_id: bytes, payload: bytes | None, result_ttl: bytes | None, problem: bytes
) -> ReservedJob:
    name = raw_id.decode(errors="backslashreplace")
    if not _JOB_ID.fullmatch(name):
        return ReservedJob(raw_id, name, None, None, "its id holds characters RQ does not allow")
    ttl = int(result_ttl) if result_ttl and _TTL.fullmatch(result_ttl) else None
    return ReservedJob(raw_id, name, payload, ttl, problem.decode() if problem else "")
