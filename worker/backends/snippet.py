"""The part of a message that is shown for a hit, and where in it the hits are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from producer.search import SearchHit
from worker.backends.query import Query, occurrences
from worker.backends.text import placed_tokens

_SNIPPET_CHARS: Final = 160
_PIECE_CHARS: Final = 4_000


def highlighted_hit(hit: SearchHit, query: Query) -> SearchHit:
    """`hit` with its snippet and marks."""
    snippet, marks = highlight(hit.message.content, query)
    return replace(hit, snippet=snippet, marks=marks)


def highlight(text: str, query: Query) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The part of `text` with the first hit, and where in it the hits are."""
    marks = next(filter(None, (_marks(text, *piece, query) for piece in _pieces(text, query))), [])
    start, end = _window(text, marks[0][0] if marks else 0)
    before, after = "…" * (start > 0), "…" * (end < len(text))
    shift = len(before) - start
    inside = [(a + shift, b + shift) for a, b in _merged(marks) if start <= a and b <= end]
    return before + text[start:end] + after, tuple(inside)


def _pieces(text: str, query: Query) -> Iterator[tuple[int, int, int]]:
    """Where the first hit may be: from, to, and before what it must begin.

    A long text is looked through a piece at a time, as it takes long to place every token. A piece
    goes on into the next, for what is shown after the hit; all of it comes last, for long phrases.
    """
    for start in range(0, len(text) if len(text) > _PIECE_CHARS else 0, _PIECE_CHARS):
        # From the last space on: a part of a word could be taken for a word.
        spaced = text.rfind(" ", max(0, start - _SNIPPET_CHARS), start) + 1 or start
        end = start + _PIECE_CHARS
        if query.is_partly_in(text[spaced : end + _PIECE_CHARS // 4]):
            yield spaced, end + _PIECE_CHARS // 4, end
    yield 0, len(text), len(text)


def _marks(text: str, start: int, end: int, before: int, query: Query) -> list[tuple[int, int]]:
    """The places of hits in a piece of `text`; none when the first begins too late."""
    placed = list(placed_tokens(text[start:end]))
    words = [word for word, _, _ in placed]
    marks = sorted(
        {
            (start + placed[first][1], start + placed[last][2])
            for term in query.wanted
            for first, last in occurrences(term, words)
        }
    )
    return marks if marks and marks[0][0] < before else []


def _window(text: str, hit: int) -> tuple[int, int]:
    """A stretch of `text` around `hit`, cut at spaces where there are any near."""
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
    """`marks` with those that touch or overlap joined; phrases of one-character tokens do."""
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
