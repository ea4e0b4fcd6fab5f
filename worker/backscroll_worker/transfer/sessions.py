"""Which sessions an export has, and their messages, read in pages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain, islice
from typing import Final, Protocol

from backscroll import (
    Attachment,
    ChatMessage,
    LoadedMessages,
    OperationRefusedError,
    Producer,
    SessionFilter,
    SessionInfo,
    SessionState,
    Usage,
)
from backscroll.contract.filters import FoundMessage, SearchPage
from backscroll.contract.messages import SessionPage
from backscroll_worker.contract.states import States

log = logging.getLogger("backscroll.transfer")

_PAGE: Final = 1_000


class Reader(Protocol):
    """What answers a command or an export: a `HistoryReader`, or a `QueueReader`."""

    @property
    def load(self) -> Callable[..., LoadedMessages]: ...
    @property
    def get(self) -> Callable[[str], FoundMessage | None]: ...
    @property
    def session(self) -> Callable[[str], SessionInfo | None]: ...
    @property
    def exists(self) -> Callable[[str], bool]: ...
    @property
    def sessions(self) -> Callable[..., SessionPage]: ...
    @property
    def search(self) -> Callable[..., SearchPage]: ...
    @property
    def usage(self) -> Callable[..., Usage]: ...
    @property
    def states(self) -> Callable[[str], dict[str, SessionState]]: ...
    @property
    def attachment(self) -> Callable[[str, str], bytes | None]: ...
    @property
    def stream(self) -> Callable[[str], Iterator[ChatMessage]]: ...


class QueueReader:
    """Reads through the queue, by a producer."""

    def __init__(self, producer: Producer) -> None:
        self.load = producer.load
        self.get = producer.get
        self.session = producer.session
        self.exists = producer.exists
        self.sessions = producer.sessions
        self.search = producer.search
        self.usage = producer.usage
        self.states = producer.states
        self.attachment = producer.attachment

    def stream(self, key: str) -> Iterator[ChatMessage]:
        """A session's messages, where there is only paging back.

        The first messages of the pages are looked up from the end, then the pages read from the
        start, so that one page at a time is in memory, here and in the server.
        """
        page = self.load(key, _PAGE, include_edits=True)
        ends: list[str | None] = []
        newest = page
        while len(page) == _PAGE:
            ends.append(page[0].message_id)
            page = self.load(key, _PAGE, page[0].message_id)
        for end in reversed(ends):
            yield from self.load(key, _PAGE, end, include_edits=True)
        yield from newest


@dataclass(frozen=True, slots=True)
class ExportedSession:
    """A session, and its messages in order, to be iterated once.

    `span` has the times of its first and last message. The session's own times are the store's: for
    one that was imported, everything happened today.
    """

    info: SessionInfo
    messages: Iterable[ChatMessage]
    span: tuple[datetime, datetime] | None = None
    states: States = field(default_factory=dict)

    @property
    def times(self) -> tuple[datetime, datetime]:
        """When it began and ended; the session's own times where it has no message."""
        return self.span or (self.info.created_at, self.info.last_activity)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions to export: those named, or all that fit. None means that any value fits.

    `since` (inclusive) and `until` (exclusive) bound the last activity. With an `author`, only what
    this author said in them.
    """

    keys: tuple[str, ...] = ()
    agent: str | None = None
    channel: str | None = None
    room: str | None = None
    sender: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    author: str | None = None

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
    if wanted.keys and wanted.author is None:
        named = (reader.session(key) for key in dict.fromkeys(wanted.keys))
        found = [info for info in named if info is not None]
    else:
        listed, keys = _list_all(reader, wanted), frozenset(wanted.keys)
        found = [info for info in listed if not keys or info.key in keys]
    fitting = [info for info in found if wanted.fits(info)]
    return sorted(fitting, key=lambda info: (info.created_at, info.key))


def read(
    reader: Reader,
    infos: Iterable[SessionInfo],
    advance: Callable[[int], None],
    author: str | None = None,
    *,
    fills: bool = False,
) -> Iterator[ExportedSession]:
    """The sessions with their messages, or those of one author; `fills` adds attachments' bytes.

    `advance` is called with how many messages were read.
    """
    for listed in infos:
        info = reader.session(listed.key)  # as it is by now, if it is still there
        if info is None:
            continue
        if author is not None:
            found = _of_author(reader, info, advance, author)
            yield from (_filled(reader, session) if fills else session for session in found)
        else:
            messages = iter(reader.stream(info.key))
            first, last = list(islice(messages, 1)), reader.load(info.key, 1)
            times = [each.created_at for each in (*first, *last) if each.created_at]
            span = (min(times), max(times)) if times else None
            counted, states = _counted(chain(first, messages), advance), reader.states(info.key)
            session = ExportedSession(info, counted, span, states)
            yield _filled(reader, session) if fills else session


def _filled(reader: Reader, session: ExportedSession) -> ExportedSession:
    """The session whose messages have the bytes of their attachments, as far as the store has."""

    def filled(attachment: Attachment) -> Attachment:
        if attachment.sha256 is None:
            return attachment
        try:
            data = reader.attachment(session.info.key, attachment.sha256)
        except OperationRefusedError as error:
            log.warning("%s", error)
            return attachment
        return replace(attachment, data=data)

    messages = (
        replace(message, attachments=tuple(map(filled, message.attachments)))
        if message.attachments
        else message
        for message in session.messages
    )
    return replace(session, messages=messages)


def _of_author(
    reader: Reader, info: SessionInfo, advance: Callable[[int], None], author: str
) -> Iterator[ExportedSession]:
    """The session as if only the author had spoken; nothing if the author did not.

    It is read twice, as its header says how many messages there are, and from when to when.
    """
    count, times = 0, list[datetime]()
    for message in reader.stream(info.key):
        if message.author == author:
            count += 1
            if message.created_at is not None:
                moments = [*times, message.created_at]
                times = [min(moments), max(moments)]
    if count:
        messages = _counted(reader.stream(info.key), advance)
        said = (message for message in messages if message.author == author)
        span = (times[0], times[-1]) if times else None
        yield ExportedSession(replace(info, message_count=count), said, span)


def _list_all(reader: Reader, wanted: Wanted) -> Iterable[SessionInfo]:
    """Every session that `wanted` may fit.

    A session that is written to meanwhile moves to the front of the listing, perhaps from a page
    that was not read yet. So the front is listed again until all of it is known.
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
    where = SessionFilter(
        wanted.agent,
        wanted.channel,
        wanted.room,
        wanted.sender,
        wanted.author,
        active_since=since,
    )
    cursor: str | None = None
    while True:
        page = reader.sessions(where=where, limit=_PAGE, cursor=cursor)
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
        if count % _PAGE == 0:
            advance(_PAGE)
    advance(count % _PAGE)
