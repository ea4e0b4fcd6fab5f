"""Takes jobs from the queue, keeps them in the intermediate list, and can put them back.

Jobs in flight are in RQ's intermediate list. A job leaves it only when it has been acknowledged;
after a crash or a lost connection the whole list is put back at the head of the queue, in order.
Only the holder of the store's lock may do either.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import redis

from backscroll.transport.pinned_connection import Command, PinnedConnection, Script
from backscroll.transport.rq_protocol import (
    LUA_KEYS,
    SUSPENDED_KEY,
    in_flight_key,
    own_key,
    queue_key,
)

MAX_GROUP_BYTES: Final = 8 * 1024 * 1024

_SMALL_STEP: Final = 32
"""Jobs that one script takes while others read: they wait for it."""

_FAR_SECONDS: Final = 0.005
"""A server that takes so long to reply gets twice as many in the next step: it may be far away."""

_TTL: Final = re.compile(rb"[0-9]{1,9}")
_JOB_ID: Final = re.compile(r"[A-Za-z0-9_-]+")

# Everything is read before anything is moved. A hash of the wrong type must not stop the script,
# hence pcall; Lua's unpack has a limit, hence the steps of 1,000.
_TAKE: Final = Script(
    LUA_KEYS
    + """
local queue, in_flight, suspended, fence = unpack(KEYS)
if redis.call('GET', fence) ~= ARGV[3] then return 'fenced' end
if redis.call('EXISTS', suspended) == 1 then return 'suspended' end
local ids = redis.call('LRANGE', queue, 0, tonumber(ARGV[1]) - 1)
local jobs, count, bytes = {}, 0, 0
for i, id in ipairs(ids) do
  local key, problem = job_key(id), ''
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
)

# The fence stops a take that is still under way: a frozen server may execute it late, for a
# connection that was closed long ago, and would leave jobs in flight that no worker knows of. Its
# value also records how often in a row jobs were in flight when a worker died or the server closed
# its connection, how many jobs these were the last time, and for a single job how often it was that
# one.
_PUT_BACK: Final = Script("""
local note = redis.call('GET', KEYS[3]) or ''
local deaths, suspects, alone, name = string.match(note, ' (%d+) (%d+) (%d+) (%S+)$')
if not deaths then deaths, suspects, alone, name = 0, 0, 0, '-' end
local count, first = redis.call('LLEN', KEYS[2]), redis.call('LINDEX', KEYS[2], 0)
while redis.call('LMOVE', KEYS[2], KEYS[1], 'RIGHT', 'LEFT') do end
if count > 0 and ARGV[2] == '1' then
  local last = name
  deaths, suspects, name = deaths + 1, count, '-'
  if count == 1 then name = redis.sha1hex(first) end
  if name == last then alone = alone + 1 else alone = 1 end
end
note = string.format('%s %d %d %d %s', ARGV[1], deaths, suspects, alone, name)
redis.call('SET', KEYS[3], note)
return {count, note}
""")

_CLEAR: Final = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) end
""")

_HARMLESS_DEATHS: Final = 1
_TAKEN_APART: Final = 16
_LONGEST_ALONE: Final = 16
DEATHS_ALONE: Final = 5
"""How often in a row workers may die, or lose the server, over one job that is alone in flight.

A worker that is killed repeatedly for another reason must not cost a job.
"""


class ReservedJob(NamedTuple):
    """A job in the intermediate list, where its entry is `raw_id`.

    `problem` says why it has no readable payload.
    """

    raw_id: bytes
    id: str
    payload: bytes | None
    result_ttl: int | None
    problem: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether its hash is missing: the job was done before and pushed again, or deleted."""
        return self.problem == "gone"


class FencedError(redis.ConnectionError):
    """Another worker put the jobs in flight back, or the server lost its data: start anew."""


class SuspendedError(Exception):
    """The workers are suspended (`rq suspend`); nothing was taken."""


class Reservations:
    """The queue and its intermediate list, as one worker sees them.

    Call `put_back` first; it also makes this worker the only one that may take. When jobs in flight
    may be the reason why a worker died, they are taken again in ever smaller groups, down to one
    job.

    Whoever sets `takes_few` has jobs taken in small steps, so that the server has time for others
    in between; that takes the worker a sixth longer. They are released in small steps then, too.
    """

    def __init__(self, connection: redis.Redis, queue: str) -> None:
        self._channel = PinnedConnection(connection)
        self._queue_key, self.intermediate_key = queue_key(queue), in_flight_key(queue)
        self._fence_key = own_key(queue, "fence")
        self._keys = [self._queue_key, self.intermediate_key, SUSPENDED_KEY, self._fence_key]
        self.takes_few = False
        self._token = ""
        self._few = _SMALL_STEP
        self._asked = 0
        self._arguments: list[Any] = []
        self._deaths = self._untaken = self._alone = 0
        self._alone_name = ""
        self._step = 1
        self._suspects: set[bytes] = set()

    @property
    def has_suspects(self) -> bool:
        """Whether jobs that were in flight when a worker died are still to be taken or done."""
        return self._untaken > 0 or bool(self._suspects)

    @property
    def is_careful(self) -> bool:
        """Whether that happened more than once, so that no other job may be in flight with them."""
        return self.has_suspects and self._deaths > _HARMLESS_DEATHS

    @property
    def alone_seconds(self) -> float:
        """How long a suspect runs alone; longer, the more workers have died."""
        return 2.0 ** min(self._deaths, _LONGEST_ALONE) if self.is_careful else 0.0

    def is_deadly(self, job: ReservedJob) -> bool:
        """Whether this job was alone in flight when several workers in a row died."""
        return (
            self.has_suspects
            and self._alone >= DEATHS_ALONE
            and self._alone_name == _digest(job.raw_id)
        )

    def wait_and_take(self, timeout_seconds: int, most: int) -> Iterator[ReservedJob]:
        """Block until there is a job to take, or the time is up; then as `take`.

        The wait moves the head of the queue onto itself, which changes nothing. The server then
        executes the first step at once, without another round trip.
        """
        queue = self._queue_key
        wait = ("BLMOVE", queue, queue, "LEFT", "LEFT", timeout_seconds)
        self._ask(most, MAX_GROUP_BYTES, wait)
        return self.take(most)

    def take(self, most: int) -> Iterator[ReservedJob]:
        """Up to `most` jobs from the head of the queue, in order, with their payloads.

        What was requested before comes first. The server prepares a step while the caller is busy
        with the jobs of the one before. Raises `SuspendedError` only if nothing was taken.
        """
        self._few = _SMALL_STEP
        if not self.has_asked:
            self._ask(most)
        left_bytes, has_taken = MAX_GROUP_BYTES, False
        while self.has_asked:
            asked, began = self._asked, time.monotonic()
            try:
                rows = self._rows()
            except SuspendedError:
                if has_taken:
                    return
                raise
            most -= len(rows)
            left_bytes -= sum(len(payload or b"") for _, payload, _, _ in rows)
            if time.monotonic() - began > _FAR_SECONDS:
                self._few *= 2
            if len(rows) == asked and most > 0 and left_bytes > 0 and not self.is_careful:
                self._ask(most, left_bytes)
            has_taken = True
            yield from self._taken(rows)

    @property
    def has_asked(self) -> bool:
        """Whether jobs were requested from the server and not yet read."""
        return self._channel.is_awaited

    def ask(self, most: int) -> None:
        """Have the server prepare the next `take` while this process does something else."""
        self._ask(most)

    def put_back(self, *, after_death: bool = True) -> int:
        """Put all jobs in flight back at the head of the queue, in order; returns their number.

        `after_death` says that a worker has died since they were taken, or failed in a way for
        which they may be the reason.
        """
        if self._channel.is_awaited:
            self._channel.reset()
        keys = [self._queue_key, self.intermediate_key, self._fence_key]
        count, note = self._channel.run(
            _PUT_BACK, len(keys), *keys, uuid.uuid4().hex, int(after_death)
        )
        self._token = note.decode()
        _, *numbers, self._alone_name = self._token.split()
        self._deaths, self._untaken, self._alone = map(int, numbers)
        self._suspects.clear()
        self._step = max(1, self._untaken // _TAKEN_APART)
        return int(count)

    def note_released(self, raw_ids: Iterable[bytes]) -> None:
        """Note that these are done; maintenance may run for long after the others."""
        self._suspects.difference_update(raw_ids)
        if not self.has_suspects:
            token = f"{uuid.uuid4().hex} 0 0 0 -"
            self._channel.run(_CLEAR, 1, self._fence_key, self._token, token)
            self._token, self._deaths = token, 0

    def hang_up(self) -> None:
        """Reconnect with the next command."""
        self._channel.reset()

    def _ask(self, most: int, most_bytes: int = MAX_GROUP_BYTES, *before: Command) -> None:
        self._asked = min(most, self._few) if self.takes_few else most
        if self.is_careful and self._untaken:
            self._asked = min(self._asked, self._step)
        self._arguments = [len(self._keys), *self._keys, self._asked, most_bytes, self._token]
        self._channel.send(*before, _TAKE.evalsha(*self._arguments))

    def _rows(self) -> list[Any]:
        """What was requested, a row for each job."""
        try:
            rows = self._channel.receive()[-1]
        except redis.exceptions.NoScriptError:  # then nothing was taken
            rows = self._channel.run(_TAKE, *self._arguments)
        if rows == b"fenced":
            raise FencedError(
                "another process put the jobs in flight back; "
                "does another worker serve this queue for another store?"
            )
        if rows == b"suspended":
            raise SuspendedError
        return rows  # type: ignore[no-any-return]

    def _taken(self, rows: list[Any]) -> list[ReservedJob]:
        """The jobs in the rows; suspects, if there are any, come first."""
        jobs = [_reserved(*row) for row in rows]
        suspects = jobs[: self._untaken]
        self._untaken -= len(suspects)
        self._suspects.update(job.raw_id for job in suspects)
        return jobs


def _digest(raw_id: bytes) -> str:
    return hashlib.sha1(raw_id, usedforsecurity=False).hexdigest()


def _reserved(
    raw_id: bytes, payload: bytes | None, result_ttl: bytes | None, problem: bytes
) -> ReservedJob:
    name = raw_id.decode(errors="backslashreplace")
    if not _JOB_ID.fullmatch(name):
        return ReservedJob(
            raw_id, name, None, None, "its id contains characters that RQ does not allow"
        )
    ttl = int(result_ttl) if result_ttl and _TTL.fullmatch(result_ttl) else None
    return ReservedJob(raw_id, name, payload, ttl, problem.decode() if problem else "")
