"""The history of LangChain's older chains: a `BaseChatMessageHistory`.

LangChain has deprecated that class, and keeps it until version 2: this is for programs that use
`RunnableWithMessageHistory` or a memory. It needs `langchain-core`:
`pip install 'backscroll[langchain]'`.
"""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, messages_from_dict

from backscroll import connect
from backscroll.client_chat_history import ChatHistory
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.integrations.langchain_messages import message_of, raw_of, said_in
from backscroll.integrations.opened import history_of


class BackscrollChatMessageHistory(BaseChatMessageHistory):
    """The messages of one conversation, in the session `prefix + session_id` of a history.

    `history` is a `Producer`, a `Local`, or a URL: "sqlite://chat.db" or "jsonl://chats" for a
    store in this process, "redis://…" for the queue. What a URL opens is shared by all of the
    process, and open until it ends; what you give is yours to close.

    `limit` is how many messages a chain gets at most, the newest, without tool results whose call
    is not among them. `author` and `author_name` are who speaks as "human"; `attributes` are those
    of the session, as `append` takes them.

    Threads may share one. All raise as the calls of `Producer`.
    """

    def __init__(
        self,
        session_id: str,
        history: ChatHistory | str,
        *,
        prefix: str = "",
        limit: int | None = None,
        author: str | None = None,
        author_name: str | None = None,
        attributes: SessionAttributes | None = None,
    ) -> None:
        self.history = history_of(history, connect)
        self.key = prefix + session_id
        """The key of the session: `chat.history.search("…", key=chat.key)`."""
        self._limit = limit
        self._author = author
        self._author_name = author_name
        self._attributes = attributes

    @property
    def messages(self) -> list[BaseMessage]:  # type: ignore[override]  # as LangChain advises
        """The messages, oldest first."""
        loaded = self.history.load(self.key, self._limit, legal=self._limit is not None)
        return [from_message(message) for message in loaded]

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add the messages, all or none."""
        if messages:
            made = [to_message(each, self._author, self._author_name) for each in messages]
            self.history.append(self.key, *made, session=self._attributes)

    def clear(self) -> None:
        """Remove all messages; the session's attributes stay."""
        self.history.clear(self.key)


def to_message(
    message: BaseMessage,
    author: str | None = None,
    author_name: str | None = None,
    *,
    once: bool = False,
) -> ChatMessage:
    """The message of a history that stands for one of LangChain's.

    The author is whoever speaks as "human". `once`: its id becomes the platform id, so that it is
    stored once, however often it is appended.

    Raises `InvalidInputError` for what LangChain could not load again.
    """
    raw = {"type": message.type, "data": message.model_dump(mode="json")}
    try:
        messages_from_dict([raw])
    except ValueError as error:
        raise InvalidInputError("messages", str(error)) from None
    return message_of(raw, author, author_name, message.id if once else None)


def from_message(message: ChatMessage) -> BaseMessage:
    """LangChain's message that it stands for; of one that was edited since, what it says now."""
    try:
        (made,) = messages_from_dict([raw_of(message)])
    except (ValueError, KeyError, TypeError):  # as one that LangChain has never loaded may be
        (made,) = messages_from_dict([said_in(message)])
    return made
