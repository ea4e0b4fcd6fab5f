"""What a user asks for: as FTS5 takes it, and as a scan looks for it; and how good a hit is."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from backscroll_worker.stores.search.text import tokens

MAX_TOKENS: Final = 32
MAX_PREFIXES: Final = 4
"""What a query may have. FTS5 goes through the rows of each of its tokens, be there a thousand."""

MAX_SPREAD_TERMS: Final = 6
MIN_SPREAD_PREFIX: Final = 3
"""What may be looked for in different messages, as each term is then looked for by itself."""

# BM25's usual constants, and what it takes for a message of middling length.
_SATURATION: Final = 1.2
_LENGTH_SHARE: Final = 0.75
_TYPICAL_TOKENS: Final = 40


class Term(NamedTuple):
    """One thing a query asks for: a run of tokens, whose last may be the start of a longer one."""

    tokens: tuple[str, ...]
    is_prefix: bool = False
    is_excluded: bool = False

    @property
    def prefix(self) -> str:
        """The token that may be the start of a longer one; empty when there is none."""
        return self.tokens[-1] if self.is_prefix else ""


@dataclass(frozen=True, slots=True)
class Query:
    """What a user typed: all `wanted` terms must occur, none of the `unwanted` may."""

    wanted: tuple[Term, ...]
    unwanted: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str) -> Query:
        """Any text is a query: words, "phrases", prefix* and -exclusions; the rest is ignored.

        So is what goes beyond `MAX_TOKENS`, and a star beyond `MAX_PREFIXES`.
        """
        terms = dict.fromkeys(_bounded(_terms(text)))
        return cls(
            tuple(term for term in terms if not term.is_excluded),
            tuple(term for term in terms if term.is_excluded),
        )

    @property
    def fts5(self) -> str | None:
        """The query as FTS5 takes it, the wanted terms first; None when it asks for nothing."""
        if not self.wanted:
            return None
        wanted = " AND ".join(map(_fts5_term, self.wanted))
        if not self.unwanted:
            return wanted
        unwanted = " OR ".join(map(_fts5_term, self.unwanted))
        return f"({wanted}) NOT ({unwanted})"

    @property
    def size(self) -> int:
        """How many tokens it has."""
        return sum(len(term.tokens) for term in self.wanted + self.unwanted)

    @property
    def prefixes(self) -> frozenset[str]:
        """The beginnings of words that the query has."""
        return frozenset(term.prefix for term in self.wanted + self.unwanted) - {""}

    @property
    def may_spread(self) -> bool:
        """Whether sessions are found, too, that have the wanted terms in different messages."""
        return 1 < len(self.wanted) <= MAX_SPREAD_TERMS and all(
            len(prefix) >= MIN_SPREAD_PREFIX for prefix in self.prefixes
        )

    def without(self, prefixes: Collection[str]) -> Query:
        """The query without these beginnings of words; it finds at least all that this one does."""
        heads = (
            Term(term.tokens[:-1]) if term.prefix in prefixes else term for term in self.wanted
        )
        return Query(
            tuple(term for term in heads if term.tokens),
            tuple(term for term in self.unwanted if term.prefix not in prefixes),
        )

    def only(self, term: Term) -> Query:
        """The query with this one of the wanted terms; the exclusions stay."""
        return Query((term,), self.unwanted)

    def matches(self, text: str) -> bool:
        """Whether `text` is a hit; the scan's counterpart of `fts5`."""
        return self.score(tokens(text)) is not None

    def score(self, words: list[str]) -> float | None:
        """How good a hit a text of these tokens is; None when it is none."""
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
        """How good a hit `text` is for each wanted term alone (`only`); 0 where it is none."""
        words = tokens(text)
        if any(_count(term, words) for term in self.unwanted):
            return [0.0] * len(self.wanted)
        counts = [_count(term, words) for term in self.wanted]
        return [relevance([count], len(words)) if count else 0.0 for count in counts]


def name_query(typed: str) -> Query:
    """What finds a name while it is typed: as any query, but the last word may be unfinished."""
    return Query.parse(f"{typed}*")


def relevance(counts: Iterable[int], length: int) -> float:
    """How good a hit is that has each term so many times among `length` tokens.

    BM25 with every term of the same weight: what a hit is worth depends on nothing but itself, so
    it stays in its place on the page while others come in. As all terms must occur in every hit,
    their rarity could only tell apart how often each of them does.
    """
    share = 1 - _LENGTH_SHARE + _LENGTH_SHARE * length / _TYPICAL_TOKENS
    least = _SATURATION * share
    return sum([count * (_SATURATION + 1) / (count + least) for count in counts])


def occurrences(term: Term, words: list[str]) -> Iterator[tuple[int, int]]:
    """Where in `words` the term stands: indexes of its first and its last token."""
    *head, _ = term.tokens
    for end in _ends(term, words):
        first = end - len(head)
        if first >= 0 and words[first:end] == head:
            yield first, end


def _ends(term: Term, words: list[str]) -> Iterator[int]:
    """Where in `words` the term's last token stands."""
    last = term.tokens[-1]
    if term.is_prefix:
        yield from (place for place, word in enumerate(words) if word.startswith(last))
        return
    place = -1
    with suppress(ValueError):  # there is no more of them
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
    # Tokens hold no quote, so that nothing a user types can leave the string.
    return f'"{" ".join(term.tokens)}"' + ("*" if term.is_prefix else "")
