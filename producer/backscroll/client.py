# Made from aio.py by producer/generate.py, which `make lint` checks. Do not edit.
"""`Producer`: what an adapter calls to have a conversation remembered, and to read it back."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

from backscroll.calls import run
from backscroll.client_sessions import Sessions
from backscroll.client_turns import Turn, WhileRunning
from backscroll.contract.filters import SearchFields, SearchFilter, SearchPage, Within
from backscroll.contract.messages import (
    ChatMessage,
    SessionAttributes,
)
from backscroll.contract.operations import Operation
from backscroll.contract.results import (
    CleanupReport,
    CompactReport,
    ErasureReceipt,
    Receipt,
    RestoreReport,
    answered_cleanup,
    answered_compact,
    answered_erasure,
    answered_hits,
    answered_messages,
    answered_restore,
)
from backscroll.contract.tokens import CountedLoad, CountTokens
from backscroll.contract.tool_calls import LoadedMessages
from backscroll.settings import ProducerSettings, check_waiting
from backscroll.spool.queue import DEFAULT_MAX_BYTES
from backscroll.transport.acks import Ack
from backscroll.transport.mailbox import Box


class Producer(Sessions):
    """Enqueues what was said and reads what is stored; one for all of a process's threads.

    `url` is redis://, rediss:// or unix://; the default is BACKSCROLL_REDIS_URL or REDIS_URL.
    `ack` is what a write waits for unless its call says otherwise: "queued" (the server has it),
    "fsynced" (the server's disk has it), "stored" (the worker committed it).
    `timeout_seconds` bounds how long a read or a "stored" waits for the worker.
    `retries` is how often a call is sent again after a connection error; always with the same op
    id, so that it is never applied twice.
    `spool` names a file on this host's disk, one for each producer. While the server is
    unreachable, writes are kept there, up to `spool_max_bytes`, also over this process's death.
    They are sent in order when the server is back, before anything later; reads wait for that.
    `redact` takes a text and returns what is sent and spooled instead, for each text in a message,
    also in its `extra`, and for a session's name: `Redact()`, or a function of yours. The default
    is `Redact()` where BACKSCROLL_REDACT is 1, else nothing.

    Raises `InvalidSettingError` when an argument or a variable of the environment is not valid,
    `InvalidInputError` for an unknown `ack`, `SpoolUnusableError` or `SpoolDiskError` when the
    spool cannot be opened or is in use. No server is needed yet.

    A call that fails raises a `BackscrollError`. Its `retryable` says whether the same call may
    succeed later; its `operation`, if it has one, is for `send`, which cannot apply it twice.
    "As every call" in the calls' descriptions means any of these:

    - `InvalidInputError`: an argument is not valid, or `redact` failed; nothing was enqueued.
    - `ServerUnavailableError`: the server does not answer or accepts nothing now, after `retries`.
    - `AuthenticationFailedError`: the server refuses the login.
    - `ServerRefusedError`: it refuses this call and would again: no permission, or too large.
    - `QueueFullError`: `max_queue_depth` operations wait already.
    - `NotConfirmedError`: enqueued, but what was waited for did not come in time: the server's
      fsync, or the worker's answer within `timeout_seconds`. A write may still be applied.
    - `ConflictError`: the condition of a write did not hold; see `append` and `turn`.
    - `OperationRefusedError`: the worker cannot carry it out, and says why. Answers have 32 MiB at
      most, so ask for less where there is more.
    - `SpoolFullError`, `SpoolDiskError`, `SpoolUnusableError`: the spool is full, its disk fails,
      or its file is damaged, replaced or a parent process's. With a spool, writes go there when
      the server is unavailable, refuses the login or is full, after one retry; reads raise
      `ServerUnavailableError` if it is not empty within `timeout_seconds`.
    """

    _box = Box

    def __init__(
        self,
        url: str | None = None,
        queue: str | None = None,
        *,
        ack: Ack = "queued",
        timeout_seconds: float = 30.0,
        retries: int = 5,
        max_queue_depth: int | None = None,
        max_message_bytes: int | None = None,
        spool: str | Path | None = None,
        spool_max_bytes: int = DEFAULT_MAX_BYTES,
        redact: Callable[[str], str] | None = None,
    ) -> None:
        check_waiting(timeout_seconds, retries, spool, spool_max_bytes)
        settings = ProducerSettings.resolve(
            url, queue, max_queue_depth, max_message_bytes, redact, os.environ
        )
        super().__init__(settings, ack, timeout_seconds, retries, spool, spool_max_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Send what calls are waiting for, and disconnect; no call may follow.

        What is in the spool stays there for the next producer on it. Raises nothing.
        """
        run(self._close)

    def append(
        self,
        key: str,
        *messages: ChatMessage,
        dedup_key: str | None = None,
        session: SessionAttributes | None = None,
        expect_tail: str | None = None,
        turn_id: str | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Add `messages` at the end of session `key`, in order, all or none.

        `dedup_key` is the platform's own id of what is appended: whoever delivers the same thing
        again names the same key, and it is stored once. It stays used when the message is rolled
        back; with `ack="stored"` the receipt says whether it was a `duplicate`. A message with a
        `platform_id` needs none: of those that the session has, or had, none is stored again.

        `session` has attributes as `describe` takes them, which the session then has from this
        append on, all at once: `session={"channel": "telegram", "sender": user}`. What is given
        with each append and has not changed costs next to nothing, and is there again after a
        deletion or an erasure. A worker of before this argument fails such an append.

        `expect_tail` is the id of the message that must be the session's last one ("" for none):
        the append is refused where it is not, so that of several who have read the same history one
        goes on. `turn_id` is that of a turn (see `turn`), which must still be running. Both are
        waited for as with "stored"; with `turn_id` and "queued" a refusal is not heard of.

        Returns a receipt with the id of each message. Raises `ConflictError` where such a condition
        does not hold, for good: sent again, it is refused again; `InvalidInputError` for a key of
        more than 512 characters, no message, one of more than `max_message_bytes` or all of more
        than 16 MiB, an unknown attribute; the rest as every call.
        """
        operation = self._requests.append(key, messages, dedup_key, session, expect_tail, turn_id)
        if ack is None and (expect_tail is not None or turn_id is not None):
            ack = "stored"
        return run(self._write, operation, ack, operation.message_ids)

    def rollback(
        self,
        key: str,
        message_id: str | None = None,
        *,
        platform_id: str | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Drop the last message, or exactly the one named; nothing if it is not there.

        It is named by its message id or by the platform's. If no message of that `platform_id` was
        there yet, the deletion waits for it, for a day at most. Returns a receipt; with "stored",
        `affected` is 1 or 0. Raises `InvalidInputError` if both are given; the rest as every call.
        """
        return run(self._write, self._requests.rollback(key, message_id, platform_id), ack)

    def replace(
        self,
        key: str,
        message: ChatMessage,
        message_id: str | None = None,
        *,
        turn_id: str | None = None,
        platform_id: str | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Put `message` in the place of the last message, or of the one named; its ids stay.

        It is named by its message id or by the platform's. If no message of that `platform_id` was
        there yet, the edit waits for it, for a day at most. Returns a receipt; with "stored",
        `affected` is 1, or 0 when there is no such message. Raises `ConflictError` with "stored"
        where the turn `turn_id` is not running any more, `InvalidInputError` for a message as
        `append` does, or if both ids are given; the rest as every call.
        """
        operation = self._requests.replace(key, message, message_id, turn_id, platform_id)
        return run(self._write, operation, ack)

    def clear(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """Drop the session's messages; the session and its attributes stay.

        Returns a receipt; with "stored", `affected` counts the messages. Raises as every call.
        """
        return run(self._write, self._requests.clear(key), ack)

    def delete(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """Drop the session with everything in it.

        Returns a receipt; with "stored", `affected` is 1 or 0. Raises as every call.
        """
        return run(self._write, self._requests.delete(key), ack)

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
    ) -> LoadedMessages:
        """The newest `limit` messages (all without one), oldest first; [] without a session.

        `before` is a message id: those just before it, to page back. `after` is one: the first
        `limit` after it, to page forward; with both, those between. `around` is one, too: `limit`
        messages (21 without one) with that one in their middle; fewer where the session begins or
        ends. `before_platform_id` and `around_platform_id` are the same by the platform's id; of
        these four one may be given. `include_edits` adds the earlier versions of replaced messages,
        as far as BACKSCROLL_KEEP_EDITS had them kept.

        `role`, `author`, `since` (inclusive) and `until` (exclusive): only such messages count.

        `max_tokens`: no more messages, counted from where `limit` counts, than have so many tokens
        together; none, if the first has more. A message has `ChatMessage.tokens`, or else what
        `count_tokens` says of it, which is called here, or else a quarter of its bytes.
        `legal`: without tool results whose call is not in the answer, as providers want it, after
        all else was chosen. The answer's `open_calls` are the calls that have no result.
        `active`: the session's newest summary first (see `ChatMessage.summary`), which always
        counts, then what was said after the message up to which it goes; other summaries are left
        out. If that message is gone, what was sent after it. Without a summary, all.

        Raises `InvalidInputError` for `around` with what is not `limit` or `include_edits`,
        `active` with `after` or a filter, `count_tokens` without `max_tokens`;
        `OperationRefusedError` when the session has no message that one of them names; the rest as
        every call.
        """
        load = self._requests.load(
            key, limit, before, include_edits, around, after, since, until, role, author, legal,
            max_tokens, active, before_platform_id, around_platform_id,
        )  # fmt: skip
        if count_tokens is None:
            return answered_messages(run(self._read, load))
        counted = CountedLoad(load, count_tokens)
        while counted.loaded is None:
            counted.take(answered_messages(run(self._read, counted.operation)))
        return counted.loaded

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
        """A page of the messages that match `query`, best first; `cursor` is the last page's.

        Every word must occur; `"…"` is a phrase, `word*` a prefix, `this OR that` either of them,
        and `-word` must not occur: the page's `excluded` says which words were understood so.
        Where to look is said by a filter, by its fields (`channel="slack"`), or by both.
        `by_session`: of each session only the best hit, with the number of all in it; the words may
        then be in different messages of the session. `within="extra"` searches the values of each
        `extra` instead of the content; it reads message by message, and not by session.

        Raises `InvalidInputError` for a query of more than 1,000 characters or a `limit` that is
        not from 1 to 1,000; `OperationRefusedError` for a cursor of another search or a query that
        takes too long; the rest as every call.
        """
        operation = self._requests.search(query, where, limit, by_session, cursor, given, within)
        return answered_hits(run(self._read, operation))

    def turn(
        self,
        key: str,
        *messages: ChatMessage,
        running: WhileRunning = "wait",
        lease_seconds: float = 120.0,
        limit: int = 50,
        every_seconds: float = 0.5,
    ) -> Turn:
        """A turn of a session, to be used as a context manager.

        It begins by appending `messages` and marking the session as running, and has the `limit`
        newest messages, these included, in `turn.history`. `turn.stream` shows a reply while it
        grows, written at most every `every_seconds`. At its end the reply is complete and the
        session idle; where the block raises, exactly what the turn appended is removed and the
        session is in the state "error".

        While another turn runs in the session, this one does as `running` says: "wait" until it
        ends (for `timeout_seconds` at most), "refuse" (`ConflictError`), or "supersede" it: what
        the other still sends changes nothing, and its end raises `ConflictError`. A turn whose
        process died frees the session when its lease expires, `lease_seconds` after its last write.

        Raises `InvalidInputError` for a `running` of another kind; the block's beginning and end
        raise `ConflictError` as said, and the rest as every call.
        """
        return Turn(self, key, messages, running, lease_seconds, limit, every_seconds)

    def cleanup(self, ttl_hours: float | None = None, *, dry_run: bool = False) -> CleanupReport:
        """Have the worker delete sessions idle for longer than `ttl_hours`, and wait for it.

        Without it, the worker's retention rules decide. Raises `NotConfirmedError` when it takes
        longer than `timeout_seconds`, and goes on; the rest as every call.
        """
        return answered_cleanup(run(self._read, self._requests.cleanup(ttl_hours, dry_run)))

    def restore(
        self,
        key: str,
        *,
        into: str | None = None,
        file: str | None = None,
        pin: bool = False,
    ) -> RestoreReport:
        """Have the worker bring back what cleanup took of a session, and wait for it.

        With its ids, times and attributes, before what the session has by now; what the store has
        already stays as it is. `into` is another key for it, `file` the only file of the archive
        to take it from. Its last activity is the old one, so without `pin` the next cleanup takes
        it again.

        Raises `OperationRefusedError` when the archive does not have it; the rest as `cleanup`.
        """
        return answered_restore(run(self._read, self._requests.restore(key, into, file, pin)))

    def compact(self) -> CompactReport:
        """Have the worker compact the store, and wait for it. Raises as `cleanup`."""
        return answered_compact(run(self._read, self._requests.compact()))

    def erase(
        self, *, key: str | None = None, sender: str | None = None, room: str | None = None
    ) -> ErasureReceipt:
        """Have every trace of a session, a sender or a room removed, and wait for it.

        All that was asked for before goes with it, even what arrives later: a sender's or a room's
        sessions are those that are known as theirs by now. What is said afterwards is stored.

        Returns a receipt that names nobody, to be kept as proof. Raises `InvalidInputError` unless
        exactly one of the three is given; the rest as `cleanup`.
        """
        return answered_erasure(run(self._read, self._requests.erase(key, sender, room)))

    def send(self, operation: Operation, ack: Ack | None = None) -> Receipt:
        """Send an operation that an error carried, again and as it was: it is applied once.

        Raises `InvalidInputError` for anything else; the rest as every call.
        """
        return run(self._write, self._requests.again(operation), ack, is_again=True)
