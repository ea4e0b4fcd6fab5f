"""Tails: the newest messages of sessions that are read, which a worker keeps on the server.

A read of the newest messages or of a session's info that a tail answers takes one round trip, and
no worker. It has every write that was enqueued before it, as an answer of a worker has:

- `pending` is a hash: for each session with writes that wait, the op id of the last one. Under ""
  is that of the last operation that may change any session; while there is one, no tail is served.
- `tails` is a hash, too: a tail for a session, and under "" the mark of the worker that keeps them.
  It changes a tail, or drops it, together with the acknowledgement of what changed the session, and
  only then removes the op id from `pending`. It expires soon after the worker's death.

Only while there are tails are writes marked as pending. What a worker finds waiting when it begins
to keep some is marked by the last job of the queue, under "".

A tail has three lines: for how many messages it can answer, the session's info, and the messages.
"""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.operations import Operation, Write
from backscroll.contract.reads import GetSession, Load

LEASE_SECONDS: Final = 12.0
"""How long tails outlive the last sign of life of the worker that keeps them."""

ALL_MESSAGES: Final = 10**9
"""The need of a read for the whole session; a tail that has it all can answer for so many."""

LUA_TAILS: Final = """
local function open_tails(queue, may_answer)
  local pending, tails = 'backscroll:' .. queue .. ':pending', 'backscroll:' .. queue .. ':tails'
  local is_kept = type(redis.pcall('HGET', tails, '')) == 'string'
  local function mark(keys, id)
    if not is_kept then return end
    for _, key in ipairs(keys) do redis.pcall('HSET', pending, key, id) end
  end
  local function answer(key, need)
    if not (is_kept and may_answer) then return false end
    local waits = redis.pcall('HMGET', pending, '', key)
    if waits.err or waits[1] or waits[2] then return false end
    local tail = redis.pcall('HGET', tails, key)
    if type(tail) ~= 'string' then return false end
    local count, info, messages = string.match(tail, '^(%d+)\\n([^\\n]*)\\n(.*)$')
    if not count or tonumber(count) < need then return false end
    return need == 0 and info or messages
  end
  return {mark = mark, answer = answer}
end
"""


class About(NamedTuple):
    """Which sessions an operation changes, or reads if a tail can answer it; "" for any there are.

    `need` is how many of the newest messages a read wants, 0 for the session's info alone; -1 is
    for what no tail can answer.
    """

    need: int
    keys: tuple[str, ...]

    @classmethod
    def of(cls, operation: Operation) -> About:
        """What an operation is about."""
        if isinstance(operation, GetSession):
            return cls(0, (operation.key,))
        if isinstance(operation, Load) and operation.is_plain:
            return cls(operation.limit or ALL_MESSAGES, (operation.key,))
        return cls(-1, operation.changes if isinstance(operation, Write) else ())


def kept_answer(operation: Operation, answer: bytes) -> Any:
    """What a worker would answer; of a history, `answer` may have more messages than wanted."""
    value = orjson.loads(answer)
    limit = operation.limit if isinstance(operation, Load) else None
    return value if limit is None else value[-limit:]


def tail_of(info: bytes, messages: bytes, count: int, most: int) -> bytes:
    """A tail with the newest messages of a session of `count`, at most `most`, in JSON."""
    return b"%d\n%b\n%b" % (most if count > most else ALL_MESSAGES, info, messages)


ANY_SESSION: Final = About(-1, ("",))
"""Of what nobody knows which sessions it changes."""


class Trust:
    """Whether a producer may believe in tails.

    After a lost connection the server may be another one, or have lost what it acknowledged last;
    the worker then begins anew, or its tails expire.
    """

    def __init__(self) -> None:
        self._from = 0.0

    def lose(self) -> None:
        """A connection was lost."""
        self._from = time.monotonic() + LEASE_SECONDS

    @property
    def holds(self) -> bool:
        return time.monotonic() >= self._from
