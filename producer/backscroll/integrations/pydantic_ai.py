"""The history of Pydantic AI: a store of its conversations, and a tool that searches them.

It needs the package `pydantic-ai-slim`, or `pydantic-ai`: `pip install 'backscroll[pydantic-ai]'`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson
from pydantic import TypeAdapter
from pydantic_ai import Tool
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.exceptions import ToolFailed

from backscroll import connect_async
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.contract.errors import ConflictError, OperationRefusedError
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.contract.states import SessionState, check_state
from backscroll.integrations.opened import history_of
from backscroll.integrations.pydantic_messages import (
    chained,
    entry_id,
    entry_of,
    is_entry,
    messages_of,
)
from backscroll.integrations.settling import settled
from backscroll.integrations.tools import (
    AsyncHistoryTool,
    HistoryTool,
    Scope,
    ToolCallError,
    search_history,
)

_STATE: Final = "pydantic_ai"
_KEPT_BY: Final = {"kept_by": "pydantic_ai"}
_PAGE: Final = 500
_SESSIONS: Final = 1_000
_AT_ONCE: Final = 100
_WRITE_BYTES: Final = 4 << 20

_records: Final = TypeAdapter(ConversationRecord)


class _EntryId(str):
    """The id of an entry, which also knows in which session the entry is."""

    key: str

    @classmethod
    def of(cls, id_: str, key: str) -> _EntryId:
        made = cls(id_)
        made.key = key
        return made


class BackscrollConversationStore(ConversationStore):
    """Conversations of Pydantic AI, each in the session `prefix + conversation_id` of a history.

    `history` is an `AsyncProducer`, an `AsyncLocal`, or a URL: "sqlite://chat.db" or
    "jsonl://chats" for a store in this process, "redis://…" for the queue. What a URL opens is
    shared by all of the process, and open until it ends; what you give is yours to close.

    The scope of a conversation is the sender of its session. `author` and `author_name` are who
    speaks as "user"; `attributes` are those of each session, as `append` takes them:
    `{"channel": "web", "agent": "support"}`.

    Each message is stored once. A fork has copies of the messages before it, so that nothing that
    becomes of one conversation changes another. Deleting a conversation deletes its messages. What
    else is known of a conversation, with what a paused run waits for, is a state of the session of
    up to 64 KiB.

    A message's text is searchable; if it is edited or removed by other calls, the conversation is
    loaded as it is then. All calls raise as `ConversationStore` says, and as those of
    `AsyncProducer`.
    """

    def __init__(
        self,
        history: AsyncChatHistory | str,
        *,
        prefix: str = "",
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
    ) -> None:
        self.history = history_of(history, connect_async)
        self._prefix = prefix
        self._author = author
        self._author_name = author_name
        self._attributes = attributes or {}

    def key(self, conversation_id: str) -> str:
        """The key of that session: `history.search("…", key=store.key(conversation_id))`."""
        return self._prefix + conversation_id

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """As `ConversationStore` says."""
        key = self.key(conversation_id)
        return self._record(await self.history.get_state(key, _STATE), key)

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """As `ConversationStore` says; the record of each conversation of the scope is read."""
        keys = [key async for key in self._keys(scope)]
        records = list[ConversationRecord]()
        for place in range(0, len(keys), _AT_ONCE):
            some = keys[place : place + _AT_ONCE]
            states = await asyncio.gather(*(self.history.get_state(key, _STATE) for key in some))
            read = (self._record(state, key) for state, key in zip(states, some, strict=True))
            records += [each for each in read if each and scope in (None, each.scope)]
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """As `ConversationStore` says.

        The entries are appended if nobody else has appended meanwhile, then the record is set if
        nobody else has set it; otherwise the entries are removed again. A process that dies in
        between leaves them in the session: they are found by search, and not in the conversation.
        """
        await settled(self._write(record, new_entries, expected_revision))

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """As `ConversationStore` says; the messages are deleted with it."""
        await settled(self._delete(conversation_id, expected_revision))

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """As `ConversationStore` says; raises `LookupError` if there is none.

        An id that no record or entry of this store gave is searched for, which is slow.
        """
        key = await self._place(entry_id)
        message = await self._message(key, entry_id)
        if message is None:
            raise LookupError(entry_id)
        return _entry(message, key)

    async def read_history(
        self, head_id: str | None, *, limit: int | None = None
    ) -> list[ConversationEntry]:
        """As `ConversationStore` says; raises `LookupError` where that is no entry any more."""
        if head_id is None or limit == 0:
            return []
        key = await self._place(head_id)
        messages = await self._history(key, head_id, limit)
        return [_entry(message, key) for message in messages]

    async def _history(self, key: str, head_id: str, limit: int | None) -> list[ChatMessage]:
        """The messages of the entries up to that one, as far as they are still there."""
        count = _PAGE if limit is None else min(_PAGE, 2 * limit)
        messages = list[ChatMessage]()
        is_whole = False
        while not is_whole:
            page = await self.history.load(key, count, messages[0].message_id if messages else None)
            messages[:0] = page
            is_whole, count = len(page) < count, _PAGE
            chain = chained(messages, head_id, limit, is_whole=is_whole)
            if chain is not None:
                return chain
        record = self._record(await self.history.get_state(key, _STATE), key)
        if record is None or record.head_id != head_id:
            raise LookupError(head_id)
        # Somebody has removed the newest message: what is left is the conversation.
        last = entry_id(messages[-1]) if messages else ""
        return chained(messages, last, limit, is_whole=True) or []

    async def _write(
        self,
        record: ConversationRecord,
        new_entries: Sequence[ConversationEntry],
        expected_revision: str | None,
    ) -> None:
        id_, key = record.conversation_id, self.key(record.conversation_id)
        version, stored = await self._expected(id_, expected_revision)
        document = check_state(_records.dump_python(record, mode="json"))
        before = new_entries[0].parent_id if new_entries else record.head_id
        messages = await self._carried(before, record, stored)
        messages += messages_of(new_entries, self._author, self._author_name)
        appended = await self._append(key, messages, record, is_new=stored is None)
        try:
            await self.history.set_state(key, document, _STATE, expect=version)
        except ConflictError:
            for message_id in reversed(appended):
                await self.history.rollback(key, message_id)
            raise ConversationConflict(id_) from None

    async def _delete(self, conversation_id: str, expected_revision: str) -> None:
        key = self.key(conversation_id)
        version, _ = await self._expected(conversation_id, expected_revision)
        try:
            await self.history.set_state(key, None, _STATE, expect=version)
        except ConflictError:
            raise ConversationConflict(conversation_id) from None
        await self.history.delete(key, ack="stored")

    async def _expected(
        self, conversation_id: str, revision: str | None
    ) -> tuple[int, ConversationRecord | None]:
        """The version of the state, and the record; raises `ConversationConflict` for another."""
        key = self.key(conversation_id)
        state = await self.history.get_state(key, _STATE)
        record = self._record(state, key)
        if (None if record is None else record.revision) != revision:
            raise ConversationConflict(conversation_id)
        return state.version, record

    async def _carried(
        self, before: str | None, record: ConversationRecord, stored: ConversationRecord | None
    ) -> list[ChatMessage]:
        """What a new conversation needs of the one that it goes on from: copies up to `before`.

        Raises `ConversationConflict` where there is no such entry.
        """
        if before is None or (stored is not None and stored.head_id == before):
            return []
        try:
            if stored is None:
                return await self._history(await self._place(before), before, None)
            if await self._message(self.key(record.conversation_id), before) is not None:
                return []
        except LookupError:
            pass
        raise ConversationConflict(record.conversation_id)

    async def _append(
        self, key: str, messages: list[ChatMessage], record: ConversationRecord, *, is_new: bool
    ) -> list[str]:
        """Append if nobody else does; the ids of the messages."""
        attributes = self._of_session(record)
        if is_new and not messages:
            await self.history.describe(key, **attributes)
        appended = list[str]()
        tail = _tail(await self.history.load(key, 1)) if messages else ""
        for some in _in_parts(messages):
            try:
                receipt = await self.history.append(
                    key, *some, session=attributes, expect_tail=tail
                )
            except ConflictError:
                info = await self.history.session(key)
                if info is not None and info.closed:
                    raise
                raise ConversationConflict(record.conversation_id) from None
            appended += receipt.message_ids
            tail = receipt.message_ids[-1]
        return appended

    def _of_session(self, record: ConversationRecord) -> dict[str, Any]:
        given: Any = self._attributes.get("meta") or {}
        scope = {} if record.scope is None else {"sender": record.scope}
        return {**self._attributes, **scope, "meta": {**given, **_KEPT_BY}}

    async def _keys(self, scope: str | None) -> AsyncIterator[str]:
        cursor = None
        while True:
            page = await self.history.sessions(
                meta=_KEPT_BY, sender=scope, limit=_SESSIONS, cursor=cursor
            )
            for info in page:
                if info.key.startswith(self._prefix):
                    yield info.key
            if (cursor := page.cursor) is None:
                return

    async def _place(self, id_: str) -> str:
        """The key of the session with that entry; raises `LookupError` if there is none."""
        if isinstance(id_, _EntryId):
            return id_.key
        cursor = None
        while True:
            page = await self.history.search(f'"{id_}"', within="extra", cursor=cursor)
            for hit in page:
                if is_entry(hit.message) and entry_id(hit.message) == id_:
                    return hit.key
            if (cursor := page.cursor) is None:
                raise LookupError(id_)

    async def _message(self, key: str, id_: str) -> ChatMessage | None:
        try:
            (message,) = await self.history.load(key, 1, around_platform_id=id_)
        except OperationRefusedError:
            return None
        return message

    def _record(self, state: SessionState, key: str) -> ConversationRecord | None:
        """The record in the state of that session; a fork or a renamed one is of its own key."""
        if state.value is None:
            return None
        record = _records.validate_python(state.value)
        return replace(
            record,
            conversation_id=key.removeprefix(self._prefix),
            head_id=None if record.head_id is None else _EntryId.of(record.head_id, key),
            branches=[_EntryId.of(id_, key) for id_ in record.branches],
        )


def search_history_tool(history: Any, scope: Scope) -> Tool[Any]:
    """The tool with which an agent finds messages within `scope`.

    `history` is a producer, awaited or not. A mistake of the model is a failed call, which says
    what would be right. The scope is that of one user as a rule, so give the tool to a run, not to
    an agent: `agent.run(…, toolsets=[FunctionToolset([search_history_tool(…)])])`.
    """
    tool: HistoryTool | AsyncHistoryTool = search_history(history, scope)

    async def call(**arguments: Any) -> str:
        try:
            if isinstance(tool, AsyncHistoryTool):
                return await tool.call(arguments)
            return await asyncio.to_thread(tool.call, arguments)
        except ToolCallError as error:
            raise ToolFailed(str(error)) from None

    return Tool.from_schema(call, tool.name, tool.description, tool.parameters)


def _entry(message: ChatMessage, key: str) -> ConversationEntry:
    entry = entry_of(message)
    parent = None if entry.parent_id is None else _EntryId.of(entry.parent_id, key)
    return replace(entry, id=_EntryId.of(entry.id, key), parent_id=parent)


def _tail(newest: Sequence[ChatMessage]) -> str:
    """What `expect_tail` takes for a session whose newest messages are these."""
    return (newest[-1].message_id or "") if newest else ""


def _in_parts(messages: Sequence[ChatMessage]) -> Iterator[list[ChatMessage]]:
    """The messages, a few mebibytes at a time: an operation has no more than 16."""
    part, size = list[ChatMessage](), 0
    for message in messages:
        length = len(orjson.dumps(message.extra)) + 4 * len(message.content)
        if part and size + length > _WRITE_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += length
    if part:
        yield part
