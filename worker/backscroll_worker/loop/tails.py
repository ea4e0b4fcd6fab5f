"""Keeps tails of the sessions that are read, for `transport.tails`, which says what they are.

A session is kept from a read that came to the worker until some minutes later, when the next read
comes to the worker again. It is left out for a while where reads come to the worker although there
was a tail: they follow a write that is still pending, and a tail costs the time of a read. While
maintenance is under way, which may change any session, none is kept.
"""

from __future__ import annotations

import logging
import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson
import redis

from backscroll.contract.answers import EncodedAnswer
from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.operations import Operation, Write
from backscroll.contract.reads import GetSession, Load
from backscroll.contract.results import Outcome
from backscroll.transport.connection import is_refused_for_now
from backscroll.transport.pinned_connection import Command, PinnedConnection, Script
from backscroll.transport.rq_protocol import in_flight_key, own_key, queue_key
from backscroll.transport.tails import LEASE_SECONDS, About, tail_of
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.contract.pacing import Unfinished
from backscroll_worker.contract.store import Store

log = logging.getLogger("backscroll.worker")

_MOST_MESSAGES: Final = 100
_MOST_BYTES: Final = 64 * 1024
_TOGETHER_BYTES: Final = 512 * 1024
"""Of the tails in one acknowledgement. Every server accepts a megabyte, whatever its limits."""

_SESSION_BYTES: Final = 512
"""Of a session that is kept, besides its tail; also in this process."""

_WANTED_SECONDS: Final = 300.0
_MOST_MISSES: Final = 2
_LEFT_OUT_SECONDS: Final = 5.0
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

# A tail is dropped before anything that could fail, and only then is its session not pending.
_UPDATE: Final = """
local pending, tails = unpack(KEYS)
local token, lease, is_any, count = unpack(ARGV, 1, 4)
if redis.call('HGET', tails, '') ~= token then return end
local function settle(key, id)
  local last = redis.call('HGET', pending, key)
  if last and last == id then
    redis.call('HDEL', pending, key)
    last = false
  end
  return not last
end
if is_any == '1' then
  redis.call('UNLINK', tails)
  redis.call('HSET', tails, '', token)
  redis.call('PEXPIRE', tails, lease)
end
for i = 5, 4 + count do settle('', ARGV[i]) end
for i = 5 + count, #ARGV, 3 do
  local key, id, tail = unpack(ARGV, i, i + 2)
  redis.call('HDEL', tails, key)
  if settle(key, id) and tail ~= '' then redis.pcall('HSET', tails, key, tail) end
end
"""


@dataclass(slots=True)
class _Wanted:
    """A session that is read: for how many messages, until when, and how much it takes.

    `most` is for how many messages its tail would not be too large, as far as that is known. It is
    left out for good if it cannot be read, or is too large without any message. `has_tail` says
    that there was a tail since the last read that came to the worker, `misses` how often one came
    although there was.
    """

    messages: int = 0
    most: int = _MOST_MESSAGES
    until: float = 0.0
    size_bytes: int = 0
    has_tail: bool = False
    misses: int = 0
    left_out_until: float = 0.0

    def may_have_tail(self, now: float) -> bool:
        return now >= self.left_out_until

    def note_read(self, messages: int, now: float) -> None:
        """A read for so many messages came to the worker."""
        if self.has_tail and messages <= self.messages:
            self.misses += 1
        self.has_tail = False
        if self.misses >= _MOST_MISSES:
            self.left_out_until = now + _LEFT_OUT_SECONDS
            self.misses -= 1
        self.messages = max(self.messages, min(messages, self.most))
        self.until = now + _WANTED_SECONDS

    def note_tail(self, size_bytes: int) -> None:
        """So large is its tail; if it is too large, the next one has half as many messages."""
        is_too_large = size_bytes > _MOST_BYTES
        if not size_bytes or (is_too_large and not self.messages):
            self.left_out_until = math.inf
        if is_too_large:
            self.most = self.messages = self.messages // 2


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
        self._most_bytes = most_bytes
        self._confirm = confirm
        self._budget = AnswerBudget(_TOGETHER_BYTES)
        self._wanted: OrderedDict[str, _Wanted] = OrderedDict()
        self._unwanted: list[str] = []
        self._bytes = 0
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
        self._forget_old(now)
        if not self._wanted:
            self.close()
            return
        if not self._token:
            self._confirm()
        token = self._token or uuid.uuid4().hex
        lease = int(1000 * LEASE_SECONDS)
        with self._giving_up():
            self._may_be_there = True
            went_on, last = self._channel.run(_BEGIN, 4, *self._keys, *self._lists, token, lease)
            if not went_on:
                self._barrier, self._is_barrier_released = last, False
            elif self._unwanted:
                self._channel.call(("HDEL", self._keys[1], *self._unwanted))
            self._unwanted.clear()
            self._token, self._due = token, now + _REFRESH_SECONDS

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
            self._token, self._most_bytes = "", 0
            self._make_room()

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
        """What puts the tails right after these operations and their answers, for the same
        transaction as the acknowledgement, which releases jobs.

        `is_whole`: no job that was taken before these is still to be done. One that is dropped is
        released before those that are not.
        """
        changed = self._changed(done)
        self._make_room()
        if not self._token:
            return []
        marks = [each[0].op_id.encode() for each in done if _is_any(*each)]
        self._is_barrier_released |= bool(self._barrier) and self._barrier in released
        if self._is_barrier_released and is_whole:
            marks.append(self._barrier)
            self._barrier, self._is_barrier_released = b"", False
        is_any = changed.pop("", None) is not None
        if not (changed or marks):
            return []
        changed = dict.fromkeys(self._unwanted, "") | changed
        self._unwanted.clear()
        names_bytes = sum(len(key.encode()) + len(op_id) for key, op_id in changed.items())
        left = _TOGETHER_BYTES - names_bytes - sum(map(len, marks))
        if left < 0:  # begin anew: no acknowledgement may be too large for the server
            self._token = ""
            return [("UNLINK", *self._keys)]
        tails = self._tails_of([key for key in changed if key in self._wanted], left)
        lease = int(1000 * LEASE_SECONDS)
        arguments: list[Any] = [self._token, lease, int(is_any), len(marks), *marks]
        for key, op_id in changed.items():
            arguments += key, op_id, tails.get(key, b"")
        return [("EVAL", _UPDATE, 2, *self._keys, *arguments)]

    def _changed(self, done: Sequence[tuple[Operation, object]]) -> dict[str, str]:
        """The keys whose tails are to be written or dropped, each with the last write's op id."""
        changed: dict[str, str] = {}
        for operation, answer in done:
            if isinstance(answer, Unfinished):
                continue  # its sessions are pending until it is done, in slices
            if isinstance(operation, Write):
                for key in operation.changes:
                    changed[key] = operation.op_id
                if isinstance(answer, Outcome | EncodedAnswer) and answer.key is not None:
                    changed.setdefault(answer.key, "")
            elif self._most_bytes:
                about = About.of(operation)
                for key in about.keys:
                    self._want(key, about.need)
                    changed.setdefault(key, "")
        return changed

    def _want(self, key: str, need: int) -> None:
        if key not in self._wanted:
            self._wanted[key] = _Wanted()
            self._resize(key, 0)
        self._wanted[key].note_read(need, time.monotonic())
        self._wanted.move_to_end(key)

    def _tails_of(self, keys: Sequence[str], left: int) -> dict[str, bytes]:
        """The tails of the sessions, as far as they are small enough; read from the store.

        `left` is how many bytes all of them may have.
        """
        now = time.monotonic()
        keys = [key for key in keys if self._wanted[key].may_have_tail(now)]
        reads: list[Operation] = []
        for key in keys:
            reads.append(GetSession("tail", 0, key))
            reads.append(Load("tail", 0, key, max(1, self._wanted[key].messages)))
        try:
            answers = self._store.apply(reads, budget=self._budget) if reads else []
        except (StoreUnavailableError, StoreUnusableError):
            return {}
        tails: dict[str, bytes] = {}
        for key, info, messages in zip(keys, answers[::2], answers[1::2], strict=False):
            wanted, tail = self._wanted[key], b""
            if isinstance(info, EncodedAnswer) and isinstance(messages, EncodedAnswer):
                tail = _tail(wanted.messages, info.json, messages.json)
            wanted.note_tail(len(tail))
            wanted.has_tail = 0 < len(tail) <= min(left, _MOST_BYTES)
            if wanted.has_tail:
                left -= len(tail)
                tails[key] = tail
            self._resize(key, len(tail) if wanted.has_tail else 0)
        self._make_room()
        return {key: tail for key, tail in tails.items() if key in self._wanted}

    def _resize(self, key: str, tail_bytes: int) -> None:
        wanted = self._wanted[key]
        before, wanted.size_bytes = wanted.size_bytes, tail_bytes + _size_bytes(key)
        self._bytes += wanted.size_bytes - before

    def _make_room(self) -> None:
        """Want no longer what was asked for longest ago, where all together have too much."""
        while self._bytes > self._most_bytes:
            self._forget_oldest()

    def _forget_old(self, now: float) -> None:
        while self._wanted and next(iter(self._wanted.values())).until < now:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        key, wanted = self._wanted.popitem(last=False)
        self._bytes -= wanted.size_bytes
        if self._token:
            self._unwanted.append(key)


def _tail(most: int, info: bytes, messages: bytes) -> bytes:
    known = orjson.loads(info)
    return tail_of(info, messages if most else b"[]", known["message_count"] if known else 0, most)


def _size_bytes(key: str) -> int:
    """What a session that is kept takes, without its tail."""
    return _SESSION_BYTES + len(key.encode())


def _is_any(operation: Operation, answer: object) -> bool:
    """Whether it is done, and may be marked as about any session, as all out of a spool are."""
    if isinstance(answer, Unfinished) or not isinstance(operation, Write):
        return False
    return operation.was_spooled or "" in operation.changes
