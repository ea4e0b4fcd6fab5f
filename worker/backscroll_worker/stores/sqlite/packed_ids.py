"""Message ids and op ids as the tables hold them: 16 bytes where they are UUIDs."""

from __future__ import annotations

import re
from typing import Final

_COMPACT_ID: Final = re.compile(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,8}))?")


def pack_id(text: str) -> bytes | str:
    """An op or message id as stored: ours in 16 to 20 bytes, any other as its text."""
    if len(text) == 32 and text.isalnum() and text.islower():  # nearly all of them
        try:
            return bytes.fromhex(text)
        except ValueError:
            return text
    match = _COMPACT_ID.fullmatch(text)
    if match is None:
        return text
    index = int(match[2] or 0)
    return bytes.fromhex(match[1]) + index.to_bytes((index.bit_length() + 7) // 8, "big")


def unpack_id(stored: bytes | str) -> str:
    """The inverse of `pack_id`."""
    if isinstance(stored, str):
        return stored
    if len(stored) == 16:
        return stored.hex()
    return f"{stored[:16].hex()}-{int.from_bytes(stored[16:])}"
