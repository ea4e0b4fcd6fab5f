"""Ids of operations and messages.

An op id is an RQ job id, so it may hold only `[A-Za-z0-9_-]`. Fresh ids are UUIDv7 (RFC 9562,
section 5.7) in 32 lowercase hex digits: they sort by time, so an index on them grows at its end.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import threading
import time
from typing import Final

DEFAULT_QUEUE: Final = "backscroll"

_TIMED: Final = re.compile(r"[0-9a-f]{12}7[0-9a-f]{3}[89ab][0-9a-f]{15}(-[0-9]+)?\Z")

# Reentrant: the handler of a signal that arrives in the middle may make an id, too.
_lock = threading.RLock()
_last_stamp = 0

_AT_ONCE: Final = 256
_random = list[int]()
"""Numbers of 64 random bits. They are drawn together, as Python lets other threads run whenever it
asks the system for some, and these may keep the caller waiting."""


def new_op_id() -> str:
    """A fresh id, larger than every id this process made before, whatever the clock does."""
    global _last_stamp  # noqa: PLW0603 - the monotonic counter is the process's, by design
    # 48 bits of milliseconds, then 12 bits of their fraction (RFC 9562, method 3).
    stamp = time.time_ns() * 4096 // 1_000_000
    with _lock:
        stamp = _last_stamp = max(stamp, _last_stamp + 1)
    tail = _random_bits() >> 2
    value = (stamp >> 12) << 80 | 0x7 << 76 | (stamp & 0xFFF) << 64 | 0b10 << 62 | tail
    return f"{value:032x}"


def _random_bits() -> int:
    while True:
        try:
            return _random.pop()
        except IndexError:  # also where another thread has taken the last one
            _random.extend(struct.unpack(f"{_AT_ONCE}Q", os.urandom(8 * _AT_ONCE)))


def derived_op_id(session_key: str, dedup_key: str, queue: str = DEFAULT_QUEUE) -> str:
    """The id every adapter on a queue derives for one platform message.

    Another queue may feed another store, so its ids are others. Those of the default queue are as
    they were when the queue did not count, or what is delivered before and after an upgrade would
    be stored twice.
    """
    material = f"{len(session_key)}:{session_key}{dedup_key}"
    if queue != DEFAULT_QUEUE:
        # A queue's name has no colon, and the default's material begins with a digit.
        material = f"queue {queue}:{material}"
    return hashlib.blake2b(material.encode(), digest_size=16).hexdigest()


def message_id(op_id: str, index: int) -> str:
    """The id of an operation's message number `index`; the first one's is the op id itself."""
    return op_id if index == 0 else f"{op_id}-{index}"


def made_at(id_: str) -> int | None:
    """When an op or message id was made, in microseconds since 1970 UTC, if it says so."""
    if _TIMED.match(id_) is None:
        return None
    return int(id_[:12], 16) * 1_000 + int(id_[13:16], 16) * 1_000 // 4096


def sent_as(id_: str) -> tuple[int, int] | None:
    """When a message was sent, and as which of those that were sent together, if its id says so."""
    made = made_at(id_)
    return None if made is None else (made, int(id_.partition("-")[2] or 0))


def _after_fork_in_child() -> None:
    """Another thread of the parent's may have held the lock; it does not exist here. And the parent
    will use its random numbers.
    """
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _random.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
