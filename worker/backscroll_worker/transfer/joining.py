"""Adds an imported conversation to the session that is there: only what is new to it.

A message is known by its platform id, also where it was removed. As a store forgets the ids of what
was removed in time, a mark in the session's states has the first and the last message of what was
imported: what is between them and not in the session was removed from it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, Self

from backscroll import ChatMessage, Producer
from backscroll.contract.errors import ConflictError, InvalidInputError, OperationRefusedError
from backscroll.contract.messages import SessionAttributes, check_key, to_micros
from backscroll_worker.contract.history import History, HistoryReader
from backscroll_worker.contract.takeover import ImportSession

MARK: Final = "import"
"""The name of the state with the mark."""

_PAGE: Final = 1_000
_BATCH_MESSAGES: Final = 5_000
_BATCH_CHARS: Final = 1024 * 1024

Fill = Callable[[str, Sequence[ChatMessage], SessionAttributes | None], int]
"""Backfills a session with these messages; returns how many were new."""


class Joined(NamedTuple):
    """How many messages a session got, and whether it had any, or why it was refused."""

    messages: int = 0
    was_there: bool = False
    refusal: str | None = None


class Mark(NamedTuple):
    """The first and the last message that were imported, by platform id and time in micros."""

    first: str
    first_at: int
    last: str
    last_at: int

    @classmethod
    def of(cls, messages: Sequence[ChatMessage]) -> Self:
        """The mark of an import of these."""
        (first, first_at), (last, last_at) = map(_place, (messages[0], messages[-1]))
        return cls(first, first_at, last, last_at)

    @classmethod
    def read(cls, value: Any) -> Self | None:
        """The mark in a state, which anybody may have set; None if it is not one."""
        if not isinstance(value, dict) or set(value) != set(cls._fields):
            return None
        kinds = dict(zip(cls._fields, (str, int, str, int), strict=True))
        return cls(**value) if all(type(value[name]) is kinds[name] for name in kinds) else None

    def covers(self, messages: Sequence[ChatMessage]) -> range:
        """The indexes of those that were there when it was made."""
        places = [_place(message) for message in messages]
        ids = [id_ for id_, _ in places]
        if self.first in ids:
            begin = ids.index(self.first)
        else:
            begin = sum(at < self.first_at for _, at in places)
        if self.last in ids:
            return range(begin, ids.index(self.last) + 1)
        return range(begin, sum(at <= self.last_at for _, at in places))

    def extended(self, messages: Sequence[ChatMessage]) -> Mark:
        """The mark once these are imported, too."""
        covered, new = self.covers(messages), Mark.of(messages)
        begins_before, ends_after = covered.start > 0, covered.stop < len(messages)
        return Mark(
            *(new[:2] if begins_before else self[:2]), *(new[2:] if ends_after else self[2:])
        )


def into_store(history: History) -> Fill:
    """Backfills sessions of a store."""
    return lambda key, messages, session: history.backfill(key, *messages, session=session)


def through_queue(producer: Producer) -> Fill:
    """Backfills sessions beside a worker."""

    def fill(key: str, messages: Sequence[ChatMessage], session: SessionAttributes | None) -> int:
        said = (replace(message, message_id=None) for message in messages)
        return producer.backfill(key, *said, session=session, ack="stored").affected or 0

    return fill


def join(taken: ImportSession, calls: History | Producer, fill: Fill) -> Joined:
    """Have the session get what it has not, at its place; begins it if there is none.

    Raises as the calls. It may be broken off anywhere and done again: nothing is stored twice.
    """
    key, messages, info = taken.key, taken.messages, calls.session(taken.key)
    if not messages:
        return Joined(was_there=info is not None)
    attributes: SessionAttributes = dict(taken.attributes)
    mark: Mark | None = None
    there: Container[str | None] = ()
    if info is not None:
        if refusal := _of_another(key, attributes.get("channel"), info.channel):
            return Joined(refusal=refusal)
        attributes = {n: value for n, value in attributes.items() if getattr(info, n) is None}
        there = platform_ids(calls, key)
        mark = Mark.read(calls.get_state(key, MARK).value)
    stored = 0
    try:
        for batch in _batches(_wanted(messages, there, mark), there):
            stored += fill(key, batch, attributes or None)
            attributes = {}
    except ConflictError:
        return Joined(stored, refusal=f"the session {key!r} is closed: reopen it first")
    except InvalidInputError as error:  # larger than an adapter may send
        return Joined(stored, refusal=str(error))
    extended = Mark.of(messages) if mark is None else mark.extended(messages)
    if extended != mark and (stored or info is not None):
        calls.set_state(key, extended._asdict(), MARK)
    return Joined(stored, info is not None)


class Rehearsal:
    """What the sessions would have that were read so far, of which no store knows yet.

    Of a message it keeps eight bytes, as a file may have any number.
    """

    def __init__(self) -> None:
        self._ids: dict[str, array[int]] = {}
        self._channels: dict[str, object] = {}
        self._marks: dict[str, Mark] = {}

    def held(self, key: str) -> Hashed:
        """The platform ids of a session's messages."""
        return Hashed(self._ids.get(key, ()))

    def join(self, taken: ImportSession) -> Joined:
        """What `join` would return, but that no session is closed and no message too large."""
        key, channel = taken.key, taken.attributes.get("channel")
        there, mark = self.held(key), self._marks.get(key)
        if mark is not None and (refusal := _of_another(key, channel, self._channels[key])):
            return Joined(refusal=refusal)
        wanted = _wanted(taken.messages, there, mark)
        new = array("q", [hash(m.platform_id) for m in wanted if m.platform_id not in there])
        self._ids[key] = self._ids.get(key, array("q")) + new
        self._channels[key] = self._channels.get(key) or channel
        self._marks[key] = (
            Mark.of(taken.messages) if mark is None else mark.extended(taken.messages)
        )
        return Joined(len(new), mark is not None)


class Hashed:
    """A set of texts of which only the hashes are there."""

    def __init__(self, hashes: Iterable[int]) -> None:
        self._hashes = frozenset(hashes)

    def __contains__(self, text: object) -> bool:
        return hash(text) in self._hashes


def _wanted(
    messages: Sequence[ChatMessage], there: Container[str | None], mark: Mark | None
) -> list[ChatMessage]:
    """All but those that were imported before and are not there any more."""
    covered = range(0) if mark is None else mark.covers(messages)
    return [
        message
        for index, message in enumerate(messages)
        if index not in covered or message.platform_id in there
    ]


def _of_another(key: str, channel: object, other: object) -> str | None:
    """Why nothing of that channel is put into the session, if it is another channel's."""
    if None in (channel, other) or channel == other:
        return None
    return f"the store has a session {key!r} of {other}: give --key-prefix"


def platform_ids(calls: HistoryReader | Producer, key: str) -> frozenset[str | None]:
    """The platform ids of a session's messages; none for what is not a valid key."""
    try:
        check_key(key)
    except InvalidInputError:
        return frozenset()
    found, limit, before = set[str | None](), _PAGE, None
    while True:
        try:
            page = calls.load(key, limit, before)
        except OperationRefusedError:  # more than one answer may have
            if limit == 1:
                raise
            limit //= 2
            continue
        if not page:
            return frozenset(found)
        found.update(message.platform_id for message in page)
        before = page[0].message_id


def _batches(
    messages: Sequence[ChatMessage], there: Container[str | None]
) -> Iterator[list[ChatMessage]]:
    """Those that are not there, with some that are, which say where the others belong.

    Each batch begins with what is before it.
    """
    batch, chars, has_new = list[ChatMessage](), 0, False
    for message in messages:
        is_new = message.platform_id not in there
        if not (is_new or has_new):
            batch, chars = [], 0  # only the last one before what is new counts
        batch.append(message)
        chars += len(message.content) + (len(str(message.extra)) if message.extra else 0)
        has_new = has_new or is_new
        if has_new and (len(batch) >= _BATCH_MESSAGES or chars >= _BATCH_CHARS):
            yield batch
            batch, chars, has_new = [message], 0, False
    if has_new:
        yield batch


def _place(message: ChatMessage) -> tuple[str, int]:
    at = 0 if message.created_at is None else to_micros(message.created_at)
    return message.platform_id or "", at
