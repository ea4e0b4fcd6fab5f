"""A store by the calls of a `Producer`, for programs that open one themselves.

A `HistoryReader` reads, also beside the worker that writes; a `History` writes as well. Neither
asks more of a store than its contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final, Literal, Self, Unpack, cast

from backscroll.contract.answers import Answer
from backscroll.contract.conflicts import conflict
from backscroll.contract.errors import (
    InvalidInputError,
    OperationRefusedError,
)
from backscroll.contract.filters import (
    FoundMessage,
    SearchFields,
    SearchFilter,
    SearchPage,
    Within,
)
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import (
    ChatMessage,
    Meta,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    SessionPage,
    State,
)
from backscroll.contract.operations import Operation
from backscroll.contract.requests import Requests
from backscroll.contract.results import CleanupReport, ErasureReceipt, Outcome, Usage
from backscroll.contract.splicing import popped
from backscroll.contract.states import DEFAULT_STATE, NO_STATE, SessionState
from backscroll.contract.tokens import CountedLoad, CountTokens
from backscroll.contract.tool_calls import LoadedMessages
from backscroll_worker.contract.archiving import RemovalArchive
from backscroll_worker.contract.pacing import Slices, Unfinished, finish
from backscroll_worker.contract.retention import Retention
from backscroll_worker.contract.store import Store

_requests: Final = Requests(Limits())


class HistoryReader:
    """Reads `store`, which it closes at the end of a `with`; `Producer` says what each call does.

    Each call raises `InvalidInputError` for arguments that are not valid, `OperationRefusedError`
    for what the store refuses, `ConflictError` where the condition of a write does not hold, and
    the store's own errors.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def load(
        self,
        key: str,
        limit: int | None = None,
        before: str | None = None,
        *,
        around: str | None = None,
        after: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        role: str | None = None,
        author: str | None = None,
        legal: bool = False,
        max_tokens: int | None = None,
        count_tokens: CountTokens | None = None,
        active: bool = False,
        include_edits: bool = False,
        before_platform_id: str | None = None,
        around_platform_id: str | None = None,
        oldest: bool = False,
    ) -> LoadedMessages:
        """The newest or `oldest` messages in order, or those before, after or around one."""
        load = _requests.load(
            key, limit, before, include_edits, around, after, since, until, role, author, legal,
            max_tokens, active, before_platform_id, around_platform_id, oldest,
        )  # fmt: skip
        if count_tokens is None:
            return cast(LoadedMessages, self._apply(load))
        counted = CountedLoad(load, count_tokens)
        while counted.loaded is None:
            counted.take(cast(LoadedMessages, self._apply(counted.operation)))
        return counted.loaded

    def get(self, message_id: str) -> FoundMessage | None:
        """The message with that id and its session's key; None if no session has it."""
        return cast(FoundMessage | None, self._apply(_requests.get(message_id)))

    def message_id(self, key: str, dedup_key: str) -> str:
        """The id of the message that is appended with that `dedup_key`, on the default queue."""
        return _requests.message_id(key, dedup_key)

    def stream(self, key: str) -> Iterator[ChatMessage]:
        """All messages with their edits, oldest first; see `Store.stream`."""
        return self.store.stream(key)

    def session(self, key: str) -> SessionInfo | None:
        """What is known of one session; None if there is none."""
        return cast(SessionInfo | None, self._apply(_requests.session(key)))

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
        """Sessions that pass the filter, newest activity first."""
        return cast(SessionPage, self._apply(_requests.sessions(given, limit, cursor, where)))

    def get_state(self, key: str, name: str = DEFAULT_STATE) -> SessionState:
        """What `set_state` has set; a value of None and version 0 if nothing."""
        return self._states(key, name).get(name, NO_STATE)

    def states(self, key: str) -> dict[str, SessionState]:
        """All that `set_state` has set for the session, by name."""
        return self._states(key, None)

    def attachment(self, key: str, sha256: str) -> bytes | None:
        """The bytes with that SHA-256 which a message of the session has; None if none does."""
        return cast(bytes | None, self._apply(_requests.attachment(key, sha256)))

    def search(
        self,
        query: str,
        where: SearchFilter | None = None,
        *,
        limit: int = 20,
        by_session: bool = False,
        cursor: str | None = None,
        within: Within | None = None,
        **given: Unpack[SearchFields],
    ) -> SearchPage:
        """Messages that match the query, best first."""
        operation = _requests.search(query, where, limit, by_session, cursor, given, within)
        return cast(SearchPage, self._apply(operation))

    def usage(self, where: SearchFilter | None = None, **given: Unpack[SearchFields]) -> Usage:
        """How many tokens the messages that pass the filter have."""
        return cast(Usage, self._apply(_requests.usage(where, given)))

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _states(self, key: str, name: str | None) -> dict[str, SessionState]:
        return cast(dict[str, SessionState], self._apply(_requests.states(key, name)))

    def _apply(self, operation: Operation) -> Answer:
        (answer,) = self.store.apply([operation])
        if isinstance(answer, Unfinished):
            return finish(answer.slices)
        if isinstance(answer, OperationRefusedError):
            raise answer
        return answer


class History(HistoryReader):
    """Reads and writes `store`; each write is durable when its call returns."""

    def append(
        self,
        key: str,
        *messages: ChatMessage,
        dedup_key: str | None = None,
        session: SessionAttributes | None = None,
        expect_tail: str | None = None,
        turn_id: str | None = None,
    ) -> list[str]:
        """Add messages at the end of a session; returns their ids.

        A `dedup_key` is known to producers on the default queue, and to no others.
        """
        operation = _requests.append(key, messages, dedup_key, session, expect_tail, turn_id)
        outcome = self._write(operation)
        return list(outcome.message_ids or operation.message_ids)

    def splice(
        self,
        key: str,
        *messages: ChatMessage,
        expect: str | Sequence[str] | None = None,
        remove: int | Sequence[str] | Literal["all"] = 0,
        session: SessionAttributes | None = None,
        dedup_key: str | None = None,
    ) -> list[str]:
        """Remove messages of a session, then add others at its end; returns the ids of these."""
        operation = _requests.splice(key, messages, expect, remove, session, dedup_key)
        return list(self._write(operation).message_ids or operation.message_ids)

    def pop(self, key: str, count: int = 1) -> list[ChatMessage]:
        """Remove the last messages, at most 100, and return them, oldest first."""
        operation = _requests.pop(key, count)
        return list(popped(operation, self._write(operation)))

    def backfill(
        self, key: str, *messages: ChatMessage, session: SessionAttributes | None = None
    ) -> int:
        """Add messages of earlier at their places; returns how many are new."""
        return self._write(_requests.backfill(key, messages, session)).affected

    def remove_last(self, key: str) -> bool:
        """Drop the last message; whether there was one."""
        return self._write(_requests.rollback(key, None)).affected > 0

    def remove(
        self, key: str, message_id: str | None = None, *, platform_id: str | None = None
    ) -> bool:
        """Drop exactly the message with one of the two ids; whether it was there."""
        if message_id is None and platform_id is None:
            raise InvalidInputError("message_id", "is missing, or a platform_id")
        return self._write(_requests.rollback(key, message_id, platform_id)).affected > 0

    def replace(
        self,
        key: str,
        message: ChatMessage,
        message_id: str | None = None,
        *,
        turn_id: str | None = None,
        platform_id: str | None = None,
    ) -> bool:
        """Replace the last message or the one named, in its place; whether it was there."""
        operation = _requests.replace(key, message, message_id, turn_id, platform_id)
        return self._write(operation).affected > 0

    def begin_turn(
        self,
        key: str,
        *messages: ChatMessage,
        lease_seconds: float = 120.0,
        supersedes: bool = False,
    ) -> str:
        """Append, and mark the session as running; returns the turn's id."""
        operation = _requests.begin_turn(
            key, messages, lease_seconds=lease_seconds, supersedes=supersedes
        )
        self._write(operation)
        return operation.op_id

    def end_turn(
        self, key: str, turn_id: str, state: State = "idle", remove: Sequence[str] = ()
    ) -> int:
        """End a turn, and remove those messages; how many were there."""
        return self._write(_requests.end_turn(key, turn_id, state, tuple(remove))).affected

    def rewind(self, key: str, to: str) -> int:
        """Drop every message after that one; how many there were."""
        return self._write(_requests.rewind(key, to)).affected

    def rename(self, key: str, new_key: str) -> bool:
        """Give a session another key; whether there was one."""
        return self._write(_requests.rename(key, new_key)).affected > 0

    def merge(self, key: str, into: str) -> int:
        """Add a session's messages to those of another one, by time; how many there were."""
        return self._write(_requests.merge(key, into)).affected

    def reset(self, key: str) -> str | None:
        """Begin a new conversation under the key; the key of what was said before, if anything."""
        operation = _requests.reset(key)
        return operation.past_key if self._write(operation).affected else None

    def close_session(self, key: str) -> None:
        """Let nobody append to a session any more."""
        self.describe(key, closed=True)

    def reopen_session(self, key: str) -> None:
        """Let messages be appended to a session again."""
        self.describe(key, closed=False)

    def fork(
        self,
        key: str,
        new_key: str,
        upto: str | None = None,
        *,
        upto_platform_id: str | None = None,
    ) -> int:
        """Begin a session with another one's messages, up to one or all; how many it has."""
        operation = _requests.fork(key, new_key, upto, upto_platform_id)
        return self._write(operation).affected

    def clear(self, key: str) -> int:
        """Drop a session's messages and keep the session; how many there were."""
        return self._write(_requests.clear(key)).affected

    def delete(self, key: str | None = None, *, prefix: str | None = None) -> int:
        """Drop a session with everything in it, or all whose key begins with `prefix`; how many
        there were.
        """
        return self._write(_requests.delete(key, prefix)).affected

    def describe(self, key: str, **attributes: str | bool | float | Meta | None) -> None:
        """Set session attributes; of `meta` the given keys, and None clears one."""
        self._write(_requests.describe(key, attributes))

    def set_state(
        self, key: str, value: Any, name: str = DEFAULT_STATE, *, expect: int | None = None
    ) -> int:
        """Keep a JSON document with the session, or delete it (None); returns its version.

        With `expect` only if that is its version, or 0 and there is none.
        """
        return self._write(_requests.set_state(key, value, name, expect)).affected

    def rename_agent(self, old: str, new: str | None) -> int:
        """Give every session of agent `old` another alias, or none; how many there were."""
        return self._write(_requests.rename_agent(old, new)).affected

    def erase(
        self,
        *,
        key: str | None = None,
        sender: str | None = None,
        room: str | None = None,
        author: str | None = None,
    ) -> Slices[ErasureReceipt]:
        """Remove every trace of a session, a sender, a room or an author.

        `finish` runs all slices.
        """
        return self.store.erase(_requests.erase(key, sender, room, author))

    def cleanup(
        self,
        retention: Retention | float,
        *,
        dry_run: bool = False,
        archive: RemovalArchive | None = None,
    ) -> Slices[CleanupReport]:
        """Delete what is idle by `retention`, or for longer than so many hours."""
        if not isinstance(retention, Retention):
            retention = Retention.of_hours(retention)
        return self.store.cleanup(retention, dry_run=dry_run, archive=archive)

    def _write(self, operation: Operation) -> Outcome:
        outcome = cast(Outcome, self._apply(operation))
        if outcome.conflict:
            raise conflict(operation)
        return outcome
