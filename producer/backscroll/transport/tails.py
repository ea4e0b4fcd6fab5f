"""Tails: the newest messages of sessions that are read, which a worker keeps on the server.

A read of the newest messages or of a session's info that a tail answers takes one round trip, and
no worker. It has every write that was enqueued before it, as an answer of a worker has. A pop takes
one round trip, too, where a tail says what it removes: the job then names these messages, and they
are what the worker removes, whatever comes between.

- `pending` is a hash: for each session with writes that wait, the op id of the last one. Under ""
  is that of the last operation that may change any session; while there is one, no tail is served.
- `tails` is a hash, too: a tail for a session, and under "" the token of the worker that keeps
  them, with the id of the server for which it does: what a restart or a replica brings back of
  earlier tails is nobody's. After the acknowledgement of what changed a session the worker changes
  its tail, or drops it, and only then removes the op id from `pending`. Tails expire soon after the
  worker's death.

Only while there are tails are writes marked as pending. What a worker finds waiting when it begins
to keep some is marked by the last job of the queue, under "".

A tail has three fields of the hash, each named by a letter and the session's key, so that nothing
large is copied to change it. "h": for how many messages it can answer, since when appends are
certain, and id and size of the newest few, the newest first; and, in a second line, the session's
info, or "-". "m": the messages. "x": those that came since, without brackets.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Sequence
from math import inf
from typing import Any, Final, Literal, NamedTuple

import orjson

from backscroll.contract.answers import SEPARATOR
from backscroll.contract.codec import decode
from backscroll.contract.errors import MalformedJobError
from backscroll.contract.ids import made_at
from backscroll.contract.messages import ChatMessage, from_micros
from backscroll.contract.operations import Append, Operation, Write
from backscroll.contract.reads import GetSession, Load
from backscroll.contract.splicing import Pop
from backscroll.transport.acks import Ack

LEASE_SECONDS: Final = 12.0
"""How long tails outlive the last sign of life of the worker that keeps them."""

ALL_MESSAGES: Final = 10**9
"""The need of a read for the whole session; a tail that has it all can answer for so many."""

ANSWERED: Final = -3
"""In the place of the queue's depth: the other half of the reply is the answer, out of a tail."""

_MOST_WAITING_BYTES: Final = 512
"""Of the ids of appends that a read may show: about 16 of ours."""
_LOOKED_AMONG: Final = 10_000
"""Of the queue's newest jobs the oldest one that a read shows must be one: that takes 0.1 ms."""

_NEW_MICROS: Final = 1_000_000
_NEVER: Final = "~"  # sorts behind all times

_MOST_NAMED: Final = 10
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")

LUA_SEPARATOR: Final = f"local SEPARATOR = {SEPARATOR.decode()!r}\n"

LUA_TAILS: Final = (
    LUA_SEPARATOR
    + f"local MOST_WAITING_BYTES, LOOKED_AMONG = {_MOST_WAITING_BYTES}, {_LOOKED_AMONG}"
    + """
local function open_tails(queue, may_answer, server, is_in_queue)
  local pending, tails = 'backscroll:' .. queue .. ':pending', 'backscroll:' .. queue .. ':tails'
  local keeper = redis.pcall('HGET', tails, '')
  local is_kept = type(keeper) == 'string'
  local kept_on = is_kept and string.match(keeper, ' (%w+)$')
  if kept_on and server ~= '' then may_answer = kept_on == server end

  local function waiting(key)
    local found = redis.pcall('HMGET', pending, '', key)
    if found.err or found[1] then return false end
    local ids = {}
    if found[2] then
      if string.sub(found[2], 1, 1) ~= '+' then return false end
      for id in string.gmatch(found[2], '[^+ ]+') do ids[#ids + 1] = id end
    end
    return ids
  end

  local function mark(keys, id, is_plain)
    if not is_kept then return end
    for _, key in ipairs(keys) do
      local value, waits = id, is_plain and redis.pcall('HMGET', pending, key)[1]
      local is_list = type(waits) == 'string' and string.sub(waits, 1, 1) == '+'
      if is_plain and waits == false then value = '+' .. id
      elseif is_list and #waits < MOST_WAITING_BYTES then value = waits .. ' ' .. id end
      redis.pcall('HSET', pending, key, value)
    end
  end

  local function is_marked(key, id)
    local found = redis.pcall('HMGET', pending, '', key)
    return not found.err and not found[1] and found[2] == id
  end

  local function is_settled(key) return is_kept and may_answer and is_marked(key, false) end

  local function read(name, key)
    local value = redis.pcall('HGET', tails, name .. key)
    return type(value) == 'string' and value or ''
  end

  -- What was requeued has another place than it had, and after a queue was emptied by hand none.
  local function answer(key, wanted)
    local ids = is_kept and may_answer and waiting(key)
    if not ids then return false end
    local count, since, info = string.match(read('h', key), '^(%d+) (%S+)[^\\n]*\\n(.*)$')
    if not count or tonumber(count) < wanted then return false end
    if wanted == 0 then return #ids == 0 and info ~= '-' and {info} end
    if ids[1] and not is_in_queue(ids[1], LOOKED_AMONG) then return false end
    local answer = {read('m', key), read('x', key)}
    if answer[1] == '' then return false end
    for _, id in ipairs(ids) do
      local function field(name) return redis.pcall('HGET', job_key(id), name) end
      local status, at, data = field('status'), field('created_at'), field('data')
      if status ~= 'queued' or type(at) ~= 'string' or type(data) ~= 'string' then return false end
      if at <= since or field('enqueued_at') ~= at then return false end
      answer[#answer + 1] = id
      answer[#answer + 1] = data
    end
    return answer
  end

  local function newest(key, wanted)
    local names = string.match(read('h', key), '^%d+ %S+([^\\n]*)\\n')
    local ids, bytes = {}, -#SEPARATOR
    for id, size in string.gmatch(names or '', ' ([^:]+):(%d+)') do
      if #ids == wanted then break end
      table.insert(ids, 1, id)
      bytes = bytes + #SEPARATOR + size
    end
    if #ids < wanted then return false end
    local said, more = string.sub(read('m', key), 2, -2), read('x', key)
    if said ~= '' and more ~= '' then said = said .. SEPARATOR end
    return ids, {'[' .. string.sub(said .. more, -bytes) .. ']'}
  end

  return {mark = mark, is_marked = is_marked, is_settled = is_settled, answer = answer,
    newest = newest}
end
"""
)


class About(NamedTuple):
    """What the script has to know of an operation: `keys` are of the sessions that it changes, or
    reads; "" is for any there are.

    `kind` is "read" for one of the `wanted` newest messages, or of the session's info if that is 0;
    "pop" for one that removes so many, and may say at once which they are; "append" for one that
    reads may see while it waits, as the worker will carry it out as it is; "" for all others.
    """

    kind: Literal["read", "pop", "append", ""]
    wanted: int
    keys: tuple[str, ...]

    @classmethod
    def of(cls, operation: Operation, ack: Ack = "queued") -> About:
        """What there is to know of an operation that is sent with this `ack`."""
        if isinstance(operation, GetSession):
            return cls("read", 0, (operation.key,))
        if isinstance(operation, Load) and operation.is_plain:
            return cls("read", operation.limit or ALL_MESSAGES, (operation.key,))
        if not isinstance(operation, Write):
            return cls("", 0, ())
        if isinstance(operation, Pop) and ack != "stored" and not operation.was_spooled:
            return cls("pop", operation.count, operation.changes)
        if type(operation) is Append and _is_plain(operation):
            return cls("append", 0, operation.changes)
        return cls("", 0, operation.changes)

    def again(self) -> About:
        """Of what is sent again: it may have been carried out before, and no tail answers it."""
        return About("", 0, () if self.kind == "read" else self.keys)


ANY_SESSION: Final = About("", 0, ("",))
"""Of what nobody knows which sessions it changes."""


def _is_plain(append: Append) -> bool:
    """Whether it depends on nothing but the session's key and the time: no condition, no message
    that the session may have already, and an op id that is new.
    """
    if append.expect_tail is not None or append.turn_id is not None or append.was_spooled:
        return False
    if not all(map(is_kept_as_sent, append.messages)):
        return False
    made = made_at(append.op_id)
    return made is not None and abs(made - append.at) < _NEW_MICROS


def is_kept_as_sent(message: ChatMessage) -> bool:
    """Whether nothing that the session has, or that waits for the message, makes it another."""
    return message.platform_id is None and message.upto is None and not message.attachments


def kept_answer(operation: Operation, parts: Sequence[bytes]) -> Any:
    """What a worker would answer: `parts` are what a tail has, and of a history what came since,
    and id and payload of each append that waits. These may be more messages than wanted.

    Raises `MalformedJobError` for an append of a newer producer, which only a worker may know.
    """
    value = orjson.loads(parts[0])
    if isinstance(operation, Pop):
        return {"affected": len(value), "messages": value}
    if not isinstance(operation, Load):
        return value
    value += orjson.loads(b"[%b]" % parts[1])
    for id_, payload in zip(parts[2::2], parts[3::2], strict=True):
        append = decode(id_.decode(), payload)
        if not isinstance(append, Append):
            raise MalformedJobError(f"{append.kind} waits as an append")
        value += [message.to_dict() for message in append.stamped()]
    return value if operation.limit is None else value[-operation.limit :]


def time_text(micros: int) -> str:
    """A time as jobs have it: texts of two sort as these do."""
    return from_micros(micros).isoformat(timespec="microseconds")[:-6] + "Z"


def head_of(info: bytes, messages: bytes, count: int, most: int, since: float) -> bytes:
    """The head of a tail with the newest messages of a session of `count`, at most `most`, in JSON.

    Appends that are requested after `since`, in microseconds, will be carried out as they are.
    """
    most = most if count > most else ALL_MESSAGES
    text = _NEVER if since == inf else time_text(int(since))
    return b"%d %b%b\n%b" % (most, text.encode(), names_of(messages), info)


def fields_of(key: str) -> tuple[str, ...]:
    """The fields of a session's tail."""
    return "h" + key, "m" + key, "x" + key


def names_of(messages: bytes) -> bytes:
    """Id and size of the newest messages, as far as an id can stand in a line of a script's."""
    parts = messages[1:-1].rsplit(SEPARATOR, _MOST_NAMED)[-_MOST_NAMED:]
    names = list[str]()
    for part in reversed(parts if parts != [b""] else []):
        id_ = orjson.loads(part)["message_id"]
        if not _PLAIN_ID.fullmatch(id_):
            break
        names.append(f" {id_}:{len(part)}")
    return "".join(names).encode()


SERVER_COMMAND: Final = ("INFO", "server")
"""What says which server it is; its reply is for `server_id`."""


def server_id(info: Any) -> str:
    """The id that a server's process has until it ends; "" if it is not said."""
    found = re.search(rb"^run_id:(\w+)", info, re.MULTILINE) if isinstance(info, bytes) else None
    return found[1].decode() if found else ""


def new_token(server: str) -> str:
    """The token of a worker that begins to keep tails on the server with this id."""
    return f"{uuid.uuid4().hex} {server}".rstrip()


class Trust:
    """Whether a producer may believe in tails where it does not know the server's id.

    The server may be another one than that of the worker, or have lost what it acknowledged last;
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
