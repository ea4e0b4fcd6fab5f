"""Sessions whose key begins with a text: a range of the keys' index.

SQLite compares keys byte by byte in UTF-8, which is the order of their code points. LIKE and GLOB
would give some characters a meaning of their own.
"""

from __future__ import annotations

from typing import Final

_LAST: Final = 0x10FFFF
_SURROGATES: Final = range(0xD800, 0xE000)  # no text has them

BY_KEY: Final = "sessions INDEXED BY sessionrow_key"


def begins_with(prefix: str) -> tuple[str, tuple[str, ...]]:
    """The condition that a key begins with `prefix`, as a term of a WHERE clause, and its values.

    It is for `BY_KEY`: the planner may not know how selective it is.
    """
    end = _first_after(prefix)
    return ("key >= ?", (prefix,)) if end is None else ("key >= ? AND key < ?", (prefix, end))


def _first_after(prefix: str) -> str | None:
    """The first text after all that begin with `prefix`; None if there is none after them."""
    stem = prefix.rstrip(chr(_LAST))
    if not stem:
        return None
    following = ord(stem[-1]) + 1
    return stem[:-1] + chr(_SURROGATES.stop if following in _SURROGATES else following)
