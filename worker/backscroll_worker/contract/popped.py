"""What pops removed, recorded with their op ids, so that one that is sent again returns the same.

A store keeps the record with the session, as long as `waiting.MAX_AGE_MICROS` at most, and drops it
with the session. The record is text that somebody has removed: an erasure of the session, or of the
messages' author, removes it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import ChatMessage
from backscroll.contract.splicing import MOST_POPPED

MOST_BYTES: Final = 1024 * 1024
"""Of what a session's pops removed, in JSON. One message alone may have more."""


def in_json(messages: Iterable[ChatMessage]) -> list[bytes]:
    """The messages as they are recorded.

    Raises `OperationRefusedError` where they are more than a pop may remove.
    """
    encoded = [orjson.dumps(message.to_dict()) for message in messages]
    size_bytes = sum(map(len, encoded))
    if size_bytes > MOST_BYTES and len(encoded) > 1:
        raise OperationRefusedError(
            f"the {len(encoded)} messages have {size_bytes:,} bytes in JSON, and a pop removes at "
            f"most {MOST_BYTES:,}; remove fewer at once"
        )
    return encoded


def kept(sizes: Sequence[tuple[int, int]]) -> int:
    """How many of a session's records are kept, the newest first; of each, its messages and bytes.

    The newest is, whatever its size.
    """
    messages = size_bytes = 0
    for place, (count, more_bytes) in enumerate(sizes):
        messages, size_bytes = messages + count, size_bytes + more_bytes
        if place and (messages > MOST_POPPED or size_bytes > MOST_BYTES):
            return place
    return len(sizes)
