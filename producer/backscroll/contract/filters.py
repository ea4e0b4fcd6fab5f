"""The nouns of search: where to look, and what is found; also by its id alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypedDict, overload

from backscroll.contract.messages import ChatMessage

Within = Literal["extra", "attachments"]
"""What else of a message can be searched, instead of its content."""

WITHIN: Final[tuple[Within, ...]] = ("extra", "attachments")


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """Where to search; None means "everywhere". `since` is inclusive, `until` exclusive."""

    key: str | None = None
    role: str | None = None
    author: str | None = None
    channel: str | None = None
    sender: str | None = None
    room: str | None = None
    agent: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class SearchFields(TypedDict, total=False):
    """The fields of a `SearchFilter` as keyword arguments."""

    key: str | None
    role: str | None
    author: str | None
    channel: str | None
    sender: str | None
    room: str | None
    agent: str | None
    since: datetime | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class SearchHit:
    """One message found.

    `snippet` is the part of the content around the hit, or of the values of `extra` or the names of
    attachments, a line each, where these were searched; `marks` are the [start, end) character
    ranges of the hits inside it. `score` is higher for a better hit. Where a search is by session,
    this is the session's best hit, and `session_matches` says how many of its messages match. None
    does (0) where the words are in different messages; this is then the newest with the rarest.
    """

    key: str
    message: ChatMessage
    snippet: str
    marks: tuple[tuple[int, int], ...] = ()
    score: float = 0.0
    session_matches: int | None = None

    def highlighted(self, before: str = "[", after: str = "]") -> str:
        """The snippet with every hit between `before` and `after`."""
        parts, end = [], 0
        for start, stop in self.marks:
            parts += [self.snippet[end:start], before, self.snippet[start:stop], after]
            end = stop
        return "".join([*parts, self.snippet[end:]])


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """A message, and the key of the session that has it."""

    key: str
    message: ChatMessage


@dataclass(frozen=True, slots=True)
class SearchPage(Sequence[SearchHit]):
    """Hits, best first; `cursor` asks for the next page, None when there is none.

    A page may have fewer hits than asked for, or none, and a cursor: go on until that is None.
    `excluded` are the words that the query excluded with a dash, as they are compared: `rm -rf`
    excludes `rf`, and `rm "-rf"` finds it.
    """

    hits: tuple[SearchHit, ...]
    cursor: str | None = None
    excluded: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> SearchHit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[SearchHit, ...]: ...
    def __getitem__(self, index: int | slice) -> SearchHit | tuple[SearchHit, ...]:
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)
