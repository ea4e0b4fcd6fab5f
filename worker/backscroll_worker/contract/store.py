"""The contract of a store, whatever it is made of.

There is one write door, `apply`: a group of operations goes through it in order, and either all of
the group is durable when it returns or none of it happened. A backend is usable on its own; only
one process may have a store open for writing (see `stores.lock`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, Unpack, cast

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.filters import SearchFields, SearchFilter, SearchPage
from backscroll.contract.messages import (
    ChatMessage,
    Limits,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    SessionPage,
)
from backscroll.contract.operations import Erase, Operation
from backscroll.contract.requests import Requests
from backscroll.contract.results import (
    Answer,
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    Outcome,
)
from backscroll_worker.contract.answer_budget import AnswerBudget
from backscroll_worker.contract.archiving import RemovalArchive
from backscroll_worker.contract.findings import Finding, Totals
from backscroll_worker.contract.pacing import Progress, Slices, unobserved
from backscroll_worker.contract.retention import Retention
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.tombstones import Tombstones


class SessionBackend(Protocol):
    """A store of sessions.

    Message times are the producer's; a session's `created_at` and `last_activity` are the store's
    own clock, so that an adapter whose clock is wrong cannot have a session cleaned up early.
    """

    url: str

    @abstractmethod
    def apply(
        self,
        operations: Sequence[Operation],
        meanwhile: Callable[[], None] | None = None,
        budget: AnswerBudget | None = None,
    ) -> list[Answer | OperationRefusedError]:
        """Carry out `operations` in order and return what came of each, in the same order.

        Writes whose op id was applied before change nothing and return their first outcome with
        `duplicate` set. A read sees the writes before it. An operation that cannot be carried out
        comes back as the error, and harms none of its neighbours. The effects and the record of
        their op ids become durable together. Of upkeep only what is a write too goes through here.

        `meanwhile` is what the caller can do in the time the group needs to get to the disk. It
        may be called, even more than once, and what it raises comes out of here.

        With a `budget`, answers to reads come encoded, and those that would be too large are
        refused. Once it is used up, what is left of the group is not carried out, and the list is
        that much shorter; there is at least one answer.

        Raises `StoreUnavailableError` when the store cannot be used right now; then nothing of
        the group is applied, and calling again with the same group is safe.
        """

    @abstractmethod
    def expect(self, operations: Iterable[ImportSession]) -> None:
        """Get ready for these, the next to be applied, which may be in another's `meanwhile`."""

    @abstractmethod
    def tidy(self) -> bool:
        """Do, for a moment, what later calls would have to; whether some of it is left.

        It is for when nothing waits. What it cannot do is left to those calls, and nothing raised.
        """

    @abstractmethod
    def cleanup(
        self,
        retention: Retention | float,
        *,
        dry_run: bool = False,
        archive: RemovalArchive | None = None,
    ) -> Slices[CleanupReport]:
        """Delete the sessions idle for longer than their rule allows, and messages beyond its cap.

        A number is one age for all, in hours. Pinned sessions stay as they are. Idleness is looked
        at again in the slice that deletes, so a session written to meanwhile stays. What goes is
        durably in `archive` before; an `ArchiveError` leaves what is not there in the store.
        `dry_run` deletes nothing.
        """

    @abstractmethod
    def compact(self, op_ids_hours: float) -> Slices[CompactReport]:
        """Give free space back and forget op ids applied longer than `op_ids_hours` ago."""

    @abstractmethod
    def carry_out_erasure(self, operation: Erase) -> Slices[ErasureReceipt]:
        """Apply `operation`, unless that is done, and then remove every trace from the disk.

        Begun again after a kill it goes on, and its receipt tells of all that it removed.
        """

    @abstractmethod
    def stream(self, key: str) -> Iterator[ChatMessage]:
        """All messages of a session in order, with their edits, and few of them in memory.

        Other calls may come in between. Of what changes meanwhile, either state may be seen.
        """

    @abstractmethod
    def tombstones(self) -> Tombstones:
        """What was erased, to recognize what comes afterwards."""

    @abstractmethod
    def verify(self, *, deep: bool = False, progress: Progress = unobserved) -> list[Finding]:
        """Look for damage; an empty list when there is none.

        `deep` compares the index with every message's words, and not only with a sample's.
        """

    @abstractmethod
    def repair(self, findings: Sequence[Finding], *, progress: Progress = unobserved) -> list[str]:
        """Mend what `verify` found, as far as it can be; a line for each thing that was done.

        All of it or nothing, should it be killed. No message is thrown away.
        """

    @abstractmethod
    def totals(self) -> Totals:
        """How much it holds, by what it knows without reading any message.

        A JSONL store reads each file once, and again only what was changed since the last call.
        """

    @abstractmethod
    def identity(self) -> str | None:
        """The store's own id; a copy has the same. Who writes gives it one when it has none.

        None for who only reads a store without one.
        """

    @abstractmethod
    def size_bytes(self) -> int:
        """The store's size on disk."""

    @abstractmethod
    def close(self) -> None:
        """Release the store; the backend may not be used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Everything below is a convenience over the two doors above.

    def append(
        self,
        key: str,
        *messages: ChatMessage,
        dedup_key: str | None = None,
        session: SessionAttributes | None = None,
    ) -> list[str]:
        """Add messages at the end of a session; returns their ids. See `Producer.append`.

        A `dedup_key` is known to producers on the default queue, and to no others.
        """
        operation = _requests.append(key, messages, dedup_key, session)
        self._one(operation)
        return list(operation.message_ids)

    def remove_last(self, key: str) -> bool:
        """Drop the last message; whether there was one."""
        return self._write(_requests.rollback(key, None)).affected > 0

    def remove(self, key: str, message_id: str) -> bool:
        """Drop exactly that message; whether it was there."""
        return self._write(_requests.rollback(key, message_id)).affected > 0

    def replace(self, key: str, message: ChatMessage, message_id: str | None = None) -> bool:
        """Replace the last message or the one named, in its place; whether it was there."""
        return self._write(_requests.replace(key, message, message_id)).affected > 0

    def clear(self, key: str) -> int:
        """Drop a session's messages and keep the session; how many there were."""
        return self._write(_requests.clear(key)).affected

    def delete(self, key: str) -> bool:
        """Drop a session with everything in it; whether there was one."""
        return self._write(_requests.delete(key)).affected > 0

    def describe(self, key: str, **attributes: str | bool | None) -> None:
        """Set session attributes; see `Producer.describe`."""
        self._write(_requests.describe(key, attributes))

    def rename_agent(self, old: str, new: str | None) -> int:
        """Give every session of agent `old` another alias, or none; how many there were."""
        return self._write(_requests.rename_agent(old, new)).affected

    def load(
        self,
        key: str,
        limit: int | None = None,
        before: str | None = None,
        *,
        around: str | None = None,
        include_edits: bool = False,
    ) -> list[ChatMessage]:
        """The newest `limit` messages in order, or those before or around one."""
        operation = _requests.load(key, limit, before, include_edits, around)
        return cast(list[ChatMessage], self._one(operation))

    def session(self, key: str) -> SessionInfo | None:
        """What is known of one session; None if there is none."""
        return cast(SessionInfo | None, self._one(_requests.session(key)))

    def exists(self, key: str) -> bool:
        """Whether there is such a session."""
        return self.session(key) is not None

    def sessions(
        self,
        where: SessionFilter | None = None,
        *,
        limit: int = 100,
        cursor: str | None = None,
        **given: Any,
    ) -> SessionPage:
        """Sessions that pass the filter, newest activity first; see `Producer.sessions`."""
        return cast(SessionPage, self._one(_requests.sessions(given, limit, cursor, where)))

    def search(
        self,
        query: str,
        where: SearchFilter | None = None,
        *,
        limit: int = 20,
        by_session: bool = False,
        cursor: str | None = None,
        **given: Unpack[SearchFields],
    ) -> SearchPage:
        """Messages that match the query, best first; see `Producer.search`."""
        operation = _requests.search(query, where, limit, by_session, cursor, given)
        return cast(SearchPage, self._one(operation))

    def erase(
        self, *, key: str | None = None, sender: str | None = None, room: str | None = None
    ) -> Slices[ErasureReceipt]:
        """Remove every trace of a session, a sender's or a room's; see `Producer.erase`."""
        return self.carry_out_erasure(_requests.erase(key, sender, room))

    def _write(self, operation: Operation) -> Outcome:
        return cast(Outcome, self._one(operation))

    def _one(self, operation: Operation) -> Answer:
        answer = self.apply([operation])[0]
        if isinstance(answer, OperationRefusedError):
            raise answer
        return answer


_requests = Requests(Limits())
