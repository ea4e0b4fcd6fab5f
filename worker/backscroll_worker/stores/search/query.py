"""Search queries: parsing, conversion to FTS5, matching in a scan, and the score of a hit."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final, NamedTuple

from backscroll_worker.stores.search.text import former_tokens, tokens

MAX_TOKENS: Final = 32
MAX_PREFIXES: Final = 4
"""Limits of a query: FTS5 visits the rows of each of its tokens."""

MAX_SPREAD_CLAUSES: Final = 6
MAX_SPREAD_TERMS: Final = 12
MIN_SPREAD_PREFIX: Final = 3
"""Limits of a search in different messages, where each clause is searched for separately."""

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


Clause = tuple[Term, ...]
"""Terms of which one must occur: more than one where the query has `OR` between them."""


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed query: a term of each `wanted` clause must occur, and none of the `unwanted`."""

    wanted: tuple[Clause, ...]
    unwanted: tuple[Term, ...]

    @classmethod
    def parse(cls, text: str, *, formerly: bool = False) -> Query:
        """Parse any text: words, "phrases", prefix*, this OR that, and -exclusions.

        The rest is ignored, and so are tokens beyond `MAX_TOKENS` and stars beyond `MAX_PREFIXES`.
        Where nothing else is left, a dash excludes nothing: `-rf` is what was looked for. With
        `formerly`, each term is also looked for as the folding rules before these had it.
        """
        clauses = _clauses(_bounded(_terms(text, formerly=formerly)))
        wanted = dict.fromkeys(clause for clause in clauses if not clause[0].is_excluded)
        unwanted = dict.fromkeys(clause for clause in clauses if clause[0].is_excluded)
        if not wanted:
            wanted = {tuple(t._replace(is_excluded=False) for t in each): None for each in unwanted}
            unwanted = {}
        return cls(tuple(wanted), tuple(chain.from_iterable(unwanted)))

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all wanted clauses."""
        return tuple(chain.from_iterable(self.wanted))

    @property
    def excluded(self) -> tuple[str, ...]:
        """The words and phrases that no hit has, in their folded form."""
        return tuple(" ".join(term.tokens) + "*" * term.is_prefix for term in self.unwanted)

    @property
    def fts5(self) -> str | None:
        """The query in FTS5's syntax, the wanted terms first; None without a wanted term."""
        if not self.wanted:
            return None
        wanted = " AND ".join(map(_fts5_clause, self.wanted))
        if not self.unwanted:
            return wanted
        return f"({wanted}) NOT {_fts5_clause(self.unwanted)}"

    @property
    def size(self) -> int:
        """The number of tokens."""
        return sum(len(term.tokens) for term in self.terms + self.unwanted)

    @property
    def prefixes(self) -> frozenset[str]:
        """The prefixes in the query."""
        return frozenset(term.prefix for term in self.terms + self.unwanted) - {""}

    @property
    def may_spread(self) -> bool:
        """Whether sessions with the wanted terms in different messages are found too."""
        return (
            1 < len(self.wanted) <= MAX_SPREAD_CLAUSES
            and len(self.terms) <= MAX_SPREAD_TERMS
            and all(len(prefix) >= MIN_SPREAD_PREFIX for prefix in self.prefixes)
        )

    def without(self, prefixes: Collection[str]) -> Query:
        """The query without these prefixes; it finds at least everything that this one finds."""
        heads = (
            tuple(Term(term.tokens[:-1]) if term.prefix in prefixes else term for term in clause)
            for clause in self.wanted
        )
        return Query(
            tuple(clause for clause in heads if all(term.tokens for term in clause)),
            tuple(term for term in self.unwanted if term.prefix not in prefixes),
        )

    def only(self, clause: Clause) -> Query:
        """The query with only this wanted clause, and all exclusions."""
        return Query((clause,), self.unwanted)

    def matches(self, text: str) -> bool:
        """Whether `text` is a hit; the scan's counterpart of `fts5`."""
        return self.score(tokens(text)) is not None

    def score(self, words: list[str]) -> float | None:
        """The score of a text with these tokens; None when it is not a hit."""
        counts = []
        for clause in self.wanted:
            count = _count_any(clause, words)
            if not count:
                return None
            counts.append(count)
        if not counts or any(_count(term, words) for term in self.unwanted):
            return None
        return relevance(counts, len(words))

    def scores(self, text: str) -> list[float]:
        """The score of `text` for each wanted clause alone (`only`); 0 where it is not a hit."""
        words = tokens(text)
        if any(_count(term, words) for term in self.unwanted):
            return [0.0] * len(self.wanted)
        counts = [_count_any(clause, words) for clause in self.wanted]
        return [relevance([count], len(words)) if count else 0.0 for count in counts]


def name_query(typed: str) -> str:
    """The query for a name while it is typed: as any query, but the last word is a prefix."""
    return f"{typed}*"


def relevance(counts: Iterable[int], length: int) -> float:
    """The score of a hit with these counts of each clause among `length` tokens.

    BM25 with equal weights of all clauses: a score depends only on the hit itself, so its place on
    the page does not change while messages are added. As all clauses must occur in every hit, their
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


def _count_any(clause: Clause, words: list[str]) -> int:
    return sum([_count(term, words) for term in clause])


def _count(term: Term, words: list[str]) -> int:
    if len(term.tokens) > 1:
        return sum(1 for _ in occurrences(term, words))
    (token,) = term.tokens
    if term.is_prefix:
        return sum([word.startswith(token) for word in words])
    return words.count(token)


# One dash excludes; `--force` is an option that was typed.
_QUERY_PART: Final = re.compile(
    r'(?P<minus>(?<!\S)-(?!-))?(?:"(?P<phrase>[^"]*)"?(?P<star>\*)?|(?P<word>[^\s"]+))'
)
_OR: Final = "OR"


class _Typed(NamedTuple):
    """A term, and whether it may be an operator: the word `OR`, in capitals and without quotes."""

    term: Term
    may_join: bool = False
    former: Term | None = None
    """The same term by the folding rules before these, where that is another."""

    @property
    def clause(self) -> Clause:
        return (self.term,) if self.former is None else (self.term, self.former)


def _terms(text: str, *, formerly: bool) -> Iterator[_Typed]:
    for part in _QUERY_PART.finditer(text):
        phrase = part["phrase"]
        typed = part["word"] if phrase is None else phrase
        is_prefix = typed.endswith("*") if phrase is None else part["star"] is not None
        term = Term(tuple(tokens(typed)), is_prefix, part["minus"] is not None)
        former = term._replace(tokens=tuple(former_tokens(typed))) if formerly else term
        is_other = former != term and len(former.tokens) > 0
        yield _Typed(term, part[0] == _OR, former if is_other else None)


def _bounded(typed: Iterable[_Typed]) -> Iterator[_Typed]:
    left, prefixes = MAX_TOKENS, MAX_PREFIXES
    for term, may_join, former in typed:
        if not term.tokens:
            continue
        if not left:
            break
        kept = term.tokens[:left]
        left -= 0 if may_join else len(kept)
        is_prefix = term.is_prefix and prefixes > 0 and kept == term.tokens
        prefixes -= is_prefix
        other = former and former._replace(
            tokens=former.tokens[:MAX_TOKENS], is_prefix=is_prefix and former.is_prefix
        )
        yield _Typed(Term(kept, is_prefix, term.is_excluded), may_join, other)


def _clauses(typed: Iterable[_Typed]) -> list[Clause]:
    """The terms, those with `OR` between them together; an `OR` that joins nothing is a word."""
    made: list[Clause] = []
    left = deque(typed)
    while left:
        typed_term = left.popleft()
        sides = [*made[-1:], *[each.clause for each in islice(left, 1)]]
        is_between = len(sides) == 2 and not any(clause[0].is_excluded for clause in sides)
        if typed_term.may_join and is_between:
            made[-1] = tuple(dict.fromkeys((*made[-1], *left.popleft().clause)))
        else:
            made.append(typed_term.clause)
    return made


def _fts5_clause(terms: Iterable[Term]) -> str:
    any_of = " OR ".join(map(_fts5_term, terms))
    return f"({any_of})" if " OR " in any_of else any_of


def _fts5_term(term: Term) -> str:
    # Tokens contain no quotes, so that no user input can leave the string.
    return f'"{" ".join(term.tokens)}"' + ("*" if term.is_prefix else "")
