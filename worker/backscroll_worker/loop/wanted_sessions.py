"""Which sessions are to have a tail, and how much all of them take.

A session is wanted from a read that came to the worker until some minutes later, when the next read
comes to the worker again. It is left out for a while where reads come to the worker although there
was a tail: they follow a write that is still pending, and a tail costs the time of a read.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from backscroll.contract.operations import Operation, Read
from backscroll.transport.tails import About

MOST_BYTES: Final = 64 * 1024
"""Of one tail."""

_MOST_MESSAGES: Final = 100
_MOST_GROWN: Final = 16
_SESSION_BYTES: Final = 512
"""Of a session that is wanted, besides its tail; also in this process."""

_WANTED_SECONDS: Final = 300.0
_MISSED_SECONDS: Final = 1.0
_LEFT_OUT_SECONDS: Final = 5.0


@dataclass(slots=True)
class Wanted:
    """A session that is read: for how many messages, until when, and how large its tail is.

    `most` is for how many messages its tail would not be too large, as far as that is known. It is
    left out for good if it cannot be read, or is too large without any message. `has_tail` says
    that there was a tail since the last read that came to the worker, `missed_at` when one came
    although there was. `grown` is how often messages were put behind the tail, which has no info
    then.
    """

    messages: int = 0
    most: int = _MOST_MESSAGES
    until: float = 0.0
    tail_bytes: int = 0
    has_tail: bool = False
    grown: int = 0
    wants_info: bool = False
    missed_at: float = -math.inf
    left_out_until: float = 0.0

    def may_have_tail(self, now: float) -> bool:
        """Whether it is not left out."""
        return now >= self.left_out_until

    def note_read(self, messages: int, now: float) -> None:
        """A read for so many messages came to the worker."""
        if self.has_tail and messages <= self.messages:
            if now - self.missed_at < _MISSED_SECONDS:
                self.left_out_until = now + _LEFT_OUT_SECONDS
            self.missed_at = now
        self.has_tail = False
        self.messages = max(self.messages, min(messages, self.most))
        self.wants_info |= messages == 0
        self.until = now + _WANTED_SECONDS

    @property
    def may_grow(self) -> bool:
        """Whether messages may be put behind its tail, instead of reading all anew."""
        return (
            self.has_tail and self.messages > 0 and self.grown < _MOST_GROWN and not self.wants_info
        )

    def note_tail(self, size_bytes: int) -> None:
        """So large is its new tail; if it is too large, the next has half as many messages."""
        self.grown = 0
        is_too_large = size_bytes > MOST_BYTES
        if not size_bytes or (is_too_large and not self.messages):
            self.left_out_until = math.inf
        if is_too_large:
            self.most = self.messages = self.messages // 2


class WantedSessions:
    """The sessions that are wanted; all together with their tails have at most `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._sessions: OrderedDict[str, Wanted] = OrderedDict()
        self._unwanted: list[str] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sessions)

    def __contains__(self, key: object) -> bool:
        return key in self._sessions

    def __getitem__(self, key: str) -> Wanted:
        return self._sessions[key]

    def note_reads(self, done: Iterable[tuple[Operation, object]], now: float) -> None:
        """Note which of these operations, each with its answer, are reads that a tail is for."""
        for operation, _ in done:
            if isinstance(operation, Read) and (about := About.of(operation)).kind == "read":
                (key,) = about.keys
                self._want(key, about.wanted, now)
        self.make_room()

    def _want(self, key: str, messages: int, now: float) -> None:
        """A read for so many messages of a session came to the worker; 0 is for its info."""
        if not self._most_bytes:
            return
        if key not in self._sessions:
            self._sessions[key] = Wanted()
            self._bytes += _size_bytes(key)
        self._sessions[key].note_read(messages, now)
        self._sessions.move_to_end(key)

    def resize(self, key: str, tail_bytes: int) -> None:
        """So large is the session's tail now."""
        wanted = self._sessions[key]
        self._bytes += tail_bytes - wanted.tail_bytes
        wanted.tail_bytes = tail_bytes

    def make_room(self) -> None:
        """Want no longer what was asked for longest ago, where all together have too much."""
        while self._bytes > self._most_bytes:
            self._forget_oldest()

    def forget_old(self, now: float) -> None:
        """Want no longer what nobody has asked for lately."""
        while self._sessions and next(iter(self._sessions.values())).until < now:
            self._forget_oldest()

    def forget_all(self) -> None:
        """Want nothing any more."""
        self._most_bytes = 0
        self.make_room()

    def take_unwanted(self) -> list[str]:
        """Those that are not wanted any more, and may still have a tail; each is given once."""
        unwanted, self._unwanted = self._unwanted, []
        return unwanted

    def lose_tails(self) -> None:
        """There are none any more."""
        self._unwanted.clear()
        for wanted in self._sessions.values():
            wanted.has_tail = False

    def _forget_oldest(self) -> None:
        key, wanted = self._sessions.popitem(last=False)
        self._bytes -= wanted.tail_bytes + _size_bytes(key)
        if wanted.tail_bytes:
            self._unwanted.append(key)


def _size_bytes(key: str) -> int:
    """What a session that is wanted takes, without its tail."""
    return _SESSION_BYTES + len(key.encode())
