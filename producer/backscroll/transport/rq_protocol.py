"""Puts an operation onto RQ's queue as an ordinary RQ job, and reads what became of it.

This is RQ's own wire format, less the fields a data job does not need; rq-dashboard, `rq info`
and a stock `rq worker` read it. Nothing here does I/O: both clients share it.
"""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Iterable, Mapping
from itertools import chain
from math import ceil
from typing import Any, Final, Literal, NamedTuple

import orjson
from rq.results import Result

from backscroll.contract.codec import encode
from backscroll.contract.errors import (
    InvalidInputError,
    NotConfirmedError,
    OperationRefusedError,
    QueueFullError,
    ServerUnavailableError,
    carrying,
)
from backscroll.contract.messages import from_micros
from backscroll.contract.operations import Operation, Read, Upkeep
from backscroll.contract.validation import shown
from backscroll.transport.pinned_connection import Script

Ack = Literal["queued", "fsynced", "stored"]
ACKS: Final[tuple[Ack, ...]] = ("queued", "fsynced", "stored")

DEFAULT_TIMEOUT_SECONDS: Final = 30.0
CONFIRMATION_TTL_SECONDS: Final = 600
UPKEEP_TTL_SECONDS: Final = 86_400
ASK_AGAIN_SECONDS: Final = 1.0
_GRACE_SECONDS: Final = 2.0
_QUEUES_KEY: Final = "rq:queues"
_NO_REASON: Final = "the worker says nothing of why it failed"

# One call, so that the depth is checked and the jobs written with nothing in between. Of each job
# the reply has the queue's depth, 0 if the queue was full, -1 if the job was known, or -2 if
# another queue has it; and the id of the last result there is, since who waits wants the next, or
# the name of that queue.
#
# A known job was sent before and its reply lost: sending it again must not queue it twice, but
# whoever waits for its result now must get one. It is written to in any case, since WAITAOF looks
# at the writes of its own connection. Its id is looked for where it is likely to be, among the
# newest, as a whole queue would take long. If it is not there (the queue was emptied by hand, or
# the job is far ahead) it is pushed once more; the worker drops the second of an id as gone. A job
# that failed or was stopped never comes to a worker by itself: what is delivered now takes its
# place. An older users.acl forbids what only this needs, hence the pcall; the job is then left as
# it is.
#
# A ttl below zero is that of a read, whose job expires when its answer would.
ENQUEUE: Final = Script("""
local queue, most, name = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local replies, depth = {}, redis.call('LLEN', queue)
local registries = {failed = 'failed', stopped = 'failed', canceled = 'canceled',
  scheduled = 'scheduled', deferred = 'deferred'}

local function is_waiting(id)
  for _, list in ipairs({queue, queue .. ':intermediate'}) do
    if redis.pcall('LPOS', list, id, 'RANK', -1, 'MAXLEN', 1000) then return true end
  end
  return false
end

local function is_withdrawn(id, key, status)
  local registry = registries[status]
  if registry then
    local removed = redis.pcall('ZREM', 'rq:' .. registry .. ':' .. name, id)
    if type(removed) ~= 'number' then return false end
  end
  redis.pcall('PERSIST', key)
  redis.call('UNLINK', 'rq:results:' .. id)
  return true
end

local function push(id)
  if depth >= most then return 0 end
  depth = redis.call('RPUSH', queue, id)
  return depth
end

local function add(id, key, ttl, time, description, data)
  local reply = push(id)
  if reply > 0 then
    redis.call('HSET', key, 'created_at', time, 'enqueued_at', time, 'origin', name,
      'status', 'queued', 'result_ttl', ttl, 'description', description, 'data', data)
  end
  return reply
end

local function add_again(id, key, status, ttl, ...)
  local is_moving = status == 'queued' or status == 'started'
  if not is_moving and status ~= 'finished' then
    if depth >= most or is_withdrawn(id, key, status) then return add(id, key, ttl, ...) end
  elseif is_moving and not is_waiting(id) and push(id) == 0 then
    return 0
  end
  local known = tonumber(redis.call('HGET', key, 'result_ttl')) or 0
  redis.call('HSET', key, 'result_ttl', math.max(known, ttl))
  return -1
end

local function last_result(id, status)
  if status == 'finished' then return '0-0' end
  local results = redis.call('XREVRANGE', 'rq:results:' .. id, '+', '-', 'COUNT', 1)
  return results[1] and results[1][1] or '0-0'
end

for i = 3, #ARGV, 5 do
  local id, ttl = ARGV[i], tonumber(ARGV[i + 1])
  local key, keep, reply, last = 'rq:job:' .. id, math.abs(ttl), 0, ''
  local status = redis.call('HGET', key, 'status')
  local origin = status and redis.call('HGET', key, 'origin') or name
  if origin ~= name then
    reply, last = -2, origin
  else
    if status then
      reply = add_again(id, key, status, keep, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
    else
      reply = add(id, key, keep, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
    end
    if ttl < 0 and reply ~= 0 then redis.pcall('EXPIRE', key, keep) end
    if ttl ~= 0 then last = last_result(id, status) end
  end
  replies[#replies + 1] = {reply, last}
end
redis.call('SADD', KEYS[2], queue)
return replies
""")

Job = tuple[str, int, str, str, bytes]
"""What the script takes of a job: id, result_ttl (a read's below zero), time, description, data."""


class Enqueued(NamedTuple):
    """What the server says of a job: whether it had it already, and the last result it has."""

    was_known: bool
    last_result: str


class Spooled(NamedTuple):
    """That the server could not be told yet; the job's number in the spool."""

    number: int


# After a lost reply nobody can tell whose job it is that the server knows: take any result.
SENT_AGAIN: Final = Enqueued(was_known=False, last_result="0-0")


class JobWriter:
    """Writes operations for one queue that may hold at most `max_depth` of them.

    `timeout_seconds` is how long whoever asks for a read waits; a little later the server drops it.
    """

    def __init__(
        self, queue: str, max_depth: int, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        self.queue = queue
        self.max_depth = max_depth
        self._read_ttl = -ceil(timeout_seconds + _GRACE_SECONDS)
        self._head = (2, f"rq:queue:{queue}", _QUEUES_KEY, max_depth, queue)

    def job(self, operation: Operation, ack: Ack) -> Job:
        """`operation` as a job."""
        time = from_micros(operation.at).isoformat(timespec="microseconds")[:-6] + "Z"
        ttl = self._read_ttl if isinstance(operation, Read) else _result_ttl(operation, ack)
        return operation.op_id, ttl, time, operation.describe(), encode(operation)

    def script_call(self, jobs: Iterable[Job]) -> list[Any]:
        """What the script takes: number of keys, keys, arguments."""
        return [*self._head, *chain.from_iterable(jobs)]

    def parse_reply(self, reply: tuple[int, bytes]) -> Enqueued:
        """The script's reply for one job; raises `QueueFullError` or `OperationRefusedError`."""
        depth, last_result = reply
        if depth == 0:
            raise QueueFullError(self.queue, self.max_depth)
        last = last_result.decode(errors="replace")
        if depth == -2:
            raise OperationRefusedError(
                f"an operation with this id is on queue {last!r} of this server; "
                "send it again when a worker has done that one"
            )
        return Enqueued(depth < 0, last)


def check_ack(ack: object) -> Ack:
    """`ack` if it is one of the three."""
    for known in ACKS:
        if isinstance(ack, str) and ack == known:
            return known
    raise InvalidInputError("ack", f"must be one of {', '.join(ACKS)}, not {shown(ack)}")


def check_fsynced(reply: Any, operation: Operation) -> None:
    """Raise `NotConfirmedError` unless WAITAOF's reply says that the operation is on disk."""
    if isinstance(reply, Exception):
        raise NotConfirmedError(
            f"ack='fsynced' needs Redis 7.2 or Valkey with appendonly on; the server says: {reply}",
            operation,
        )
    if reply[0] < 1:
        raise NotConfirmedError("the server did not fsync the operation in time", operation)


def result_key(operation: Operation) -> str:
    """Where the worker publishes what became of `operation`."""
    return f"rq:results:{operation.op_id}"


def job_key(operation: Operation) -> str:
    """Where RQ keeps the job of `operation` until it is done."""
    return f"rq:job:{operation.op_id}"


def parse_result(fields: Mapping[bytes, bytes]) -> Any:
    """The value the worker returned, from RQ's result; raises what it raised."""
    try:
        if _is_success(fields):
            value = fields.get(b"return_value")
            return None if value is None else orjson.loads(b64decode(value))
        trace = zlib.decompress(b64decode(fields[b"exc_string"])).decode().strip()
    except (KeyError, ValueError, zlib.error):  # another program's, or a stopped job's
        raise OperationRefusedError(
            "the operation's result is not one of a Backscroll worker's; send it again, and look "
            "for another program that works on this queue"
        ) from None
    # The last line of a traceback: "module.ClassName: message".
    raise OperationRefusedError(trace.rpartition("\n")[2].partition(": ")[2] or trace or _NO_REASON)


def result_of(operation: Operation, fields: Mapping[bytes, bytes]) -> Any:
    """As `parse_result`, with an error that carries the operation."""
    try:
        return parse_result(fields)
    except OperationRefusedError as error:
        raise carrying(operation, error) from None


def best_result(reply: Any) -> dict[bytes, bytes]:
    """The result in XREAD's reply for one stream, in RESP2's form or RESP3's.

    The first success, which is what the operation did, as later ones say that it was done; else the
    newest failure, as a failed job may have been requeued.
    """
    entries = next(iter(reply.values())) if isinstance(reply, dict) else reply[0][1]
    while isinstance(entries[0], list):
        entries = entries[0]
    results: list[dict[bytes, bytes]] = [fields for _, fields in entries]
    return next((result for result in results if _is_success(result)), results[-1])


def no_word(operation: Operation, timeout_seconds: float, queue: str) -> NotConfirmedError:
    """The error for an operation whose result did not come in time."""
    return NotConfirmedError(
        f"no word from the worker on this {operation.kind} for {timeout_seconds:g} s; it may still "
        f"be carried out. Does a worker run on queue {queue!r}? `backscroll check` tells.",
        operation,
    )


def still_spooled(operation: Operation, count: int) -> NotConfirmedError:
    """The error for an operation that the server has not been told of in time."""
    return NotConfirmedError(
        f"the server is away, and {count:,} operations wait in the spool; "
        "they are sent when it is back",
        operation,
    )


def not_yet_sent(count: int) -> ServerUnavailableError:
    """The error for a read while writes before it have not reached the server."""
    return ServerUnavailableError(
        f"the server is away, and {count:,} operations of before wait in the spool"
    )


def _is_success(fields: Mapping[bytes, bytes]) -> bool:
    return fields.get(b"type") == b"%d" % Result.Type.SUCCESSFUL.value


def _result_ttl(operation: Operation, ack: Ack) -> int:
    if isinstance(operation, Upkeep):
        return UPKEEP_TTL_SECONDS
    return CONFIRMATION_TTL_SECONDS if ack == "stored" else 0
