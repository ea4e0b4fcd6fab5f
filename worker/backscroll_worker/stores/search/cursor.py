"""Cursors: the end of a page of search results, as text that is valid for the same search only."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import Final

import orjson

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.reads import Search

_DIGEST_BYTES: Final = 9

Place = Sequence[int | float]


def write_cursor(search: Search, place: Place) -> str:
    """`place`, some numbers, as a cursor for the same query and filter."""
    numbers = orjson.dumps(list(place))
    # The digest comes last, as a cursor must not begin with a dash on a command line.
    return base64.urlsafe_b64encode(numbers + _digest(search, numbers)).decode().rstrip("=")


def read_cursor(search: Search, cursor: str, size: int) -> list[int | float]:
    """The `size` numbers of a place; raises `OperationRefusedError` for anything else."""
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        data = b""
    numbers, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    # A correct digest was made here, though perhaps for another kind of store.
    place = orjson.loads(numbers) if digest == _digest(search, numbers) else []
    if len(place) != size:
        raise OperationRefusedError(f"cursor: {cursor[:40]!r} is not a valid cursor of this search")
    return list(place)


def _digest(search: Search, numbers: bytes) -> bytes:
    asked = repr((search.query, search.where, search.by_session, search.within)).encode()
    return hashlib.blake2b(numbers + asked, digest_size=_DIGEST_BYTES).digest()
