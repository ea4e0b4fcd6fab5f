"""Keeps tails of the sessions that are read, for `transport.tails`, which says what they are.

A session is kept from a read that came to the worker until some minutes later, when the next read
comes to the worker again. It is left out for a while where reads come to the worker although there
was a tail: they follow a write that is still pending, and a tail costs the time of a read. While
maintenance is under way, which may change any session, none is kept.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import redis

from backscroll.contract.answers import EncodedAnswer
from backscroll.contract.errors import StoreUnavailableError, StoreUnusableError
from backscroll.contract.operations import Operation, Write
from backscroll.contract.reads import GetSession, Load
from backscroll.contract.results import Outcome
from backscroll.transport.connection import is_forbidden
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

# Jobs that wait when tails begin are not marked; the last of them stands for all.
_BEGIN: Final = Script("""
local pending, tails, queue, in_flight = unpack(KEYS)
local mark, lease = ARGV[1], ARGV[2]
local last = redis.call('LINDEX', queue, -1) or redis.call('LINDEX', in_flight, -1)
local known = redis.call('HGET', tails, '')
if known ~= mark or not last then redis.call('UNLINK', pending) end
if known ~= mark then
  redis.call('UNLINK', tails)
  redis.call('HSET', tails, '', mark)
  if last then redis.call('HSET', pending, '', last) end
end
redis.call('PEXPIRE', tails, lease)
return {known == mark and 1 or 0, last or ''}
""")

# A tail is dropped before anything that could fail, and only then is its session not pending.
_UPDATE: Final = """
local pending, tails = unpack(KEYS)
local mark, lease, barrier, any = unpack(ARGV, 1, 4)
if redis.call('HGET', tails, '') ~= mark then return end
local function is_quiet(key, id)
  local last = redis.call('HGET', pending, key)
  if last and last == id then
    redis.call('HDEL', pending, key)
    last = false
  end
  return not last
end
if any ~= '' then
  redis.call('UNLINK', tails)
  redis.call('HSET', tails, '', mark)
  redis.call('PEXPIRE', tails, lease)
end
is_quiet('', barrier)
is_quiet('', any)
for i = 5, #ARGV, 3 do
  local key, id, tail = unpack(ARGV, i, i + 2)
  redis.call('HDEL', tails, key)
  if is_quiet(key, id) and tail ~= '' then redis.pcall('HSET', tails, key, tail) end
end
"""


@dataclass(slots=True)
class _Wanted:
    """A session that is read: for how many messages, until when, and how much it takes.

    `has_tail` says that there was a tail since the last read that came to the worker, `misses` how
    often one came although there was.
    """

    messages: int = 0
    until: float = 0.0
    size_bytes: int = 0
    is_too_large: bool = False
    has_tail: bool = False
    misses: int = 0
    left_out_until: float = 0.0

    def may_have_tail(self, now: float) -> bool:
        return not self.is_too_large and now >= self.left_out_until

    def note_read(self, messages: int, now: float) -> None:
        """A read for so many messages came to the worker."""
        if self.has_tail and messages <= self.messages:
            self.misses += 1
        self.has_tail = False
        if self.misses >= _MOST_MISSES:
            self.left_out_until = now + _LEFT_OUT_SECONDS
            self.misses -= 1
        self.messages = max(self.messages, messages)
        self.until = now + _WANTED_SECONDS


class Tails:
    """The tails on the server, at most `most_bytes`; with 0 there are never any."""

    def __init__(self, connection: redis.Redis, queue: str, store: Store, most_bytes: int) -> None:
        self._channel = PinnedConnection(connection)
        self._keys = [own_key(queue, "pending"), own_key(queue, "tails")]
        self._lists = [queue_key(queue), in_flight_key(queue)]
        self._store = store
        self._most_bytes = most_bytes
        self._budget = AnswerBudget(_TOGETHER_BYTES)
        self._wanted: OrderedDict[str, _Wanted] = OrderedDict()
        self._unwanted: list[str] = []
        self._bytes = 0
        self._mark = ""
        self._barrier = b""
        self._due = 0.0

    def refresh(self) -> None:
        """Begin to keep tails where some are wanted, or go on; call it every few seconds.

        Raises the server's errors. A server that forbids it has no tails.
        """
        now = time.monotonic()
        if self._mark and now < self._due:
            return
        self._forget_old(now)
        self._make_room()
        if not self._wanted:
            self.close()
            return
        mark = self._mark or uuid.uuid4().hex
        lease = int(1000 * LEASE_SECONDS)
        try:
            went_on, last = self._channel.run(_BEGIN, 4, *self._keys, *self._lists, mark, lease)
        except redis.ResponseError as error:
            if not is_forbidden(error):
                raise
            log.info("no tails are kept, reads take longer: see deploy/redis/README.md: %s", error)
            self._most_bytes = 0
            self._wanted.clear()
            return
        if not went_on:
            self._barrier = last
        if self._unwanted:
            self._channel.call(("HDEL", self._keys[1], *self._unwanted))
            self._unwanted.clear()
        self._mark, self._due = mark, now + _REFRESH_SECONDS

    def close(self) -> None:
        """Have none on the server until the next `refresh`. Raises the server's errors."""
        if self._mark:
            self._mark = ""
            self._channel.call(("UNLINK", self._keys[1]))

    def renew(self) -> None:
        """Begin anew: the connection was lost, or jobs were put back."""
        self._mark = ""
        self._channel.reset()

    def update(
        self,
        done: Sequence[tuple[Operation, object]],
        released: Collection[bytes],
    ) -> list[Command]:
        """What puts the tails right after these operations and their answers, for the same
        transaction as the acknowledgement, which releases jobs.
        """
        changed = self._changed(done)
        if not self._mark:
            return []
        barrier = self._barrier if self._barrier in released else b""
        any_session = changed.pop("", "")
        if not (changed or barrier or any_session):
            return []
        tails = self._tails_of([key for key in changed if key in self._wanted])
        changed = dict.fromkeys(self._unwanted, "") | changed
        self._unwanted.clear()
        arguments: list[Any] = [self._mark, int(1000 * LEASE_SECONDS), barrier, any_session]
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
                need, keys = About.of(operation)
                for key in keys:
                    self._want(key, need)
                    changed.setdefault(key, "")
        return changed

    def _want(self, key: str, need: int) -> None:
        if key not in self._wanted:
            self._wanted[key] = _Wanted()
            self._resize(self._wanted[key], 0)
        self._wanted[key].note_read(min(need, _MOST_MESSAGES), time.monotonic())
        self._wanted.move_to_end(key)

    def _tails_of(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The tails of the sessions, as far as they are small enough; read from the store."""
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
        left = _TOGETHER_BYTES
        for key, info, messages in zip(keys, answers[::2], answers[1::2], strict=False):
            if not (isinstance(info, EncodedAnswer) and isinstance(messages, EncodedAnswer)):
                continue
            tail = self._tail(self._wanted[key], info.json, messages.json)
            if tail and (left := left - len(tail)) >= 0:
                tails[key] = tail
        self._make_room()
        return {key: tail for key, tail in tails.items() if key in self._wanted}

    def _tail(self, wanted: _Wanted, info: bytes, messages: bytes) -> bytes:
        """The tail of these answers; b"" if it is too large."""
        known = orjson.loads(info)
        count = known["message_count"] if known else 0
        tail = tail_of(info, messages if wanted.messages else b"[]", count, wanted.messages)
        wanted.is_too_large = len(tail) > _MOST_BYTES
        wanted.has_tail = not wanted.is_too_large
        if wanted.is_too_large:
            tail = b""
        self._resize(wanted, len(tail))
        return tail

    def _resize(self, wanted: _Wanted, tail_bytes: int) -> None:
        self._bytes += tail_bytes + _SESSION_BYTES - wanted.size_bytes
        wanted.size_bytes = tail_bytes + _SESSION_BYTES

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
        self._unwanted.append(key)
