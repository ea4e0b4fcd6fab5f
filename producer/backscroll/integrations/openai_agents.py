"""The history of OpenAI Agents: `BackscrollSession`, a session of that SDK.

It needs the package `openai-agents`: `pip install 'backscroll[openai-agents]'`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Final, cast

from agents import SessionSettings, TResponseInputItem
from agents.memory.session_settings import coerce_session_settings, resolve_session_limit

from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.connecting import connect_async
from backscroll.contract.errors import ConflictError
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.integrations.openai_items import item_of, message_of
from backscroll.integrations.opened import history_of
from backscroll.integrations.settling import settled

Item = TResponseInputItem

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class CompactionSnapshot:
    """The newest items, for `OpenAIResponsesCompactionSession` to replace some of them."""

    items: list[Item]
    complete: bool
    """Whether these are all that the session has."""
    replace_suffix: Callable[[int, list[Item]], Awaitable[bool]]
    """Puts other items in the place of those from that one on; False if they have changed."""


class BackscrollSession:
    """The items of one conversation, in the session `prefix + session_id` of a history.

    `history` is an `AsyncProducer`, an `AsyncLocal`, or a URL: "sqlite://chat.db" or
    "jsonl://chats" for a store in this process, "redis://…" for the queue. What a URL opens is
    shared by all sessions of the process, and open until it ends; what you give is yours to close.

    `author` and `author_name` are who speaks as "user". `attributes` are those of the session, as
    `append` takes them: `{"channel": "web", "sender": "42"}`. `session_settings` are the SDK's; its
    `limit` is how many items a run reads when it does not say.

    Any number of event loops may use it. A call that is cancelled ends when its outcome is known.
    All raise as the calls of `AsyncProducer`.
    """

    session_settings: SessionSettings | None

    def __init__(
        self,
        session_id: str,
        history: AsyncChatHistory | str,
        *,
        prefix: str = "",
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
        session_settings: SessionSettings | dict[str, Any] | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = coerce_session_settings(session_settings or SessionSettings())
        self.history = history_of(history, connect_async)
        self.key = prefix + session_id
        """The key of the session: `session.history.search("…", key=session.key)`."""
        self._author = author
        self._author_name = author_name
        self._attributes = attributes

    async def get_items(self, limit: int | None = None) -> list[Item]:
        """The newest `limit` items, oldest first; without one, those that the settings say."""
        limit = resolve_session_limit(limit, self.session_settings)
        if limit is not None and limit <= 0:
            return []
        return _items(await self.history.load(self.key, limit))

    async def add_items(self, items: list[Item]) -> None:
        """Add the items, all or none."""
        if items:
            await settled(
                self.history.append(self.key, *self._messages(items), session=self._attributes)
            )

    async def pop_item(self) -> Item | None:
        """Remove the newest item and return it; None if there is none."""
        popped = _items(await settled(self.history.pop(self.key)))
        return popped[0] if popped else None

    async def clear_session(self) -> None:
        """Remove all items; the session's attributes stay."""
        await settled(self.history.clear(self.key))

    async def _pop_item_with_validation(
        self, validate: Callable[[Item], None] | None = None
    ) -> Item | None:
        """Remove the newest item and return it, unless `validate` raises: then it stays.

        It is the newest one at that moment, whatever others add or remove meanwhile.
        """
        if validate is None:
            return await self.pop_item()
        while messages := await self.history.load(self.key, 1):
            (item,) = _items(messages)
            validate(item)
            if await self._replaced(messages, []):
                return item
        return None

    async def _atomic_replace_items(self, items: list[Item]) -> bool:
        """Put `items` in the place of all; False where a subclass stores them in a way of its own.

        `OpenAIResponsesCompactionSession` asks for it.
        """
        if self._is_overridden:
            return False
        await settled(self.history.splice(self.key, *self._messages(items), remove="all"))
        return True

    async def _get_compaction_snapshot(
        self, limit: int, *, prune_prefix: Callable[[Item], bool] | None = None
    ) -> CompactionSnapshot | None:
        """The newest `limit` items; `OpenAIResponsesCompactionSession` asks for it.

        With them may go what is older and passes `prune_prefix`, up to the first that does not.
        """
        if self._is_overridden:
            return None
        loaded = await self.history.load(self.key, limit + 1)
        newest = loaded[-limit:]

        async def replace_suffix(start: int, items: list[Item]) -> bool:
            if not (replaced := newest[start:]):
                return False
            pruned = await self._prefix(prune_prefix, replaced[0]) if prune_prefix else []
            return await self._replaced(replaced, self._messages(items), pruned)

        return CompactionSnapshot(_items(newest), len(loaded) <= limit, replace_suffix)

    async def _prefix(self, wanted: Callable[[Item], bool], end: ChatMessage) -> list[ChatMessage]:
        """The first messages, as long as they pass, and before `end`."""
        found: list[ChatMessage] = []
        page = await self.history.load(self.key, _PAGE, end.message_id, oldest=True)
        while page:
            passing = list(takewhile(lambda message: wanted(*_items([message])), page))
            found += passing
            if len(passing) < len(page):
                break
            last = page[-1].message_id
            page = await self.history.load(self.key, _PAGE, end.message_id, after=last)
        return found

    async def _replaced(
        self,
        newest: Sequence[ChatMessage],
        messages: Sequence[ChatMessage],
        others: Sequence[ChatMessage] = (),
    ) -> bool:
        """Whether `messages` took the place of the session's newest ones; `others` go with them."""
        write = self.history.splice(
            self.key,
            *messages,
            expect=_ids(newest),
            remove=_ids([*others, *newest]),
        )
        try:
            await settled(write)
        except ConflictError:
            return False
        return True

    @property
    def _is_overridden(self) -> bool:
        """Whether a subclass has a way of its own to read or write items."""
        own = BackscrollSession
        return (type(self).get_items, type(self).add_items) != (own.get_items, own.add_items)

    def _messages(self, items: Sequence[Item]) -> list[ChatMessage]:
        return [message_of(item, self._author, self._author_name) for item in items]


def _items(messages: Sequence[ChatMessage]) -> list[Item]:
    return [cast(Item, item_of(message)) for message in messages]


def _ids(messages: Sequence[ChatMessage]) -> list[str]:
    return [message.message_id for message in messages if message.message_id is not None]
