"""Where a page of search results ends, as text that only the same search understands."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.operations import Search

_DIGEST_BYTES: Final = 9

Place = Sequence[int | float]


def write_cursor(search: Search, place: Place) -> str:
    """`place`, some numbers, for the caller to bring back with the same query and filter."""
    numbers = orjson.dumps(list(place))
    # The digest comes last, as a cursor may not begin with a dash on a command line.
    return base64.urlsafe_b64encode(numbers + _digest(search, numbers)).decode().rstrip("=")


def read_cursor(search: Search, cursor: str, size: int) -> list[int | float]:
    """The `size` numbers of a place; raises `OperationRefusedError` for anything else."""
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        data = b""
    numbers, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    # What has the right digest was written here, though perhaps for a store of another kind.
    place = orjson.loads(numbers) if digest == _digest(search, numbers) else []
    if len(place) != size:
        raise OperationRefusedError(
            f"cursor: {cursor[:40]!r} is not one that a page of this search gave"
        )
    return list(place)


def _digest(search: Search, numbers: bytes) -> bytes:
    asked = repr((search.query, search.where, search.by_session)).encode()
    return hashlib.blake2b(numbers + asked, digest_size=_DIGEST_BYTES).digest()
