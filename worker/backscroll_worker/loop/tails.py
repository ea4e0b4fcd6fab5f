"""Keeps tails of the sessions that are read, for `transport.tails`, which says what they are.

A tail is read from the store, and then extended by what appends say that the worker has carried
out, until that was often enough. While maintenance is under way, which may change any session, none
is kept.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import Any, Final

import orjson
import redis

from backscroll.contract.answers import SEPARATOR, EncodedAnswer
from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.operations import Append, Operation, Write
from backscroll.contract.reads import GetSession, Load
from backscroll.contract.results import Outcome
from backscroll.transport.connection import is_refused_for_now
from backscroll.transport.pinned_connection import Command, PinnedConnection, Script
from backscroll.transport.rq_protocol import LUA_KEYS, in_flight_key, own_key, queue_key
from backscroll.transport.tails import (
    LEASE_SECONDS,
    LUA_SEPARATOR,
    SERVER_COMMAND,
    About,
    fields_of,
    head_of,
    is_kept_as_sent,
    names_of,
    new_token,
    server_id,
)
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.contract.pacing import Unfinished
from backscroll_worker.contract.store import Store
from backscroll_worker.loop.wanted_sessions import MOST_BYTES, WantedSessions

log = logging.getLogger("backscroll.worker")

_TOGETHER_BYTES: Final = 512 * 1024
"""Of the tails in one acknowledgement. Every server accepts a megabyte, whatever its limits."""

_UPDATED_AT_ONCE: Final = 50
"""Sessions, by one script: all other clients of the server wait for it."""

_REFRESH_SECONDS: Final = LEASE_SECONDS / 6

# Jobs that wait when tails begin are not marked; the last of them stands for all. If that is queued
# twice, nobody can tell which of the two was done: the mark then stays until nothing waits. Where
# `pending` was of another type, nothing was marked, and updates failed.
_BEGIN: Final = Script("""
local pending, tails, queue, in_flight = unpack(KEYS)
local token, lease = ARGV[1], ARGV[2]
local last = redis.call('LINDEX', queue, -1) or redis.call('LINDEX', in_flight, -1)
local known = redis.call('HGET', tails, '')
if type(redis.pcall('HGET', pending, '')) == 'table' then known = false end
if known ~= token or not last then redis.call('UNLINK', pending) end
if known ~= token then
  local function copies(list) return last and #redis.call('LPOS', list, last, 'COUNT', 2) or 0 end
  if copies(queue) + copies(in_flight) > 1 then last = last .. ' again' end
  redis.call('UNLINK', tails)
  redis.call('HSET', tails, '', token)
  if last then redis.call('HSET', pending, '', last) end
end
redis.call('PEXPIRE', tails, lease)
return {known == token and 1 or 0, last or ''}
""")

# A tail has no head before anything that could fail, and only then is its session not pending.
# What was done has been deleted. If it is queued all the same, somebody has sent it again between
# its deletion and this, behind writes that its mark now stands for, too.
_UPDATE: Final = (
    LUA_KEYS
    + LUA_SEPARATOR
    + """
local pending, tails = unpack(KEYS)
local token, lease, is_any, count = unpack(ARGV, 1, 4)
if redis.call('HGET', tails, '') ~= token then return end
local function settle(key, id)
  local waits = redis.call('HGET', pending, key)
  local is_plain = waits and string.sub(waits, 1, 1) == '+'
  if not waits or (is_plain and id == '') then return true end
  local is_last = waits == id and redis.pcall('HMGET', job_key(id), 'status')[1] ~= 'queued'
  local left = is_last and '' or nil
  if is_plain then
    local ids = string.sub(waits, 2) .. ' '
    local _, done = string.find(' ' .. ids, ' ' .. id .. ' ', 1, true)
    left = done and string.sub(ids, done)
  end
  if left == '' then redis.call('HDEL', pending, key)
  elseif left then redis.call('HSET', pending, key, '+' .. string.sub(left, 1, -2)) end
  return left
end
local function grown(key, names, said)
  local head, more = redis.call('HGET', tails, 'h' .. key), redis.call('HGET', tails, 'x' .. key)
  local count, known = string.match(head or '', '^(%d+ %S+)([^\\n]*)\\n')
  if not count then return nil end
  return count .. names .. known .. '\\n-', more and more .. SEPARATOR .. said or said
end
if is_any == '1' then
  redis.call('UNLINK', tails)
  redis.call('HSET', tails, '', token)
  redis.call('PEXPIRE', tails, lease)
end
for i = 5, 4 + count do settle('', ARGV[i]) end
for i = 5 + count, #ARGV, 5 do
  local key, id, field, head, said = unpack(ARGV, i, i + 4)
  if field == 'x' then head, said = grown(key, head, said) end
  if field == 'x' then redis.call('HDEL', tails, 'h' .. key)
  else redis.call('HDEL', tails, 'h' .. key, 'm' .. key, 'x' .. key) end
  local is_kept = settle(key, id) and field ~= '' and head
  if is_kept then redis.pcall('HSET', tails, field .. key, said, 'h' .. key, head)
  elseif field == 'x' then redis.call('HDEL', tails, 'm' .. key, 'x' .. key) end
end
"""
)


_Update = tuple[str, bytes, bytes]
"""What changes a tail: "m", its head and its messages; or "x", and names and messages of more."""

_NOTHING: Final[_Update] = ("", b"", b"")


class _Change:
    """What changed a session: its writes, with what came of each, and whether that is all."""

    def __init__(self) -> None:
        self.writes: list[tuple[Write, object]] = []
        self.is_known = True

    @property
    def op_id(self) -> str:
        """Of the last write; empty without one."""
        return self.writes[-1][0].op_id if self.writes else ""

    def said(self) -> tuple[bytes, bytes]:
        """Names and JSON of the messages that were added at the end; empty if anything else was
        done, or if not all of them can be named, so that what is behind them could not be, either.
        """
        said = [_said(operation, answer) for operation, answer in self.writes]
        if not (self.is_known and said and all(said)):
            return b"", b""
        messages = [orjson.dumps(message.to_dict()) for each in said for message in each]
        more = SEPARATOR.join(messages)
        names = names_of(b"[%b]" % more)
        return (names, more) if names.count(b" ") == len(messages) else (b"", b"")


class Tails:
    """The tails on the server, at most `most_bytes`; with 0 there are never any.

    `confirm` waits until the server has executed the last acknowledgement: a job that it releases
    must not be taken for one that waits.
    """

    def __init__(
        self,
        connection: redis.Redis,
        queue: str,
        store: Store,
        most_bytes: int,
        confirm: Callable[[], None],
    ) -> None:
        self._channel = PinnedConnection(connection)
        self._keys = [own_key(queue, "pending"), own_key(queue, "tails")]
        self._lists = [queue_key(queue), in_flight_key(queue)]
        self._store = store
        self._confirm = confirm
        self._budget = AnswerBudget(_TOGETHER_BYTES)
        self._wanted = WantedSessions(most_bytes)
        self._token = ""
        self._barrier = b""
        self._is_barrier_released = False
        self._may_be_there = True  # those of a worker before this one
        self._due = 0.0

    def refresh(self) -> None:
        """Begin to keep tails where some are wanted, or go on; call it every few seconds.

        Raises what a server answers that refuses everything. One that refuses only this has no
        tails from then on.
        """
        now = time.monotonic()
        if self._token and now < self._due:
            return
        self._wanted.forget_old(now)
        if not self._wanted:
            self.close()
            return
        if not self._token:
            self._confirm()
        lease = int(1000 * LEASE_SECONDS)
        with self._giving_up():
            self._may_be_there = True
            token = self._token or self._new_token()
            went_on, last = self._channel.run(_BEGIN, 4, *self._keys, *self._lists, token, lease)
            if not went_on:
                self._barrier, self._is_barrier_released = last, False
                self._wanted.lose_tails()
            elif unwanted := self._wanted.take_unwanted():
                fields = [field for key in unwanted for field in fields_of(key)]
                self._channel.call(("HDEL", self._keys[1], *fields))
            self._token, self._due = token, now + _REFRESH_SECONDS

    @property
    def are_kept(self) -> bool:
        """Whether there are some on the server, and so somebody who reads them."""
        return bool(self._token)

    def _new_token(self) -> str:
        try:
            return new_token(server_id(self._channel.call(SERVER_COMMAND)[0]))
        except redis.exceptions.NoPermissionError:
            return new_token("")

    def close(self) -> None:
        """Have none on the server until the next `refresh`; raises as that."""
        self._token = ""
        if self._may_be_there:
            with self._giving_up():
                self._channel.call(("UNLINK", *self._keys))
            self._may_be_there = False

    @contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Keep no tails any more where the server refuses what that takes, and only that."""
        try:
            yield
        except redis.ResponseError as error:
            if is_refused_for_now(error):
                raise
            log.warning(
                "no tails are kept, reads take longer: see deploy/redis/README.md: %s", error
            )
            self._token = ""
            self._wanted.forget_all()

    def renew(self) -> None:
        """Begin anew: the connection was lost, or jobs were put back."""
        self._token, self._may_be_there = "", True
        self._channel.reset()

    def update(
        self,
        done: Sequence[tuple[Operation, object]],
        released: Collection[bytes],
        *,
        is_whole: bool,
    ) -> list[Command]:
        """What puts the tails right after these operations and their answers; to be executed after
        the acknowledgement, which releases jobs.

        `is_whole`: no job that was taken before these is still to be done. One that is dropped is
        released before those that are not.
        """
        self._wanted.note_reads(done, time.monotonic())
        if not self._token:
            return []
        if any(isinstance(answer, Unfinished) for _, answer in done):
            return self._drop()  # its sessions are not complete until it is done, in slices
        changed = _changed(done)
        marks = [operation.op_id.encode() for operation, _ in done if _is_any(operation)]
        self._is_barrier_released |= bool(self._barrier) and self._barrier in released
        if self._is_barrier_released and is_whole:
            marks.append(self._barrier)
            self._barrier, self._is_barrier_released = b"", False
        if is_any := changed.pop("", None) is not None:
            self._wanted.lose_tails()
        if not (changed or marks):
            return []
        changed = {key: _Change() for key in self._wanted.take_unwanted()} | changed
        names_bytes = sum(len(key.encode()) + len(each.op_id) for key, each in changed.items())
        left = _TOGETHER_BYTES - names_bytes - sum(map(len, marks))
        if left < 0:  # begin anew: no acknowledgement may be too large for the server
            return self._drop()
        updates = self._updates({k: each for k, each in changed.items() if k in self._wanted}, left)
        rows = [(key, each.op_id, *updates.get(key, _NOTHING)) for key, each in changed.items()]
        return list(self._pieces(rows, marks, is_any))

    def _pieces(
        self, rows: Sequence[tuple[Any, ...]], marks: Sequence[bytes], is_any: bool
    ) -> Iterator[Command]:
        """The update, of a few sessions at a time. All tails are dropped with the first of them,
        and what stands for any session is settled when all sessions are.
        """
        lease = int(1000 * LEASE_SECONDS)
        for start in range(0, max(1, len(rows)), _UPDATED_AT_ONCE):
            some = rows[start : start + _UPDATED_AT_ONCE]
            settled = marks if start + _UPDATED_AT_ONCE >= len(rows) else ()
            fields = [field for row in some for field in row]
            drops = int(is_any and start == 0)
            head = (self._token, lease, drops, len(settled), *settled)
            yield "EVAL", _UPDATE, 2, *self._keys, *head, *fields

    def _drop(self) -> list[Command]:
        """What leaves none until the next `refresh`."""
        self._token = ""
        return [("UNLINK", *self._keys)]

    def _updates(self, changed: dict[str, _Change], left: int) -> dict[str, _Update]:
        """For each session that is to have a tail what changes it, `left` bytes in all."""
        now = time.monotonic()
        updates: dict[str, _Update] = {}
        to_read = list[str]()
        for key, change in changed.items():
            wanted = self._wanted[key]
            names, more = change.said() if wanted.may_grow else (b"", b"")
            if more and wanted.tail_bytes + len(more) <= MOST_BYTES and len(more) <= left:
                updates[key] = "x", names, more
                left -= len(more)
                self._wanted.resize(key, wanted.tail_bytes + len(more))
                wanted.grown += 1
                continue
            wanted.has_tail = False
            self._wanted.resize(key, 0)
            if wanted.may_have_tail(now):
                to_read.append(key)
        updates |= self._read(to_read, left)
        self._wanted.make_room()
        return {key: update for key, update in updates.items() if key in self._wanted}

    def _read(self, keys: Sequence[str], left: int) -> dict[str, _Update]:
        """The tails of the sessions, as far as they are small enough; read from the store."""
        reads: list[Operation] = []
        for key in keys:
            reads.append(GetSession("tail", 0, key))
            reads.append(Load("tail", 0, key, max(1, self._wanted[key].messages)))
        try:
            answers = self._store.apply(reads, budget=self._budget) if reads else []
            since = self._store.late_until()
        except (StoreUnavailableError, StoreUnusableError):
            return {}
        tails: dict[str, _Update] = {}
        for key, info, messages in zip(keys, answers[::2], answers[1::2], strict=False):
            wanted, head, said = self._wanted[key], b"", b""
            if isinstance(info, EncodedAnswer) and isinstance(messages, EncodedAnswer):
                said = messages.json if wanted.messages else b"[]"
                head = _head(wanted.messages, info.json, said, since)
            size_bytes = len(head) + len(said)
            wanted.note_tail(size_bytes)
            wanted.has_tail = 0 < size_bytes <= min(left, MOST_BYTES)
            if wanted.has_tail:
                left -= size_bytes
                tails[key] = "m", head, said
            self._wanted.resize(key, size_bytes if wanted.has_tail else 0)
        return tails


def _changed(done: Iterable[tuple[Operation, object]]) -> dict[str, _Change]:
    """The keys whose tails are to be written or dropped, each with what was done."""
    changed: dict[str, _Change] = {}
    for operation, answer in done:
        if isinstance(operation, Write):
            for key in operation.changes:
                changed.setdefault(key, _Change()).writes.append((operation, answer))
            if isinstance(answer, Outcome | EncodedAnswer) and answer.key is not None:
                changed.setdefault(answer.key, _Change()).is_known = False
        elif (about := About.of(operation)).kind == "read":
            (key,) = about.keys
            changed.setdefault(key, _Change()).is_known = False
    return changed


def _head(most: int, info: bytes, messages: bytes, since: float) -> bytes:
    known = orjson.loads(info) or {"message_count": 0, "closed": False}
    since = inf if known["closed"] else since
    return head_of(info, messages, known["message_count"], most, since)


def _said(operation: Write, answer: object) -> tuple[ChatMessage, ...]:
    """The messages that it added at the end of its session, if that is all and as they are.

    One with a platform id may have been edited at once, by what has waited for it.
    """
    if type(operation) is not Append or not isinstance(answer, Outcome) or answer.key is not None:
        return ()
    if answer != Outcome(len(operation.messages)):
        return ()
    return operation.stamped() if all(map(is_kept_as_sent, operation.messages)) else ()


def _is_any(operation: Operation) -> bool:
    """Whether it may be marked as about any session, as all out of a spool are."""
    return isinstance(operation, Write) and (operation.was_spooled or "" in operation.changes)
