"""Which sessions an export has, and their messages, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from typing import Final, Protocol

from backscroll import ChatMessage, Producer, SessionInfo
from backscroll.contract.filters import SearchPage
from backscroll.contract.messages import SessionPage

_A_PAGE: Final = 1_000


class Reader(Protocol):
    """What answers a command or an export: a `HistoryReader`, or a `QueueReader`."""

    @property
    def load(self) -> Callable[..., list[ChatMessage]]: ...
    @property
    def session(self) -> Callable[[str], SessionInfo | None]: ...
    @property
    def exists(self) -> Callable[[str], bool]: ...
    @property
    def sessions(self) -> Callable[..., SessionPage]: ...
    @property
    def search(self) -> Callable[..., SearchPage]: ...
    @property
    def stream(self) -> Callable[[str], Iterator[ChatMessage]]: ...


class QueueReader:
    """Reads through the queue, by a producer."""

    def __init__(self, producer: Producer) -> None:
        self.load = producer.load
        self.session = producer.session
        self.exists = producer.exists
        self.sessions = producer.sessions
        self.search = producer.search

    def stream(self, key: str) -> Iterator[ChatMessage]:
        """A session's messages, where there is only paging back.

        The first messages of the pages are looked up from the end, then the pages read from the
        start, so that one page at a time is in memory, here and in the server.
        """
        page = self.load(key, _A_PAGE, include_edits=True)
        ends: list[str | None] = []
        newest = page
        while len(page) == _A_PAGE:
            ends.append(page[0].message_id)
            page = self.load(key, _A_PAGE, page[0].message_id)
        for end in reversed(ends):
            yield from self.load(key, _A_PAGE, end, include_edits=True)
        yield from newest


@dataclass(frozen=True, slots=True)
class ExportedSession:
    """A session, and its messages in order, to be gone through once.

    `span` has the times of its first and last message. The session's own are the store's: to one
    that was imported, everything happened today.
    """

    info: SessionInfo
    messages: Iterable[ChatMessage]
    span: tuple[datetime, datetime] | None = None

    @property
    def times(self) -> tuple[datetime, datetime]:
        """From when and to when it is; the session's own times where it has no message."""
        return self.span or (self.info.created_at, self.info.last_activity)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions to export: those named, or all that fit. None means "do not look at this".

    `since` (inclusive) and `until` (exclusive) bound the last activity.
    """

    keys: tuple[str, ...] = ()
    agent: str | None = None
    channel: str | None = None
    room: str | None = None
    sender: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def fits(self, info: SessionInfo) -> bool:
        """Whether the session is one of those."""
        texts = ("agent", "channel", "room", "sender")
        return (
            all(getattr(self, name) in (None, getattr(info, name)) for name in texts)
            and (self.since is None or info.last_activity >= self.since)
            and (self.until is None or info.last_activity < self.until)
        )


def find(reader: Reader, wanted: Wanted) -> list[SessionInfo]:
    """The sessions that fit, by the time they were created."""
    if wanted.keys:
        named = (reader.session(key) for key in dict.fromkeys(wanted.keys))
        found = [info for info in named if info is not None]
    else:
        found = list(_list_all(reader, wanted))
    fitting = [info for info in found if wanted.fits(info)]
    return sorted(fitting, key=lambda info: (info.created_at, info.key))


def read(
    reader: Reader, infos: Iterable[SessionInfo], advance: Callable[[int], None]
) -> Iterator[ExportedSession]:
    """The sessions with their messages; `advance` is told how many messages were read."""
    for listed in infos:
        info = reader.session(listed.key)  # as it is by now, if it is still there
        if info is not None:
            messages = iter(reader.stream(info.key))
            first, last = list(islice(messages, 1)), reader.load(info.key, 1)
            times = [each.created_at for each in (*first, *last) if each.created_at]
            span = (min(times), max(times)) if times else None
            yield ExportedSession(info, _counted(chain(first, messages), advance), span)


def _list_all(reader: Reader, wanted: Wanted) -> Iterable[SessionInfo]:
    """Every session that `wanted` may fit.

    One that is written to while others are listed moves to the front of the listing, perhaps from
    where nobody has looked yet. So what is in front is listed again until all of it is known.
    """
    found: dict[str, SessionInfo] = {}
    since = wanted.since
    while True:
        listed = list(_list(reader, wanted, since))
        if all(info.key in found for info in listed):
            return found.values()
        found.update((info.key, info) for info in listed)
        since = listed[0].last_activity  # whatever moves from now on is not older


def _list(reader: Reader, wanted: Wanted, since: datetime | None) -> Iterator[SessionInfo]:
    cursor: str | None = None
    while True:
        page = reader.sessions(
            agent=wanted.agent,
            channel=wanted.channel,
            room=wanted.room,
            sender=wanted.sender,
            active_since=since,
            limit=_A_PAGE,
            cursor=cursor,
        )
        yield from page.sessions
        cursor = page.cursor
        if cursor is None:
            return


def _counted(
    messages: Iterable[ChatMessage], advance: Callable[[int], None]
) -> Iterator[ChatMessage]:
    count = 0
    for count, message in enumerate(messages, start=1):
        yield message
        if count % _A_PAGE == 0:
            advance(_A_PAGE)
    advance(count % _A_PAGE)
