"""Has FTS5 put off its merging of the search index while a cleanup deletes."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

from producer.errors import BackscrollError
from worker.backends.sqlite.slices import Door

_AUTOMERGE: Final = "INSERT INTO message_index(message_index, rank) VALUES ('automerge', ?)"
_FTS5_DEFAULT: Final = 4


def without_merging(door: Door, slices: Generator[None]) -> Generator[None]:
    """`slices`, during which commits merge only what they must.

    FTS5 counts a deletion as a page written and merges so much the more, up to 60 ms within a
    commit, again and again. The setting is the database's: after a kill it holds until the next
    cleanup is through, and compactions merge in any case.
    """
    _set(door, 0)
    try:
        yield from slices
    except BackscrollError:
        _set(door, _FTS5_DEFAULT)
        raise
    _set(door, _FTS5_DEFAULT)


def _set(door: Door, segments: int) -> None:
    with door() as connection:
        connection.execute(_AUTOMERGE, (segments,))
