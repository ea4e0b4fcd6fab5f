"""The verbs that read messages and sessions, and search them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.filters import SearchFilter, Within
from backscroll.contract.forms import PAGE, QUERY, TOKENS
from backscroll.contract.messages import SessionFilter
from backscroll.contract.operations import Read, operation
from backscroll.contract.validation import check_apart, check_one

_PLACES: Final = ("before", "around", "before_platform_id", "around_platform_id")
_NOT_ACTIVE: Final = ("after", "since", "until", "role", "author", "oldest")
_NOT_AROUND: Final = (*_NOT_ACTIVE, "legal", "max_tokens", "active")

DEFAULT_AROUND: Final = 21
"""How many messages are shown around one by default: ten before it, and ten after it."""


@operation
class Load(Read):
    """The newest `limit` messages in order, those just before one, or those around one.

    Or the first `limit` after one, or of all (`oldest`). `role`, `author`, `since` and `until` say
    which messages count at all, `max_tokens` how many tokens they may have together, `legal` that
    no tool result comes without its call, `active` that a session begins with its newest summary.
    """

    kind = "load"
    key: str
    limit: int | None = None
    before: str | None = None
    include_edits: bool = False
    around: str | None = None
    after: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    role: str | None = None
    author: str | None = None
    legal: bool = False
    max_tokens: Annotated[int, TOKENS] | None = None
    active: bool = False
    before_platform_id: str | None = None
    around_platform_id: str | None = None
    oldest: bool = False

    @property
    def is_forward(self) -> bool:
        """Whether they count from the first one on, not from the last one back."""
        return self.oldest or self.after is not None

    @property
    def is_chosen(self) -> bool:
        """Whether it is not just for so many messages at a place."""
        return bool(
            self.legal or self.active or self.max_tokens or self.is_forward or self.is_filtered
        )

    @property
    def is_plain(self) -> bool:
        """Whether it is for the newest messages as they are."""
        has_place = any(getattr(self, name) is not None for name in _PLACES)
        return not (self.is_chosen or has_place or self.include_edits)

    @property
    def is_filtered(self) -> bool:
        """Whether not every message counts."""
        return (self.role, self.author, self.since, self.until) != (None,) * 4

    @property
    def sides(self) -> tuple[int, int]:
        """How many messages are wanted before `around`, and how many from it on."""
        limit = self.limit or DEFAULT_AROUND
        return limit // 2, limit - limit // 2

    def check_together(self) -> None:
        check_one(self, _PLACES)
        if self.is_chosen:
            check_apart(self, "around", _NOT_AROUND)
            check_apart(self, "around_platform_id", _NOT_AROUND)
            check_apart(self, "active", _NOT_ACTIVE)


@operation
class GetMessage(Read):
    """The message with that id, and its session's key; None if no session has it."""

    kind = "get"
    message_id: str


@operation
class GetSession(Read):
    """What is known of one session; None if there is no such session."""

    kind = "session"
    key: str


@operation
class ListSessions(Read):
    """Sessions that pass the filter, newest activity first, a page at a time."""

    kind = "sessions"
    where: SessionFilter
    limit: Annotated[int, PAGE]
    cursor: str | None = None


@operation
class Search(Read):
    """Messages that match the query, best first, a page at a time; or each session's best.

    `within` looks for the words in `extra` or attachments' names instead of the content.
    """

    kind = "search"
    query: Annotated[str, QUERY]
    where: SearchFilter
    limit: Annotated[int, PAGE]
    by_session: bool = False
    cursor: str | None = None
    within: Within | None = None

    def check_together(self) -> None:
        if self.by_session and self.within is not None:
            raise InvalidInputError("within", "cannot be combined with by_session")

    @property
    def is_listing(self) -> bool:
        """Whether there is only a filter: what passes it is listed, newest first."""
        has_words = self.query.strip() or self.within is not None
        return not (has_words or self.by_session or self.where == SearchFilter())
