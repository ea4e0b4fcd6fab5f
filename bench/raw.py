"""References for the large store's rows: what APSW, FTS5 and the disk need for the same.

Each depends on the machine as the store does, so that a ratio is valid on a slower machine too.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import apsw

from backscroll_worker.stores.search.query import Query
from bench.data import SEED
from bench.million_reads import HITS, PAGE, p99_of

_NEWEST: Final = """
SELECT role, content, extra, created_at FROM messages WHERE session_id =
 (SELECT id FROM sessions WHERE key = ?) ORDER BY id DESC LIMIT ?
"""
_BEST: Final = """
SELECT m.role, m.content, m.created_at, s.key FROM
 (SELECT rowid AS id FROM message_index WHERE message_index MATCH ? ORDER BY rank LIMIT ?) AS best
 JOIN messages AS m ON m.id = best.id JOIN sessions AS s ON s.id = m.session_id
"""
_BLOCK: Final = 1 << 20


def load_p99(path: Path, keys: Sequence[str], count: int) -> float:
    """Milliseconds for APSW to select the newest 50 messages of a session drawn from `keys`."""
    draw = random.Random(SEED)
    with _reading(path) as connection:
        return p99_of(
            lambda key: len(connection.execute(_NEWEST, (key, PAGE)).fetchall()),
            draw.choices(keys, k=count),
        )


def search_p99(path: Path, queries: Sequence[str], count: int) -> float:
    """Milliseconds for FTS5's own ranking to find the 20 best messages for one of the queries."""
    draw = random.Random(SEED)
    matches = [_match(query) for query in queries]
    with _reading(path) as connection:
        return p99_of(
            lambda match: len(connection.execute(_BEST, (match, HITS)).fetchall()),
            draw.choices(matches, k=count),
        )


def read_ms(path: Path) -> float:
    """Milliseconds to read the file from its beginning to its end."""
    began = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.read(_BLOCK):
            pass
    return 1e3 * (time.perf_counter() - began)


def _match(query: str) -> str:
    return Query.parse(query).fts5 or '""'


@contextmanager
def _reading(path: Path) -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        yield connection
