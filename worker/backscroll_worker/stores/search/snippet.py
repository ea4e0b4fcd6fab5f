"""Snippets: the part of a message that is shown for a hit, and the hits in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Final, NamedTuple

from backscroll.contract.filters import SearchHit, Within
from backscroll_worker.stores.search.place import searched_text
from backscroll_worker.stores.search.query import MAX_TOKENS, Query, Term, occurrences
from backscroll_worker.stores.search.text import TOKEN, cut, folded, placed_tokens

_SNIPPET_CHARS: Final = 160
_CHUNK_CHARS: Final = 512
_SPACE: Final = re.compile(r"\s")


def highlighted_hit(hit: SearchHit, query: Query, within: Within | None = None) -> SearchHit:
    """`hit` with its snippet and marks."""
    snippet, marks = highlight(searched_text(hit.message, within), query)
    return replace(hit, snippet=snippet, marks=marks)


def highlight(text: str, query: Query) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The part of `text` with the first hit, and the positions of hits in it.

    Mapping tokens to positions is slow. So the first hit is searched for without it, and only the
    shown part is mapped.
    """
    if len(text) <= _CHUNK_CHARS:
        marks = _marks(list(placed_tokens(text, 0, len(text))), query)
        start, end = _window(text, marks[0][0] if marks else 0)
    else:
        marks, start, end = _looked_for(text, query)
    before, after = "…" * (start > 0), "…" * (end < len(text))
    shift = len(before) - start
    inside = [(a + shift, b + shift) for a, b in _merged(marks) if start <= a and b <= end]
    return before + text[start:end] + after, tuple(inside)


def _looked_for(text: str, query: Query) -> tuple[list[tuple[int, int]], int, int]:
    """The positions of hits in and around the shown part of a long text, and where it is."""
    if text.isascii():
        return _looked_for_in_ascii(text, query)
    first = _first_hit(text, query)
    if first is None:
        return [], *_window(text, 0)
    placed = list(placed_tokens(text, first.start, first.end))
    hit = placed[first.number : first.number + 1]
    start, end = _window(text, hit[0][1] if hit else first.start)
    if end >= first.end:
        placed = list(placed_tokens(text, first.start, cut(text, end + 1)))
    return _marks(placed[first.number :], query), start, end


def _looked_for_in_ascii(text: str, query: Query) -> tuple[list[tuple[int, int]], int, int]:
    """As `_looked_for`, but many times as fast, as nothing has to be folded."""
    pattern = _ascii_pattern(query.terms)
    hit = pattern.search(text.lower()) if pattern else None
    if hit is None:
        return [], *_window(text, 0)
    start, end = _window(text, hit.start())
    return _marks(list(placed_tokens(text, hit.start(), end + 1)), query), start, end


@lru_cache(maxsize=16)
def _ascii_pattern(terms: tuple[Term, ...]) -> re.Pattern[str] | None:
    """A pattern for the first hit in lower-case ASCII; None when there cannot be one."""
    runs = [
        "[^0-9a-z]+".join(term.tokens) + ("" if term.is_prefix else "(?![0-9a-z])")
        for term in terms
        if all(map(str.isascii, term.tokens))
    ]
    return re.compile(f"(?<![0-9a-z])(?:{'|'.join(runs)})") if runs else None


class _Place(NamedTuple):
    """The start of a token: the chunk of the text, and the token's index in that."""

    start: int
    end: int
    number: int


class _Words(NamedTuple):
    """Consecutive tokens; the first may have begun in an earlier chunk than the others."""

    words: list[str]
    first: _Place
    second: _Place

    def place(self, index: int) -> _Place:
        """The start of one of them."""
        if index == 0:
            return self.first
        return self.second._replace(number=self.second.number + index - 1)


def _first_hit(text: str, query: Query) -> _Place | None:
    """The first token of the first hit."""
    before: list[tuple[str, _Place]] = []
    for some in _words(text):
        words = [word for word, _ in before] + some.words
        found = [hit for term in query.terms if (hit := next(occurrences(term, words), None))]
        if found:
            first, _ = min(found)
            is_before = first < len(before)
            return before[first][1] if is_before else some.place(first - len(before))
        tail = range(max(0, len(some.words) - MAX_TOKENS), len(some.words))
        before += [(some.words[index], some.place(index)) for index in tail]
        before = before[-MAX_TOKENS:]
    return None


def _words(text: str) -> Iterator[_Words]:
    """The tokens of `text` by chunk; tokens that span chunks are complete."""
    held, first, may_continue = [""], _Place(0, 0, 0), False
    start = 0
    while start < len(text):
        end = cut(text, start + _CHUNK_CHARS)
        chunk = folded(text[start:end])
        words = TOKEN.findall(chunk)
        continues = may_continue and bool(words) and _is_at(chunk.startswith, words[0], text[start])
        if words:
            may_continue = _is_at(chunk.endswith, words[-1], text[end - 1])
        else:
            may_continue &= not chunk and not _SPACE.search(text, start, end)
        if continues:
            held.append(words.pop(0))
        if words:
            second = _Place(start, end, int(continues))
            yield _Words(["".join(held), *words[:-1]], first, second)
            held, first = [words[-1]], second._replace(number=continues + len(words) - 1)
        start = end
    yield _Words(["".join(held)], first, first)


def _is_at(side: Callable[[str], bool], word: str, outermost: str) -> bool:
    """Whether a chunk has a word at that side; the folded text lacks its spaces there."""
    return side(word) and not outermost.isspace()


def _marks(placed: list[tuple[str, int, int]], query: Query) -> list[tuple[int, int]]:
    """The positions of hits among tokens."""
    words = [word for word, _, _ in placed]
    marks = {
        (placed[first][1], placed[last][2])
        for term in query.terms
        for first, last in occurrences(term, words)
    }
    return sorted(marks)


def _window(text: str, hit: int) -> tuple[int, int]:
    """The part of `text` around `hit`, cut at nearby spaces if possible."""
    if len(text) <= _SNIPPET_CHARS:
        return 0, len(text)
    start = max(0, min(hit - _SNIPPET_CHARS // 3, len(text) - _SNIPPET_CHARS))
    end = start + _SNIPPET_CHARS
    if start > 0 and (space := text.find(" ", start, min(start + 20, hit))) >= 0:
        start = space + 1
    if end < len(text) and (space := text.rfind(" ", end - 20, end)) > hit:
        end = space
    return start, end


def _merged(marks: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """`marks` with those merged that touch or overlap, as in phrases of one-character tokens."""
    joined: tuple[int, int] | None = None
    for start, end in marks:
        if joined is not None and start <= joined[1]:
            joined = joined[0], max(joined[1], end)
        else:
            if joined is not None:
                yield joined
            joined = start, end
    if joined is not None:
        yield joined
