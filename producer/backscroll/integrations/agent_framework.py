"""The history of Microsoft's Agent Framework: a history provider.

It needs the package `agent-framework-core`, or `agent-framework`:
`pip install 'backscroll[agent-framework]'`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agent_framework import HistoryProvider, Message

from backscroll import connect_async
from backscroll.aio_chat_history import AsyncChatHistory
from backscroll.contract.errors import ConflictError, InvalidInputError
from backscroll.contract.messages import SessionAttributes
from backscroll.integrations.agent_framework_messages import from_message, not_stored, to_message
from backscroll.integrations.opened import history_of
from backscroll.integrations.settling import settled

_SOURCE: Final = "backscroll"


class BackscrollHistoryProvider(HistoryProvider):
    """Messages of agents, each session's in the session `prefix + session_id` of a history.

    `history` is an `AsyncProducer`, an `AsyncLocal`, or a URL: "sqlite://chat.db" or
    "jsonl://chats" for a store in this process, "redis://…" for the queue. What a URL opens is
    shared by all of the process, and open until it ends; what you give is yours to close.

    `limit` is how many messages a run gets at most, the newest, without results of functions whose
    call is not among them. `author` and `author_name` are who speaks as "user". `attributes` are
    those of each session, as `append` takes them: `{"channel": "web", "sender": "42"}`. What
    follows is the framework's: what of a run is loaded and stored.

    Any number of event loops may use it. A call that is cancelled ends when its outcome is known.
    All raise as the calls of `AsyncProducer`.
    """

    def __init__(
        self,
        history: AsyncChatHistory | str,
        *,
        prefix: str = "",
        limit: int | None = None,
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
        source_id: str = _SOURCE,
        load_messages: bool = True,
        store_inputs: bool = True,
        store_context_messages: bool = False,
        store_context_from: set[str] | None = None,
        store_outputs: bool = True,
    ) -> None:
        super().__init__(
            source_id,
            load_messages=load_messages,
            store_inputs=store_inputs,
            store_context_messages=store_context_messages,
            store_context_from=store_context_from,
            store_outputs=store_outputs,
        )
        self.history: AsyncChatHistory = history_of(history, connect_async)
        self._prefix = prefix
        self._limit = limit
        self._author = author
        self._author_name = author_name
        self._attributes = attributes

    def key(self, session_id: str | None) -> str:
        """The key of that session: `history.search("…", key=provider.key(session.session_id))`.

        Raises `InvalidInputError` without an id: whoever has none would share one history.
        """
        if not session_id:
            raise InvalidInputError("session_id", "a session needs an id to be stored under")
        return self._prefix + session_id

    async def get_messages(
        self, session_id: str | None, *, state: dict[str, Any] | None = None, **kwargs: Any
    ) -> list[Message]:
        """The newest `limit` messages of the session, oldest first; [] where there is none."""
        loaded = await self.history.load(
            self.key(session_id), self._limit, legal=self._limit is not None
        )
        return [from_message(message) for message in loaded]

    async def save_messages(
        self,
        session_id: str | None,
        messages: Sequence[Message],
        *,
        state: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the messages, all or none, without those that the session ends with already.

        An agent may be given the whole conversation with each run; it is stored once.
        """
        key = self.key(session_id)
        if messages:
            await settled(self._save(key, messages))

    async def clear(self, session_id: str | None) -> None:
        """Remove all messages of the session; its attributes stay."""
        await settled(self.history.clear(self.key(session_id)))

    async def _save(self, key: str, messages: Sequence[Message]) -> None:
        refused: str | None = None
        while True:
            loaded = await self.history.load(key, len(messages))
            new = not_stored([from_message(each) for each in loaded], messages)
            if not new:
                return
            tail = (loaded[-1].message_id or "") if loaded else ""
            made = [to_message(each, self._author, self._author_name) for each in new]
            try:
                await self.history.append(
                    key, *made, expect_tail=tail, session=self._attributes, ack="stored"
                )
            except ConflictError:
                if tail == refused:  # nobody has added to it: it is closed
                    raise
                refused = tail
            else:
                return
