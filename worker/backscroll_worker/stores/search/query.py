"""Search queries: parsing, conversion to FTS5, matching in a scan, and the score of a hit."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from backscroll_worker.stores.search.text import tokens

MAX_TOKENS: Final = 32
MAX_PREFIXES: Final = 4
"""Limits of a query: FTS5 visits the rows of each of its tokens."""

MAX_SPREAD_TERMS: Final = 6
MIN_SPREAD_PREFIX: Final = 3
"""Limits of a search in different messages, where each term is searched for separately."""

# BM25's usual constants, and the assumed average length of a message.
_SATURATION: Final = 1.2
_LENGTH_SHARE: Final = 0.75
_TYPICAL_TOKENS: Final = 40


class Term(NamedTuple):
    """One term of a query: consecutive tokens, the last of which may be a prefix."""

    tokens: tuple[str, ...]
    is_prefix: bool = False
    is_excluded: bool = False

    @property
    def prefix(self) -> str:
        """The token that is a prefix; empty when there is none."""
        return self.tokens[-1] if self.is_prefix else ""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: all `wanted` terms must occur, and none of the `unwanted`."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Query:
        """Parse any text: words, "phrases", prefix* and -exclusions; the rest is ignored.

        Tokens beyond `MAX_TOKENS` and stars beyond `MAX_PREFIXES` are ignored too.
        """
        terms = dict.fromkeys(_bounded(_terms(text)))
        return cls(
            tuple(term for term in terms if not term.is_excluded),
            tuple(term for term in terms if term.is_excluded),
        )

    @property
    def fts5(self) -> str | None:
        """The query in FTS5's syntax, the wanted terms first; None without a wanted term."""
        if not self.wanted:
            return None
        wanted = " AND ".join(map(_fts5_term, self.wanted))
        if not self.unwanted:
            return wanted
        unwanted = " OR ".join(map(_fts5_term, self.unwanted))
        return f"({wanted}) NOT ({unwanted})"

    @property
    def size(self) -> int:
        """The number of tokens."""
        return sum(len(term.tokens) for term in self.wanted + self.unwanted)

    @property
    def prefixes(self) -> frozenset[str]:
        """The prefixes in the query."""
        return frozenset(term.prefix for term in self.wanted + self.unwanted) - {""}

    @property
    def may_spread(self) -> bool:
        """Whether sessions with the wanted terms in different messages are found too."""
        return 1 < len(self.wanted) <= MAX_SPREAD_TERMS and all(
            len(prefix) >= MIN_SPREAD_PREFIX for prefix in self.prefixes
        )

    def without(self, prefixes: Collection[str]) -> Query:
        """The query without these prefixes; it finds at least everything that this one finds."""
        heads = (
            Term(term.tokens[:-1]) if term.prefix in prefixes else term for term in self.wanted
        )
        return Query(
            tuple(term for term in heads if term.tokens),
            tuple(term for term in self.unwanted if term.prefix not in prefixes),
        )

    def only(self, term: Term) -> Query:
        """The query with only this wanted term, and all exclusions."""
        return Query((term,), self.unwanted)

    def matches(self, text: str) -> bool:
        """Whether `text` is a hit; the scan's counterpart of `fts5`."""
        return self.score(tokens(text)) is not None

    def score(self, words: list[str]) -> float | None:
        """The score of a text with these tokens; None when it is not a hit."""
        counts = []
        for term in self.wanted:
            count = _count(term, words)
            if not count:
                return None
            counts.append(count)
        if not counts or any(_count(term, words) for term in self.unwanted):
            return None
        return relevance(counts, len(words))

    def scores(self, text: str) -> list[float]:
        """The score of `text` for each wanted term alone (`only`); 0 where it is not a hit."""
        words = tokens(text)
        if any(_count(term, words) for term in self.unwanted):
            return [0.0] * len(self.wanted)
        counts = [_count(term, words) for term in self.wanted]
        return [relevance([count], len(words)) if count else 0.0 for count in counts]


def name_query(typed: str) -> Query:
    """The query for a name while it is typed: as any query, but the last word is a prefix."""
    return Query.parse(f"{typed}*")


def relevance(counts: Iterable[int], length: int) -> float:
    """The score of a hit with these counts of each term among `length` tokens.

    BM25 with equal weights of all terms: a score depends only on the hit itself, so its place on
    the page does not change while messages are added. As all terms must occur in every hit, their
    rarity could only weight how often each of them occurs.
    """
    share = 1 - _LENGTH_SHARE + _LENGTH_SHARE * length / _TYPICAL_TOKENS
    least = _SATURATION * share
    return sum([count * (_SATURATION + 1) / (count + least) for count in counts])


def occurrences(term: Term, words: list[str]) -> Iterator[tuple[int, int]]:
    """The occurrences of the term in `words`: indexes of its first and last tokens."""
    *head, _ = term.tokens
    for end in _ends(term, words):
        first = end - len(head)
        if first >= 0 and words[first:end] == head:
            yield first, end


def _ends(term: Term, words: list[str]) -> Iterator[int]:
    """The occurrences of the term's last token in `words`."""
    last = term.tokens[-1]
    if term.is_prefix:
        yield from (place for place, word in enumerate(words) if word.startswith(last))
        return
    place = -1
    with suppress(ValueError):  # no more occurrences
        while True:
            place = words.index(last, place + 1)
            yield place


def _count(term: Term, words: list[str]) -> int:
    if len(term.tokens) > 1:
        return sum(1 for _ in occurrences(term, words))
    (token,) = term.tokens
    if term.is_prefix:
        return sum([word.startswith(token) for word in words])
    return words.count(token)


_QUERY_PART: Final = re.compile(
    r'(?P<minus>(?<!\S)-)?(?:"(?P<phrase>[^"]*)"?(?P<star>\*)?|(?P<word>[^\s"]+))'
)


def _terms(text: str) -> Iterator[Term]:
    for part in _QUERY_PART.finditer(text):
        phrase, word = part["phrase"], part["word"]
        excluded = part["minus"] is not None
        if phrase is not None:
            yield Term(tuple(tokens(phrase)), part["star"] is not None, excluded)
        else:
            yield Term(tuple(tokens(word)), word.endswith("*"), excluded)


def _bounded(terms: Iterable[Term]) -> Iterator[Term]:
    tokens, prefixes = MAX_TOKENS, MAX_PREFIXES
    for term in terms:
        kept = term.tokens[:tokens]
        tokens -= len(kept)
        is_prefix = term.is_prefix and prefixes > 0 and kept == term.tokens
        prefixes -= is_prefix
        if kept:
            yield Term(kept, is_prefix, term.is_excluded)


def _fts5_term(term: Term) -> str:
    # Tokens contain no quotes, so that no user input can leave the string.
    return f'"{" ".join(term.tokens)}"' + ("*" if term.is_prefix else "")
