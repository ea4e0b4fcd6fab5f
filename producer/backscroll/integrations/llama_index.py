"""The chat store of LlamaIndex's `Memory`: an `AsyncDBChatStore`.

It needs the package `llama-index-core`, or `llama-index`:
`pip install 'backscroll[llama-index]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from llama_index.core.base.llms.types import ChatMessage as LlamaMessage
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from backscroll import connect_async
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.contract.errors import ConflictError, InvalidInputError, OperationRefusedError
from backscroll.contract.ids import sent_as
from backscroll.contract.messages import LATEST_MICROS, ChatMessage, SessionAttributes
from backscroll.integrations.llama_index_messages import from_message, to_message, was_archived
from backscroll.integrations.opened import history_of
from backscroll.integrations.settling import settled

_STATE: Final = "llama_index"
_PAGE: Final = 500
_REMOVED_AT_ONCE: Final = 5_000
_SESSIONS: Final = 1_000
_ACTIVE: Final = MessageStatus.ACTIVE
_FIRST: Final = (0, 0)
_NEVER: Final = (LATEST_MICROS, 0)


class BackscrollChatStore(AsyncDBChatStore):
    """The messages of each key in the session `prefix + key` of a history.

    `history` is an `AsyncProducer`, an `AsyncLocal`, or a URL: "sqlite://chat.db" or
    "jsonl://chats" for a store in this process, "redis://…" for the queue. What a URL opens is
    shared by all of the process, and open until it ends; what you give is yours to close.

    `author` and `author_name` are who speaks as "user". `attributes` are those of each session, as
    `append` takes them: `{"channel": "web", "sender": "42"}`.

    Archived messages stay where they are: a state of the session says up to which message, and
    who archives at the same time archives others. Any number of event loops may use it. A call that
    is cancelled ends when its outcome is known. All raise as the calls of `AsyncProducer`.
    """

    _history: AsyncChatHistory = PrivateAttr()
    _prefix: str = PrivateAttr()
    _author: str | None = PrivateAttr()
    _author_name: str | None = PrivateAttr()
    _attributes: SessionAttributes | None = PrivateAttr()

    def __init__(
        self,
        history: AsyncChatHistory | str,
        *,
        prefix: str = "",
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
    ) -> None:
        super().__init__()
        self._history = history_of(history, connect_async)
        self._prefix = prefix
        self._author = author
        self._author_name = author_name
        self._attributes = attributes

    @classmethod
    def class_name(cls) -> str:
        """As LlamaIndex calls it."""
        return "BackscrollChatStore"

    @property
    def history(self) -> AsyncChatHistory:
        """What the messages are kept in."""
        return self._history

    def key(self, key: str) -> str:
        """The key of its session: `store.history.search("…", key=store.key("user-42"))`."""
        return self._prefix + key

    async def get_messages(
        self,
        key: str,
        status: MessageStatus | None = _ACTIVE,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[LlamaMessage]:
        """Those of that status, or all, oldest first; without the first `offset`, at most `limit`.

        Raises `InvalidInputError` for a negative number.
        """
        for name, number in (("limit", limit), ("offset", offset)):
            if number is not None and number < 0:
                raise InvalidInputError(name, "must not be negative")
        end = None if limit is None else (offset or 0) + limit
        messages = await self._messages(self.key(key), status, end)
        return [from_message(message) for message in messages[offset:end]]

    async def count_messages(self, key: str, status: MessageStatus | None = _ACTIVE) -> int:
        """How many there are of that status, or of all."""
        if status is None:
            info = await self._history.session(self.key(key))
            return 0 if info is None else info.message_count
        return len(await self._messages(self.key(key), status))

    async def add_message(
        self, key: str, message: LlamaMessage, status: MessageStatus = _ACTIVE
    ) -> None:
        """Add a message."""
        await self.add_messages(key, [message], status)

    async def add_messages(
        self, key: str, messages: list[LlamaMessage], status: MessageStatus = _ACTIVE
    ) -> None:
        """Add the messages, all or none."""
        if messages:
            made = self._made(messages, status)
            await settled(self._history.append(self.key(key), *made, session=self._attributes))

    async def set_messages(
        self, key: str, messages: list[LlamaMessage], status: MessageStatus = _ACTIVE
    ) -> None:
        """Put the messages in the place of all that the key has, of any status, in one write."""
        await settled(self._set(self.key(key), self._made(messages, status)))

    async def delete_message(self, key: str, idx: int) -> LlamaMessage | None:
        """Remove the active message of that number, from 0, and return it; None if there is none.

        SQLAlchemyChatStore understands `idx` as the number of a row in its table, which no call
        tells.
        """
        if idx < 0:
            return None
        for message in (await self._messages(self.key(key), _ACTIVE, idx + 1))[idx:]:
            if await settled(self._remove(self.key(key), [message])):
                return from_message(message)
        return None

    async def delete_messages(self, key: str, status: MessageStatus | None = None) -> None:
        """Remove all messages, or those of that status; the session's attributes stay."""
        if status is None:
            await settled(self._set(self.key(key), []))
        else:
            messages = await self._messages(self.key(key), status)
            await settled(self._remove(self.key(key), messages))

    async def delete_oldest_messages(self, key: str, n: int) -> list[LlamaMessage]:
        """Remove the `n` oldest active messages and return those that nobody else has removed."""
        while n > 0 and (oldest := await self._messages(self.key(key), _ACTIVE, n)):
            if removed := await settled(self._remove(self.key(key), oldest)):
                return [from_message(message) for message in oldest[-removed:]]
        return []

    async def archive_oldest_messages(self, key: str, n: int) -> list[LlamaMessage]:
        """Archive the `n` oldest active messages and return them; nobody else gets the same."""
        return await settled(self._archive(self.key(key), n))

    async def get_keys(self) -> list[str]:
        """The keys that have messages: those of the history that begin with `prefix`."""
        keys, cursor = list[str](), None
        while True:
            page = await self._history.sessions(
                prefix=self._prefix or None, limit=_SESSIONS, cursor=cursor
            )
            keys += [info.key.removeprefix(self._prefix) for info in page if info.message_count]
            if (cursor := page.cursor) is None:
                return keys

    def _made(self, messages: Sequence[LlamaMessage], status: MessageStatus) -> list[ChatMessage]:
        archived = status is MessageStatus.ARCHIVED
        return [
            to_message(each, self._author, self._author_name, archived=archived)
            for each in messages
        ]

    async def _messages(
        self, key: str, status: MessageStatus | None, count: int | None = None
    ) -> list[ChatMessage]:
        """Those of that status, oldest first; the first `count` of them."""
        if status is None:
            return await self._load(key, count)
        mark = (await self._history.get_state(key, _STATE)).value
        return await self._marked(key, status, mark, count)

    async def _marked(
        self, key: str, status: MessageStatus, mark: str | None, count: int | None
    ) -> list[ChatMessage]:
        """As `_messages`, where the messages up to `mark` are archived."""
        if status is _ACTIVE:
            try:
                loaded = await self._load(key, count, mark)
            except OperationRefusedError:
                pass  # that message is gone
            else:
                active = [each for each in loaded if not was_archived(each)]
                if len(active) == len(loaded) or count is None:
                    return active
        loaded = await self._load(key)
        archived = _archived(loaded, mark)
        wanted = [
            each
            for number, each in enumerate(loaded)
            if (number < archived or was_archived(each)) is (status is MessageStatus.ARCHIVED)
        ]
        return list(islice(wanted, count))

    async def _load(
        self, key: str, count: int | None = None, after: str | None = None
    ) -> list[ChatMessage]:
        """The first `count` messages, or all, of those after one, or of all."""
        loaded = list[ChatMessage]()
        while count is None or len(loaded) < count:
            size = _PAGE if count is None else min(_PAGE, count - len(loaded))
            page = await self._history.load(key, size, after=after, oldest=after is None)
            loaded += page
            if len(page) < size:
                break
            after = page[-1].message_id
        return loaded

    async def _set(self, key: str, messages: list[ChatMessage]) -> None:
        attributes = self._attributes if messages else None
        await self._history.splice(key, *messages, remove="all", session=attributes)
        if (await self._history.get_state(key, _STATE)).value is not None:
            await self._history.set_state(key, None, _STATE)

    async def _remove(self, key: str, messages: Sequence[ChatMessage]) -> int:
        """How many of them were still there to be removed."""
        ids = [each.message_id for each in messages if each.message_id is not None]
        removed = 0
        for place in range(0, len(ids), _REMOVED_AT_ONCE):
            some = ids[place : place + _REMOVED_AT_ONCE]
            receipt = await self._history.splice(key, remove=some, ack="stored")
            removed += receipt.affected or 0
        return removed

    async def _archive(self, key: str, n: int) -> list[LlamaMessage]:
        while n > 0:
            state = await self._history.get_state(key, _STATE)
            oldest = await self._marked(key, _ACTIVE, state.value, n)
            if not oldest:
                break
            mark = oldest[-1].message_id
            try:
                await self._history.set_state(key, mark, _STATE, expect=state.version)
            except ConflictError:  # somebody else has archived meanwhile
                continue
            return [from_message(message) for message in oldest]
        return []


def _archived(messages: Sequence[ChatMessage], mark: str | None) -> int:
    """How many of the first messages are archived; if `mark` is gone, those sent before it."""
    if mark is None:
        return 0
    for number, message in reversed(list(enumerate(messages, 1))):
        id_ = message.message_id or ""
        if id_ == mark or (sent_as(id_) or _NEVER) < (sent_as(mark) or _FIRST):
            return number
    return 0
