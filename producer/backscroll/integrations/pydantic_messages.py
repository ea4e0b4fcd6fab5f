"""The messages of Pydantic AI as messages of a history, and back.

What comes back is equal, as far as Pydantic AI's own JSON form keeps it. What somebody said, also a
tool, is found by search, and calls of tools and their results are known as such.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse

from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, message_for, restored

_RAW: Final = "pydantic_ai"
_ENTRY: Final = "pydantic_ai_entry"
_TOOLS: Final = "pydantic_ai_tools"

_SAID: Final = ("user-prompt", "text", "tool-return", "retry-prompt", "retry-feedback")
"""The parts whose content somebody said."""
_CALL: Final = ("tool_use", "id")
_RESULT: Final = ("tool_result", "tool_use_id")
_OF_CALLS: Final = {"tool-call": _CALL, "tool-return": _RESULT, "retry-prompt": _RESULT}


def messages_of(
    entries: Iterable[ConversationEntry], author: str | None, author_name: str | None
) -> list[ChatMessage]:
    """The messages that stand for the entries; the author is whoever speaks as "user"."""
    return [_message_of(entry, author, author_name) for entry in entries]


def entry_of(message: ChatMessage) -> ConversationEntry:
    """The entry that the message stands for; of one that was edited since, what it says now.

    What something else than Pydantic AI has appended is an entry with that text.
    """
    raw = restored(_RAW, message.extra, message.content) or _plain(message)
    said: ModelMessage = ModelMessagesTypeAdapter.validate_python([raw])[0]
    return ConversationEntry(id=entry_id(message), parent_id=parent_id(message), message=said)


def entry_id(message: ChatMessage) -> str:
    """The id of the entry that the message stands for."""
    return message.platform_id or message.message_id or ""


def parent_id(message: ChatMessage) -> str | None:
    """The id of the entry before that one; None for the first, and for what is no entry."""
    entry = (message.extra or {}).get(_ENTRY)
    value = entry.get("parent_id") if isinstance(entry, dict) else None
    return value if isinstance(value, str) else None


def is_entry(message: ChatMessage) -> bool:
    """Whether the message stands for an entry."""
    return message.platform_id is not None and _ENTRY in (message.extra or {})


def chained(
    messages: Sequence[ChatMessage], head_id: str, limit: int | None, *, is_whole: bool
) -> list[ChatMessage] | None:
    """Those that lead to the entry `head_id`, itself included, the last `limit` of them, in order.

    `messages` are the newest of a session, in order; `is_whole`: all of them. Where the entry
    before one has been removed from it, the message before it is the next. None if the head or more
    messages are needed.
    """
    places = {entry_id(message): place for place, message in enumerate(messages)}
    place = places.get(head_id, -1)
    chain = list[ChatMessage]()
    while place >= 0 and (limit is None or len(chain) < limit):
        message = messages[place]
        chain.append(message)
        parent = parent_id(message)
        if parent is None and is_entry(message):
            break
        older = places.get(parent or "", place)
        if older >= place:  # removed, or not loaded
            if not is_whole:
                return None
            older = place - 1
        place = older
    return chain[::-1] or None


def _message_of(
    entry: ConversationEntry, author: str | None, author_name: str | None
) -> ChatMessage:
    raw: dict[str, Any] = ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")[0]
    parts = raw["parts"]
    kinds = {part["part_kind"] for part in parts}
    said = list(_texts(parts))
    text_at = said[0][0] if len(said) == 1 else None
    extra = kept(_RAW, raw, text_at)
    extra[_ENTRY] = {"id": entry.id, "parent_id": entry.parent_id}
    if tools := list(_tools(parts)):
        extra[_TOOLS] = tools
    if isinstance(entry.message, ModelResponse):
        role = "assistant"
    elif "user-prompt" in kinds:
        role = "user"
    else:
        role = "system" if kinds == {"system-prompt"} else "tool"
    return message_for(
        role,
        said,
        extra,
        created_at=_created_at(entry.message.timestamp),
        author=author,
        author_name=author_name,
        platform_id=entry.id,
    )


def _texts(parts: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Place | None, str]]:
    """What is said, and where each text stands by itself; not what can only be shown as text."""
    for number, part in enumerate(parts):
        if part["part_kind"] not in _SAID:
            continue
        content, place = part.get("content"), ("parts", number, "content")
        if isinstance(content, str):
            yield place, content
        elif isinstance(content, list) and part["part_kind"] == "user-prompt":
            for inside, item in enumerate(content):
                if isinstance(item, str):
                    yield (*place, inside), item
                elif isinstance(text := item.get("content"), str):
                    yield (*place, inside, "content"), text
        elif content is not None:
            yield None, orjson.dumps(content).decode()


def _tools(parts: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """The calls and results, in the form in which a history looks for them."""
    for part in parts:
        call = part.get("tool_call_id")
        if part["part_kind"] in _OF_CALLS and isinstance(call, str):
            kind, name = _OF_CALLS[part["part_kind"]]
            yield {"type": kind, name: call}


def _plain(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"content": message.content}
    when = {} if message.created_at is None else {"timestamp": message.created_at}
    if message.role == "assistant":
        return {"kind": "response", "parts": [{"part_kind": "text", **said}], **when}
    kind = "system-prompt" if message.role == "system" else "user-prompt"
    return {"kind": "request", "parts": [{"part_kind": kind, **said, **when}], **when}


def _created_at(moment: datetime | None) -> datetime | None:
    return moment if moment is not None and moment.tzinfo and moment.year >= 1970 else None
