"""The speed of a large store: appends, histories, search, opening it."""

from __future__ import annotations

import itertools
import os
import random
import re
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backscroll.contract.message_checks import Limits
from backscroll.contract.operations import Append
from backscroll.contract.requests import Requests
from backscroll_worker.contract.history import HistoryReader
from backscroll_worker.stores import Store, open_store
from backscroll_worker.stores.search.text import tokens
from bench.data import SEED, messages
from bench.million_fill import Filled

GROUP: Final = 2_000  # the worker's maximum
PAGE: Final = 50
HITS: Final = 20
_QUERIES_PER_KIND: Final = 20

_HAN: Final = re.compile("[\u4e00-\u9fff]{2}")
_WORD: Final = re.compile("[a-z]{4,}")
_OPEN: Final = """
import sys, time
from backscroll_worker.stores import open_store, store_at

store_at(sys.argv[1])  # which imports the store
began = time.perf_counter()
with open_store(sys.argv[1]):
    print(time.perf_counter() - began)
"""
_OPEN_RAW: Final = """
import sys, time
import apsw

began = time.perf_counter()
connection = apsw.Connection(sys.argv[1].removeprefix("sqlite://"))
connection.execute("SELECT max(id) FROM messages").get
connection.execute("SELECT max(id) FROM sessions").get
connection.execute("SELECT rowid FROM message_index ORDER BY rowid DESC LIMIT 1").get
connection.close()
print(time.perf_counter() - began)
"""


def p99(values: Sequence[float]) -> float:
    """The value that one in a hundred exceeds."""
    return statistics.quantiles(values, n=100, method="inclusive")[98]


def append_rate(store: Store, keys: Sequence[str], count: int) -> float:
    """Appends per second in groups, to sessions drawn from `keys`."""
    draw = random.Random(SEED)
    requests = Requests(Limits())
    operations = (
        requests.append(draw.choice(keys), (message,), None) for _, message in messages(count)
    )
    groups: list[list[Append]] = []
    while group := list(itertools.islice(operations, GROUP)):
        groups.append(group)
    began = time.perf_counter()
    for group in groups:
        store.apply(group)
    return count / (time.perf_counter() - began)


def load_p99(store: Store, keys: Sequence[str], count: int) -> float:
    """Milliseconds to load the newest 50 messages of a session drawn from `keys`."""
    draw, history = random.Random(SEED), HistoryReader(store)
    return p99_of(lambda key: len(history.load(key, limit=PAGE)), draw.choices(keys, k=count))


def search_p99(store: Store, queries: Sequence[str], count: int) -> float:
    """Milliseconds to find the 20 best messages for one of the queries."""
    draw, history = random.Random(SEED), HistoryReader(store)
    return p99_of(
        lambda query: len(history.search(query, limit=HITS).hits), draw.choices(queries, k=count)
    )


def p99_of(ask: Callable[[str], int], questions: Sequence[str]) -> float:
    """The p99 of these answers, in milliseconds; none may be empty."""
    waited = []
    for question in questions:
        began = time.perf_counter()
        found = ask(question)
        waited.append(1e3 * (time.perf_counter() - began))
        if not found:
            raise LookupError(f"nothing was found for {question!r}")
    return p99(waited)


def open_cold_ms(url: str, path: Path, *, raw: bool = False) -> float:
    """Milliseconds to open the store in a process of its own, with empty caches.

    `raw`: for APSW to open the file and read the last row of each table.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    program = _OPEN_RAW if raw else _OPEN
    return 1e3 * float(subprocess.check_output([sys.executable, "-c", program, url]))


def small_store(url: str, count: int) -> list[str]:
    """A store with `count` messages in sessions of one page each; returns their keys."""
    keys = [f"small/{number}" for number in range(max(1, count // PAGE))]
    requests = Requests(Limits())
    with open_store(url) as store:
        said = zip(messages(count), itertools.cycle(keys), strict=False)
        store.apply([requests.append(key, (message,), None) for (_, message), key in said])
    return keys


@dataclass(frozen=True, slots=True)
class Queries:
    """Queries by kind, taken from the store's messages."""

    kinds: dict[str, list[str]]

    @classmethod
    def of(cls, filled: Filled) -> Queries:
        """Some queries of each kind."""
        words = [tokens(text) for text in filled.sample]
        counts = Counter(itertools.chain.from_iterable(map(set, words)))
        spelled = {word: n for word, n in counts.most_common() if _WORD.fullmatch(word)}
        common = list(spelled)[:_QUERIES_PER_KIND]
        rare = [text.split()[0] for text in filled.sample if text.startswith("#")]
        phrases = Counter(itertools.chain.from_iterable(map(_pairs, words)))
        han = Counter(itertools.chain.from_iterable(map(_HAN.findall, filled.sample)))
        kinds = {
            "common word": common,
            "rare word": rare[:_QUERIES_PER_KIND],
            "phrase": [f'"{pair}"' for pair, _ in phrases.most_common(_QUERIES_PER_KIND)],
            "prefix": [f"{word[:3]}*" for word in common],
            "CJK": [pair for pair, _ in han.most_common(_QUERIES_PER_KIND)],
        }
        return cls({kind: queries for kind, queries in kinds.items() if queries})


def _pairs(words: list[str]) -> Iterator[str]:
    for one, two in itertools.pairwise(words):
        if _WORD.fullmatch(one) and _WORD.fullmatch(two):
            yield f"{one} {two}"
