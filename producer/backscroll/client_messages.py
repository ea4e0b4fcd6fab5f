# Made from aio_messages.py by producer/generate.py, which `make lint` checks. Do not edit.
"""What an adapter says and reads of messages; `Producer` has these calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal, Unpack

from backscroll.calls import run
from backscroll.client_sessions import Sessions
from backscroll.contract.answers import answered_hits, answered_message, answered_messages
from backscroll.contract.attachment_reading import answered_attachment
from backscroll.contract.errors import BackscrollError, carrying
from backscroll.contract.filters import (
    FoundMessage,
    SearchFields,
    SearchFilter,
    SearchPage,
    Within,
)
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.contract.reads import Load
from backscroll.contract.results import Receipt
from backscroll.contract.splicing import Pop
from backscroll.contract.tokens import CountedLoad, CountTokens
from backscroll.contract.tool_calls import LoadedMessages
from backscroll.transport.acks import Ack


class Messages(Sessions):
    """The calls about messages; what each may raise is said in `Producer`."""

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
        does not hold or the session is closed, for good: sent again, it is refused again;
        `InvalidInputError` for a key of more than 512 characters, no message, one of more than
        `max_message_bytes`, an attachment of more than 8 MiB or all of more than 16 MiB, an unknown
        attribute; the rest as every call.
        """
        operation = self._requests.append(key, messages, dedup_key, session, expect_tail, turn_id)
        if ack is None and (expect_tail is not None or turn_id is not None):
            ack = "stored"
        return run(self._write, operation, ack, operation.message_ids)

    def message_id(self, key: str, dedup_key: str) -> str:
        """The id of the message that `append` stores in the session with that `dedup_key`.

        Of several appended together, the first one's. It is the same whether it was appended yet or
        not, on every adapter of this queue; after a rename, with the key that the append had. Needs
        no server. Raises `InvalidInputError`.
        """
        return self._requests.message_id(key, dedup_key)

    def splice(
        self,
        key: str,
        *messages: ChatMessage,
        expect: str | Sequence[str] | None = None,
        remove: int | Sequence[str] | Literal["all"] = 0,
        session: SessionAttributes | None = None,
        dedup_key: str | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Remove messages of session `key`, then add `messages` at its end: both or neither.

        `remove` is a number, of the newest messages, or the ids of up to 5,000, or "all". Whatever
        of it is not there is not removed. It goes as by `rollback`. `expect` has the ids of the
        session's last messages as far as they matter, oldest first, or the id of the last one; ()
        or "" is a session without messages, None whatever there is. Where the session does not end
        so, nothing is done, for good: sent again, it is refused again. With `expect` it is waited
        for as with "stored".

        Messages may have been loaded from the session: one that is removed and added again by the
        same call is stored with its `platform_id`, and a summary among them goes up to the message
        as it is stored anew. What was deleted before is not stored again. `session` and `dedup_key`
        are as for `append`.

        Returns a receipt with the id of each of `messages`; with "stored", `affected` counts what
        was removed and what was added. Raises `ConflictError` with "stored" where the session does
        not end with `expect`, or is closed and there are `messages`; `InvalidInputError` as
        `append`, but messages are needed only where nothing is to be removed; the rest as every
        call.
        """
        operation = self._requests.splice(key, messages, expect, remove, session, dedup_key)
        if ack is None and expect is not None:
            ack = "stored"
        return run(self._write, operation, ack, operation.message_ids)

    def pop(self, key: str, count: int = 1, *, ack: Ack | None = None) -> list[ChatMessage]:
        """Remove the session's last `count` messages, at most 100, and return them, oldest first.

        They go as by `rollback`; [] where there are none. With "queued" or "fsynced" it returns
        when the server has it, if the server knows which messages these are, as of a session that
        was read lately and has no other write waiting; otherwise, and with "stored", when the
        worker has removed them.

        The worker records what it removed, up to 1 MiB for a session: where the caller is not told,
        the error's `operation`, sent again with `send(error.operation, "stored")`, returns the same
        in the receipt's `messages`, for about a day.

        Raises `OperationRefusedError`, and removes nothing, where several messages have more than
        1 MiB in JSON; also where it is sent again and what it removed is not recorded any more; the
        rest as every call.
        """
        operation = self._requests.pop(key, count)
        held = self._bytes_before(operation) if self._is_lenient else {}
        receipt = run(self._write, operation, ack)
        return [run(self._as_given, key, message, held) for message in receipt.messages]

    def _bytes_before(self, pop: Pop) -> dict[str, bytes]:
        """What a lenient producer has moved out of the messages to pop; later it may be gone.

        An error is the pop's, which has not been sent.
        """
        held = dict[str, bytes]()
        try:
            last = self._requests.load(pop.key, pop.count)
            for message in answered_messages(run(self._read, last)):
                held |= run(self._bytes_of, pop.key, message)
        except BackscrollError as error:
            raise carrying(pop, error) from None
        return held

    def backfill(
        self,
        key: str,
        *messages: ChatMessage,
        session: SessionAttributes | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Add `messages` of earlier, which were said elsewhere, at their places in the session.

        Each has a `platform_id` and a `created_at`. Those that the session has, or had, are not
        stored again, so it may be sent again and again. The others go between these as they are
        here, and among further messages by their time. What was said before an erasure of its
        author, its session or what `session` has of that is dropped.

        `session` is as in `append`. Returns a receipt with the id of each message; with "stored",
        `affected` counts the new ones. Raises `ConflictError` with "stored" if the session is
        closed; `InvalidInputError` as `append`, and for a message without one of the two; the rest
        as every call. A worker of before this call fails it.
        """
        operation = self._requests.backfill(key, messages, session)
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
        there yet, the deletion waits for it, for about a day. Returns a receipt; with "stored",
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
        dedup_key: str | None = None,
        ack: Ack | None = None,
    ) -> Receipt:
        """Put `message` in the place of the last message, or of the one named; its ids stay.

        It is named by its message id or by the platform's. If no message of that `platform_id` was
        there yet, the edit waits for it, for about a day. `dedup_key` is the platform's own id of
        the edit: delivered again, it changes nothing, though another one has been made since.

        Returns a receipt; with "stored", `affected` is 1, or 0 when there is no such message.
        Raises `ConflictError` with "stored" where the turn `turn_id` is not running any more,
        `InvalidInputError` for a message as `append` does, or if both ids are given; the rest as
        every call.
        """
        operation = self._requests.replace(
            key, message, message_id, turn_id, platform_id, dedup_key
        )
        return run(self._write, operation, ack)

    def clear(self, key: str, *, ack: Ack | None = None) -> Receipt:
        """Drop the session's messages; the session and its attributes stay.

        Returns a receipt; with "stored", `affected` counts the messages. Raises as every call.
        """
        return run(self._write, self._requests.clear(key), ack)

    def delete(
        self, key: str | None = None, *, prefix: str | None = None, ack: Ack | None = None
    ) -> Receipt:
        """Drop the session with everything in it, or all sessions whose key begins with `prefix`.

        No character of `prefix` has a meaning of its own. It is one write: sessions that there are
        at its place in the order go, and what is said afterwards begins new ones.

        Returns a receipt; with "stored", `affected` counts the sessions. Raises `InvalidInputError`
        unless exactly one of the two is given; the rest as every call.
        """
        return run(self._write, self._requests.delete(key, prefix), ack)

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
        """The newest `limit` messages (all without one), oldest first; [] without a session.

        `before` is a message id: those just before it, to page back. `after` is one: the first
        `limit` after it, to page forward; with both, those between. `around` is one, too: `limit`
        messages (21 without one) with that one in their middle; fewer where the session begins or
        ends. `before_platform_id` and `around_platform_id` are the same by the platform's id; of
        these four one may be given. `include_edits` adds the earlier versions of replaced messages,
        as far as BACKSCROLL_KEEP_EDITS had them kept. `oldest`: the first `limit` messages, of all
        or of those before one, instead of the newest.

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
        `active` with `after`, `oldest` or a filter, `count_tokens` without `max_tokens`;
        `OperationRefusedError` when the session has no message that one of them names; the rest as
        every call.
        """
        load = self._requests.load(
            key, limit, before, include_edits, around, after, since, until, role, author, legal,
            max_tokens, active, before_platform_id, around_platform_id, oldest,
        )  # fmt: skip
        if count_tokens is None:
            return self._loaded(load)
        counted = CountedLoad(load, count_tokens)
        while counted.loaded is None:
            counted.take(self._loaded(counted.operation))
        return counted.loaded

    def _loaded(self, load: Load) -> LoadedMessages:
        messages = answered_messages(run(self._read, load))
        if self._is_lenient:
            messages[:] = [run(self._as_given, load.key, message) for message in messages]
        return messages

    def get(self, message_id: str) -> FoundMessage | None:
        """The message with that id and the key of its session, or None if no session has it.

        By an index in SQLite; with JSONL, files are read until it is found. Raises as every call.
        """
        found = answered_message(run(self._read, self._requests.get(message_id)))
        if found is None:
            return None
        return replace(found, message=run(self._as_given, found.key, found.message))

    def attachment(self, key: str, sha256: str) -> bytes | None:
        """The bytes of an attachment by the `sha256` that a loaded message has of it.

        None unless a message of the session has them, whoever else has. Raises `InvalidInputError`
        for what is not a SHA-256; `OperationRefusedError` when the store has lost the bytes; the
        rest as every call.
        """
        operation = self._requests.attachment(key, sha256)
        return answered_attachment(operation, run(self._read, operation))

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
        `extra` instead of the content, `within="attachments"` the names of what is attached; it
        reads message by message, and not by session. An empty query with a filter lists the
        messages that pass it, newest first.

        Raises `InvalidInputError` for a query of more than 1,000 characters or a `limit` that is
        not from 1 to 1,000; `OperationRefusedError` for a cursor of another search or a query that
        takes too long; the rest as every call.
        """
        operation = self._requests.search(query, where, limit, by_session, cursor, given, within)
        page = answered_hits(run(self._read, operation))
        if not self._is_lenient:
            return page
        given_back = [run(self._as_given, hit.key, hit.message) for hit in page.hits]
        hits = zip(page.hits, given_back, strict=True)
        return replace(page, hits=tuple([replace(hit, message=said) for hit, said in hits]))
