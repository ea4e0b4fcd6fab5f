"""Tails: the newest messages of sessions that are read, which a worker keeps on the server.

A read of the newest messages or of a session's info that a tail answers takes one round trip, and
no worker. It has every write that was enqueued before it, as an answer of a worker has. A pop takes
one round trip, too, where a tail says what it removes: the job then names these messages, and they
are what the worker removes, whatever comes between.

- `pending` is a hash: for each session with writes that wait, the op id of the last one. Under ""
  is that of the last operation that may change any session; while there is one, no tail is served.
- `tails` is a hash, too: a tail for a session, and under "" the token of the worker that keeps
  them. It changes a tail, or drops it, together with the acknowledgement of what changed the
  session, and only then removes the op id from `pending`. It expires soon after the worker's death.

Only while there are tails are writes marked as pending. What a worker finds waiting when it begins
to keep some is marked by the last job of the queue, under "".

A tail has three parts, each up to a line's end: for how many messages it can answer, and id and
size of the newest few, the newest first; the session's info; and the messages, to the end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.answers import SEPARATOR
from backscroll.contract.operations import Operation, Write
from backscroll.contract.reads import GetSession, Load
from backscroll.contract.splicing import Pop
from backscroll.transport.acks import Ack

LEASE_SECONDS: Final = 12.0
"""How long tails outlive the last sign of life of the worker that keeps them."""

ALL_MESSAGES: Final = 10**9
"""The need of a read for the whole session; a tail that has it all can answer for so many."""

ANSWERED: Final = -3
"""In the place of the queue's depth: the other half of the reply is the answer, out of a tail."""

_MOST_NAMED: Final = 10
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")

LUA_TAILS: Final = (
    f"local BETWEEN_MESSAGES = {len(SEPARATOR)}"
    + """
local function open_tails(queue, may_answer)
  local pending, tails = 'backscroll:' .. queue .. ':pending', 'backscroll:' .. queue .. ':tails'
  local is_kept = type(redis.pcall('HGET', tails, '')) == 'string'
  local function mark(keys, id)
    if not is_kept then return end
    for _, key in ipairs(keys) do redis.pcall('HSET', pending, key, id) end
  end
  local function is_last(key, id)
    local waits = redis.pcall('HMGET', pending, '', key)
    return not waits.err and not waits[1] and waits[2] == id
  end
  local function parts(key)
    local tail = redis.pcall('HGET', tails, key)
    if type(tail) ~= 'string' then return false end
    return string.match(tail, '^(%d+)([^\\n]*)\\n([^\\n]*)\\n(.*)$')
  end
  local function is_fresh(key) return is_kept and may_answer and is_last(key, false) end
  local function answer(key, need)
    if not is_fresh(key) then return false end
    local count, _, info, messages = parts(key)
    if not count or tonumber(count) < need then return false end
    return need == 0 and info or messages
  end
  local function newest(key, wanted)
    local count, names, _, messages = parts(key)
    local ids, bytes = {}, -BETWEEN_MESSAGES
    for id, size in string.gmatch(names or '', ' ([^:]+):(%d+)') do
      if #ids == wanted then break end
      table.insert(ids, 1, id)
      bytes = bytes + BETWEEN_MESSAGES + size
    end
    if #ids < wanted then return false end
    return ids, '[' .. string.sub(messages, -1 - bytes)
  end
  return {mark = mark, is_last = is_last, is_fresh = is_fresh, answer = answer, newest = newest}
end
"""
)


class About(NamedTuple):
    """Which sessions an operation changes, or reads if a tail can answer it; "" for any there are.

    `need` is how many of the newest messages a read wants, 0 for the session's info alone; -1 is
    for what no tail can answer. `taken` is how many of them a pop removes, if a tail may say what
    they are.
    """

    need: int
    keys: tuple[str, ...]
    taken: int = 0

    @classmethod
    def of(cls, operation: Operation, ack: Ack = "queued") -> About:
        """What an operation is about that is sent with this `ack`."""
        if isinstance(operation, GetSession):
            return cls(0, (operation.key,))
        if isinstance(operation, Load) and operation.is_plain:
            return cls(operation.limit or ALL_MESSAGES, (operation.key,))
        if isinstance(operation, Pop) and ack != "stored" and not operation.was_spooled:
            return cls(-1, operation.changes, operation.count)
        return cls(-1, operation.changes if isinstance(operation, Write) else ())

    def again(self) -> About:
        """Of what is sent again: a pop may have removed what it removes, and not be in a tail."""
        return self._replace(taken=0)


def kept_answer(operation: Operation, answer: bytes) -> Any:
    """What a worker would answer; of a history, `answer` may have more messages than wanted."""
    value = orjson.loads(answer)
    if isinstance(operation, Pop):
        return {"affected": len(value), "messages": value}
    limit = operation.limit if isinstance(operation, Load) else None
    return value if limit is None else value[-limit:]


def tail_of(info: bytes, messages: bytes, count: int, most: int) -> bytes:
    """A tail with the newest messages of a session of `count`, at most `most`, in JSON."""
    names = "".join(_names(messages)).encode()
    return b"%d%b\n%b\n%b" % (most if count > most else ALL_MESSAGES, names, info, messages)


def _names(messages: bytes) -> Iterator[str]:
    """Id and size of the newest messages, as far as an id can stand in a line of a script's."""
    parts = messages[1:-1].rsplit(SEPARATOR, _MOST_NAMED)[-_MOST_NAMED:]
    for part in reversed(parts if parts != [b""] else []):
        id_ = orjson.loads(part)["message_id"]
        if not _PLAIN_ID.fullmatch(id_):
            return
        yield f" {id_}:{len(part)}"


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
