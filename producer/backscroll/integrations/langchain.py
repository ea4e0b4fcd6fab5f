"""The history of LangChain's older chains: a `BaseChatMessageHistory`.

LangChain has deprecated that class, and keeps it until version 2: this is for programs that use
`RunnableWithMessageHistory` or a memory. It needs `langchain-core`:
`pip install 'backscroll[langchain]'`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import BaseMessage, messages_from_dict

from backscroll import connect
from backscroll.client_chat_history import ChatHistory
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage, SessionAttributes
from backscroll.integrations.opened import history_of
from backscroll.integrations.raw import Place, kept, restored, role_of

_RAW: Final = "langchain"
_TOOLS: Final = "langchain_tools"
_ROLES: Final = {"human": "user", "ai": "assistant", "function": "tool"}
_TYPES: Final = {"user": "human", "assistant": "ai", "system": "system"}
_CONTENT: Final = ("data", "content")


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
    data = message.model_dump(mode="json")
    raw = {"type": message.type, "data": data}
    try:
        messages_from_dict([raw])
    except ValueError as error:
        raise InvalidInputError("messages", str(error)) from None
    role = role_of(_ROLES.get(message.type, getattr(message, "role", message.type)), "assistant")
    said = list(_texts(message.content))
    extra = kept(_RAW, raw, said[0][0] if len(said) == 1 else None)
    if tools := list(_tools(data)):
        extra[_TOOLS] = tools
    if role != "user":
        author = author_name = None
    return ChatMessage(
        role,
        "\n".join(text for _, text in said),
        extra,
        author=author,
        author_name=author_name,
        platform_id=message.id if once else None,
    )


def from_message(message: ChatMessage) -> BaseMessage:
    """LangChain's message that it stands for; of one that was edited since, what it says now."""
    raw = restored(_RAW, message.extra, message.content)
    if raw is None:
        kind = _TYPES.get(message.role, "chat")
        data = {"content": message.content, "role": message.role, "type": kind}
        raw = {"type": kind, "data": data}
        if kind != "chat":
            del data["role"]
    (made,) = messages_from_dict([raw])
    return made


def _texts(content: str | list[Any]) -> Iterator[tuple[Place, str]]:
    """What is said, and where each text stands."""
    if isinstance(content, str):
        yield _CONTENT, content
        return
    for number, block in enumerate(content):
        if isinstance(block, str):
            yield (*_CONTENT, number), block
        elif isinstance(text := block.get("text"), str) and block.get("type") == "text":
            yield (*_CONTENT, number, "text"), text


def _tools(data: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The calls and results, in the form in which a history looks for them."""
    for call in data.get("tool_calls") or ():
        if isinstance(call.get("id"), str):
            yield {"type": "tool_use", "id": call["id"]}
    if isinstance(data.get("tool_call_id"), str):
        yield {"type": "tool_result", "tool_use_id": data["tool_call_id"]}
