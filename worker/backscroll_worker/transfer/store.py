"""How `migrate` and `import` put whole sessions into a store.

They run as the store's one writer, with many sessions in one transaction. Each session is taken
over whole or not at all, and once: its op id follows from its content, so that the store knows it
when it comes again; where the op id is forgotten, its messages are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from backscroll.contract.errors import OperationRefusedError, StoreUnavailableError
from backscroll.contract.ids import derived_op_id, new_op_id
from backscroll.contract.messages import ChatMessage, from_micros, to_micros
from backscroll.contract.operations import Clear
from backscroll.contract.results import Outcome
from backscroll.contract.validation import OF_SESSIONS
from backscroll_worker.contract.history import HistoryReader
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.tombstones import Tombstones
from backscroll_worker.interpreter import collecting_rarely
from backscroll_worker.stores import Store, store_at
from backscroll_worker.stores.jsonl.fields import OURS
from backscroll_worker.transfer.source import Incoming

MESSAGES_PER_GROUP: Final = 20_000
_CHARS_PER_GROUP: Final = 8 * 1024 * 1024
_OBJECTS_PER_COLLECTION: Final = 100_000


@dataclass(frozen=True, slots=True)
class Taken:
    """How many messages a session has, whether the store had it, or why it was refused."""

    messages: int = 0
    was_there: bool = False
    refusal: str | None = None


@contextmanager
def writing(url: str, doing: str) -> Iterator[Store]:
    """The store, as its one writer; raises `StoreUnavailableError` when a worker has it."""
    with store_at(url) as store, collecting_rarely(_OBJECTS_PER_COLLECTION):
        with stopped_worker(doing):
            store.acquire()
        yield store


@contextmanager
def stopped_worker(doing: str) -> Iterator[None]:
    """Add what to do to the `StoreUnavailableError` of a store that a worker has."""
    try:
        yield
    except StoreUnavailableError as error:
        raise StoreUnavailableError(f"{error}: stop the worker, then {doing}") from None


T = TypeVar("T", bound=Incoming)


class Groups(Iterator[list[T]]):
    """`sessions` in lists, each for one transaction.

    The next list can be read while the disk is busy with the one before.
    """

    def __init__(self, sessions: Iterator[T], store: Store) -> None:
        self._sessions = sessions
        self._store = store
        self._next: list[T] = []
        self._error: Exception | None = None

    def prepare(self) -> None:
        """Read the next group; an error is raised when the groups before it are done."""
        if self._next or self._error is not None:
            return
        try:
            self._read()
        except Exception as error:
            self._error = error
        self._store.expect(each.operation for each in self._next)

    def __next__(self) -> list[T]:
        self.prepare()
        if self._next:
            group, self._next = self._next, []
            return group
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopIteration

    def _read(self) -> None:
        messages, chars = 0, 0
        for session in self._sessions:
            self._next.append(session)
            said = session.operation.messages
            messages += len(said) + 1  # so that empty sessions count, too
            chars += sum([len(message.content) for message in said])
            if messages >= MESSAGES_PER_GROUP or chars >= _CHARS_PER_GROUP:
                return


def take_in(
    store: Store,
    operations: Sequence[ImportSession],
    prepare_next: Callable[[], None] | None = None,
    *,
    may_go_on: bool = False,
) -> list[Taken]:
    """Have the store take these sessions over, in one transaction; what became of each.

    `prepare_next` may be called while they are written to the disk. With `may_go_on` a session
    whose beginning is in the store gets the rest. Raises `StoreUnavailableError`; then nothing is
    stored.
    """
    tombstones = store.tombstones()
    operations = [_without_erased(each, tombstones) for each in operations]
    welcome = [each for each in operations if not _was_erased(each, tombstones)]
    answers = iter(store.apply(welcome, prepare_next=prepare_next))

    def settled(operation: ImportSession) -> Taken:
        if _was_erased(operation, tombstones):
            return Taken(refusal="the session was erased from this store afterwards")
        answer = next(answers)
        if (
            isinstance(answer, Outcome)
            and answer.duplicate
            and not HistoryReader(store).exists(operation.key)
        ):
            # It was taken over once and deleted since; importing it again means that it is wanted.
            (answer,) = store.apply([replace(operation, op_id=new_op_id())])
        if isinstance(answer, Outcome):
            return Taken(answer.affected, answer.duplicate)
        if _has_all(store, operation):
            return Taken(len(operation.messages), was_there=True)
        if may_go_on and isinstance(answer, OperationRefusedError) and _goes_on(store, operation):
            clear = Clear(new_op_id(), operation.at, operation.key)
            (_, answer) = store.apply([clear, operation])
            if isinstance(answer, Outcome):
                return Taken(answer.affected)
        own = _with_no_foreign_ids(operation)
        if own is not operation:
            return take_in(store, [own], may_go_on=may_go_on)[0]
        return Taken(refusal=str(answer))

    return [settled(operation) for operation in operations]


def with_own_ids(
    key: str, messages: Iterable[ChatMessage], seen: Iterable[str | None] = ()
) -> Iterator[ChatMessage]:
    """Give messages whose id is in `seen`, or that of an earlier one, an id of their own.

    `extra` keeps the other.
    """
    known = set(seen)
    for number, message in enumerate(messages):
        if message.message_id in known:
            extra = {**(message.extra or {}), "message_id": message.message_id}
            own_id = derived_op_id(key, f"message {number}")
            yield replace(message, message_id=own_id, extra=extra)
        else:
            yield message
        known.add(message.message_id)


def _with_no_foreign_ids(operation: ImportSession) -> ImportSession:
    """Other programs' ids may be unique in their session only."""
    ids = [message.message_id for message in operation.messages]
    foreign = [id_ for id_ in ids if id_ is None or OURS.fullmatch(id_) is None]
    messages = tuple(with_own_ids(operation.key, operation.messages, foreign))
    return replace(operation, messages=messages) if foreign else operation


def _was_erased(operation: ImportSession, tombstones: Tombstones) -> bool:
    """Whether the session, its sender or its room was erased after the session's end."""
    named = {"key": operation.key, **operation.attributes}
    return operation.last_activity <= tombstones.latest and any(
        tombstones.moment(subject, value) >= operation.last_activity
        for subject in OF_SESSIONS
        if isinstance(value := named.get(subject), str)
    )


def _without_erased(operation: ImportSession, tombstones: Tombstones) -> ImportSession:
    """Without what was said before an erasure of its author, or of what the session is of.

    A session that was erased, and of which nothing is later, stays as it is: it is refused.
    """
    if _was_erased(operation, tombstones):
        return operation
    named = {"key": operation.key, **operation.attributes}
    moments = [
        tombstones.moment(subject, value)
        for subject in OF_SESSIONS
        if isinstance(value := named.get(subject), str)
    ]
    until = from_micros(max(moments)) if max(moments) >= 0 else None
    kept = tuple(
        message
        for message in operation.messages
        if message.created_at is None
        or not (
            (until is not None and message.created_at <= until)
            or tombstones.is_of_erased_author(message, to_micros(message.created_at))
        )
    )
    return operation if len(kept) == len(operation.messages) else replace(operation, messages=kept)


def _goes_on(store: Store, operation: ImportSession) -> bool:
    """Whether the session has the first of these messages, and nothing else.

    Messages without a time have the file's, which is later when the file has grown.
    """
    stored = HistoryReader(store).load(operation.key, include_edits=True)
    first = operation.messages[: len(stored)]
    return 0 < len(stored) == len(first) and all(
        replace(old, created_at=new.created_at) == new
        for old, new in zip(stored, first, strict=True)
    )


def _has_all(store: Store, operation: ImportSession) -> bool:
    """Whether the session begins with these very messages; it may have gone on."""
    stored = HistoryReader(store).load(operation.key)[: len(operation.messages)]
    return bool(stored) and stored == [
        replace(message, edits=()) if message.edits else message for message in operation.messages
    ]
