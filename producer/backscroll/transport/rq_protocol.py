"""What RQ and Backscroll keep on the server: key names, a job's hash, the stream of its results.

The only place that lays them out, for producers and workers; rq-dashboard, `rq info` and a stock
`rq worker` read the same. RQ itself is not needed: a test compares this with what RQ writes.
Nothing here does I/O.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.codec import encode
from backscroll.contract.errors import OperationRefusedError, QueueFullError, carrying
from backscroll.contract.operations import Maintenance, Operation, Read
from backscroll.contract.splicing import Pop
from backscroll.transport.acks import Ack
from backscroll.transport.pinned_connection import Command, Script
from backscroll.transport.tails import ANSWERED, ANY_SESSION, LUA_TAILS, About, time_text

DEFAULT_TIMEOUT_SECONDS: Final = 30.0
CONFIRMATION_TTL_SECONDS: Final = 600
MAINTENANCE_TTL_SECONDS: Final = 86_400
_GRACE_SECONDS: Final = 2.0

_PLAIN_BYTES: Final = 16 * 1024
"""Of an append that reads may see while it waits; each of them would get all of it."""

QUEUES_KEY: Final = "rq:queues"
WORKERS_KEY: Final = "rq:workers"
SUSPENDED_KEY: Final = "rq:suspended"


def queue_key(queue: str) -> str:
    """The list of the ids of jobs that wait, the oldest first."""
    return f"rq:queue:{queue}"


def in_flight_key(queue: str) -> str:
    """The list of the ids that a worker has taken; RQ calls it the intermediate queue."""
    return f"{queue_key(queue)}:intermediate"


def job_key(job_id: str) -> str:
    """The hash of a job that is not done, or that a registry keeps."""
    return f"rq:job:{job_id}"


def results_key(job_id: str) -> str:
    """The stream of what became of a job, the newest last."""
    return f"rq:results:{job_id}"


def registry_key(registry: str, queue: str) -> str:
    """The sorted set of one kind of ids: "failed", "finished", "canceled", "wip" (started) …"""
    return f"rq:{registry}:{queue}"


def worker_key(name: str) -> str:
    """The hash in which a worker has its state and counters."""
    return f"rq:worker:{name}"


def workers_key(queue: str) -> str:
    """The set of the keys of workers that serve a queue."""
    return f"{WORKERS_KEY}:{queue}"


def own_key(queue: str, *names: str) -> str:
    """A key of Backscroll's own: "fence", "store", "tails", "pending", or "cron" and a kind."""
    return ":".join(("backscroll", queue, *names))


class OrjsonSerializer:
    """RQ's serializer protocol over orjson: a job is data, and never code as a pickle is.

    For RQ itself: `rq worker --serializer backscroll.transport.rq_protocol.OrjsonSerializer …`
    """

    @staticmethod
    def dumps(value: Any) -> bytes:
        """`value` as UTF-8 JSON; raises TypeError for what JSON cannot hold."""
        return orjson.dumps(value)

    @staticmethod
    def loads(data: bytes) -> Any:
        """The value `data` holds; raises ValueError for what is not JSON."""
        return orjson.loads(data)


# The same for scripts, which put these lines before their own.
LUA_KEYS: Final = f"""
local function job_key(id) return '{job_key("")}' .. id end
local function results_key(id) return '{results_key("")}' .. id end
"""
LUA_WRITE_JOB: Final = """
local function write_job(id, queue, ttl, time, description, data)
  redis.call('HSET', job_key(id), 'created_at', time, 'enqueued_at', time, 'origin', queue,
    'status', 'queued', 'result_ttl', ttl, 'description', description, 'data', data)
end
"""

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
# it is. A pop whose caller was told what it removes goes on to remove that.
#
# A ttl below zero is that of a read, whose job expires when its answer would. A read that a tail
# answers is not queued, and of a pop the job then says what to remove, so that nobody waits for its
# result. See `transport.tails`.
ENQUEUE: Final = Script(
    LUA_KEYS
    + LUA_WRITE_JOB
    + LUA_TAILS
    + f"local ANSWERED, PLAIN_BYTES = {ANSWERED}, {_PLAIN_BYTES}"
    + """
local queue, most, name = KEYS[1], tonumber(ARGV[1]), ARGV[2]
local replies, depth = {}, redis.call('LLEN', queue)
local registries = {failed = 'failed', stopped = 'failed', canceled = 'canceled',
  scheduled = 'scheduled', deferred = 'deferred'}

local function is_waiting(id, among)
  for _, list in ipairs({queue, queue .. ':intermediate'}) do
    if redis.pcall('LPOS', list, id, 'RANK', -1, 'MAXLEN', among) then return true end
  end
  return false
end

local tails = open_tails(name, ARGV[3] == '1', ARGV[4], is_waiting)

local function is_withdrawn(id, key, status)
  local registry = registries[status]
  if registry then
    local removed = redis.pcall('ZREM', 'rq:' .. registry .. ':' .. name, id)
    if type(removed) ~= 'number' then return false end
  end
  redis.pcall('PERSIST', key)
  redis.call('UNLINK', results_key(id))
  return true
end

local function push(id, mark, changes, is_plain)
  if depth >= most then return 0 end
  tails.mark(changes, mark, is_plain)
  depth = redis.call('RPUSH', queue, id)
  return depth
end

local function add(id, changes, ttl, kind, wanted, time, description, data)
  local key, ids, answer = changes[1]
  local is_settled = kind == 'pop' and tails.is_settled(key)
  local reply = push(id, id, changes, kind == 'append' and #data <= PLAIN_BYTES)
  if reply == 0 then return 0 end
  if is_settled and tails.is_marked(key, id) then ids, answer = tails.newest(key, wanted) end
  if answer then
    ttl = 0
    data = string.sub(data, 1, -3) .. ',"message_ids":["' .. table.concat(ids, '","') .. '"]}]'
  end
  write_job(id, name, ttl, time, description, data)
  return reply, answer
end

local function is_told(data)
  return data and string.find(data, '"message_ids":["', 1, true)
end

-- Of an id that is queued twice nobody can tell which of the two a worker has done: such a mark
-- stays until a later write of the session, or until nothing waits.
local function add_again(id, changes, key, status, ttl, time, description, data)
  local is_moving = status == 'queued' or status == 'started'
  if not is_moving and status ~= 'finished' then
    if depth >= most then return 0 end
    if is_withdrawn(id, key, status) then
      local before = redis.call('HGET', key, 'data')
      return add(id, changes, ttl, '', 0, time, description, is_told(before) and before or data)
    end
  elseif is_moving and not is_waiting(id, 1000) and push(id, id .. ' again', changes) == 0 then
    return 0
  end
  local known = tonumber(redis.call('HGET', key, 'result_ttl')) or 0
  redis.call('HSET', key, 'result_ttl', math.max(known, ttl))
  return -1
end

local function last_result(id, status)
  if status == 'finished' then return '0-0' end
  local results = redis.call('XREVRANGE', results_key(id), '+', '-', 'COUNT', 1)
  return results[1] and results[1][1] or '0-0'
end

local i = 5
while i <= #ARGV do
  local id, ttl = ARGV[i], tonumber(ARGV[i + 1])
  local time, description, data = ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local kind, wanted, count = ARGV[i + 5], tonumber(ARGV[i + 6]), tonumber(ARGV[i + 7])
  local is_read, read = kind == 'read', ARGV[i + 8]
  local changes = is_read and {} or {unpack(ARGV, i + 8, i + 7 + count)}
  i = i + 8 + count
  local key, keep, reply, last = job_key(id), math.abs(ttl), 0, ''
  local status = redis.call('HGET', key, 'status')
  local origin = status and redis.call('HGET', key, 'origin') or name
  local answer = is_read and not status and tails.answer(read, wanted)
  if origin ~= name then
    reply, last = -2, origin
  elseif not answer then
    if status then
      reply = add_again(id, changes, key, status, keep, time, description, data)
    else
      reply, answer = add(id, changes, keep, kind, wanted, time, description, data)
    end
    if ttl < 0 and reply ~= 0 then redis.pcall('EXPIRE', key, keep) end
    if ttl ~= 0 then last = last_result(id, status) end
  end
  replies[#replies + 1] = answer and {ANSWERED, unpack(answer)} or {reply, last}
end
redis.call('SADD', KEYS[2], queue)
return replies
"""
)

Job = tuple[str, int, str, str, bytes]
"""What the script takes of a job: id, result_ttl (a read's below zero), time, description, data."""


class Enqueued(NamedTuple):
    """What the server says of a job: whether it had it already, and the last result it has.

    Or the parts of the `answer` to a read or a pop, for `tails.kept_answer`.
    """

    was_known: bool
    last_result: str
    answer: Sequence[bytes] | None = None


class Spooled(NamedTuple):
    """That the server does not have the job yet; its number in the spool."""

    number: int


# After a lost reply nobody can know whose job it is that the server has: take any result.
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
        self._head = (2, queue_key(queue), QUEUES_KEY, max_depth, queue)

    def job(self, operation: Operation, ack: Ack) -> Job:
        """`operation` as a job."""
        time = time_text(operation.at)
        ttl = self._read_ttl if isinstance(operation, Read) else _result_ttl(operation, ack)
        if isinstance(operation, Pop):  # no text stays on the server for longer than for a read
            ttl = min(ttl, -self._read_ttl)
        return operation.op_id, ttl, time, operation.describe(), encode(operation)

    def script_call(
        self, jobs: Sequence[Job], about: Sequence[About] | None, *, may_answer: bool, server: str
    ) -> list[Any]:
        """What the script takes: number of keys, keys, arguments.

        `may_answer` is whether tails are believed where `server`, its id, says nothing of them.
        `about` says for each job which sessions it is about; without, each may be about any.
        """
        about = [ANY_SESSION] * len(jobs) if about is None else about
        arguments = [*self._head, int(may_answer), server]
        for job, (kind, wanted, keys) in zip(jobs, about, strict=True):
            arguments += job
            arguments += kind, wanted, len(keys), *keys
        return arguments

    def parse_reply(self, reply: Sequence[Any]) -> Enqueued:
        """The script's reply for one job; raises `QueueFullError` or `OperationRefusedError`."""
        depth, last_result, *_ = reply
        if depth == ANSWERED:
            return Enqueued(was_known=False, last_result="", answer=reply[1:])
        if depth == 0:
            raise QueueFullError(self.queue, self.max_depth)
        last = last_result.decode(errors="replace")
        if depth == -2:
            raise OperationRefusedError(
                f"an operation with this id is on queue {last!r} of this server; "
                "send it again when a worker has done that one"
            )
        return Enqueued(depth < 0, last)


def _result_ttl(operation: Operation, ack: Ack) -> int:
    if isinstance(operation, Maintenance):
        return MAINTENANCE_TTL_SECONDS
    return CONFIRMATION_TTL_SECONDS if ack == "stored" or isinstance(operation, Pop) else 0


# An entry of the stream: kind, and then either a return value or the text of a traceback.
_SUCCESSFUL: Final = 1
_FAILED: Final = 2

Result = tuple[int, str, bytes]


def success(value: bytes) -> Result:
    """The result of a job that returned `value`, in JSON."""
    return _SUCCESSFUL, "return_value", b64encode(value)


def failure(trace: str) -> Result:
    """The result of a job that failed; the last line is "module.ClassName: message"."""
    return _FAILED, "exc_string", b64encode(zlib.compress(trace.encode()))


def publication(job_id: str, result: Result, worker: str, ttl: int) -> tuple[Command, Command]:
    """What puts `result` into the stream of a job's results, of which RQ keeps ten."""
    key, (kind, field, value) = results_key(job_id), result
    entry = ("type", kind, "worker_name", worker, field, value)
    return ("XADD", key, "MAXLEN", "~", 10, "*", *entry), ("EXPIRE", key, ttl)


def parse_result(fields: Mapping[bytes, bytes]) -> Any:
    """The value that the worker returned; raises its error as an `OperationRefusedError`."""
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
    reason = trace.rpartition("\n")[2].partition(": ")[2]
    raise OperationRefusedError(reason or trace or "the worker gave no reason")


def result_of(operation: Operation, fields: Mapping[bytes, bytes]) -> Any:
    """As `parse_result`, with an error that carries the operation."""
    try:
        return parse_result(fields)
    except OperationRefusedError as error:
        raise carrying(operation, error) from None


def best_result(found: Any) -> dict[bytes, bytes]:
    """The result in XREAD's reply for one stream, in RESP2's form or RESP3's.

    The first success, which is what the operation did, as later ones say that it was done; else the
    newest failure, as a failed job may have been requeued.
    """
    entries = next(iter(found.values())) if isinstance(found, dict) else found[0][1]
    results = [dict(zip(pairs[::2], pairs[1::2], strict=True)) for _, pairs in entries]
    return next((result for result in results if _is_success(result)), results[-1])


def _is_success(fields: Mapping[bytes, bytes]) -> bool:
    return fields.get(b"type") == b"%d" % _SUCCESSFUL
