"""LangChain's messages, as `messages_to_dict` writes them, as messages of a history, and back.

A message comes back equal; what it says is found by search, and its calls and results are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, message_for, restored, role_of

_RAW: Final = "langchain"
_TOOLS: Final = "langchain_tools"
_ROLES: Final = {
    "human": "user",
    "HumanMessageChunk": "user",
    "ai": "assistant",
    "AIMessageChunk": "assistant",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "function": "tool",
    "FunctionMessageChunk": "tool",
}
_TYPES: Final = {"user": "human", "assistant": "ai", "system": "system"}
_CONTENT: Final = ("data", "content")


def message_of(
    raw: Mapping[str, Any],
    author: str | None = None,
    author_name: str | None = None,
    platform_id: str | None = None,
) -> ChatMessage:
    """The message that stands for one with `type` and `data`; the author speaks as "human"."""
    kind, data = raw["type"], raw["data"]
    role = role_of(_ROLES.get(kind, data.get("role", kind)), "assistant")
    said = list(_texts(data.get("content")))
    extra = kept(_RAW, raw, said[0][0] if len(said) == 1 else None)
    if tools := list(_tools(data)):
        extra[_TOOLS] = tools
    return message_for(
        role, said, extra, author=author, author_name=author_name, platform_id=platform_id
    )


def raw_of(message: ChatMessage) -> dict[str, Any]:
    """What LangChain loads as the message; of one that was edited since, with what it says now."""
    return restored(_RAW, message.extra, message.content) or said_in(message)


def said_in(message: ChatMessage) -> dict[str, Any]:
    """The same with its role and its text only."""
    kind = _TYPES.get(message.role, "chat")
    data = {"content": message.content, "type": kind}
    return {"type": kind, "data": {**data, "role": message.role} if kind == "chat" else data}


def _texts(content: object) -> Iterator[tuple[Place, str]]:
    """What is said, and where each text stands."""
    if isinstance(content, str):
        yield _CONTENT, content
        return
    for number, block in enumerate(content if isinstance(content, list) else ()):
        if isinstance(block, str):
            yield (*_CONTENT, number), block
            continue
        known = block if isinstance(block, dict) else {}
        if isinstance(text := known.get("text"), str) and known.get("type") == "text":
            yield (*_CONTENT, number, "text"), text


def _tools(data: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The calls and results, in the form in which a history looks for them."""
    before = data.get("additional_kwargs")  # where LangChain kept calls at first
    calls = data.get("tool_calls") or (isinstance(before, dict) and before.get("tool_calls"))
    for call in calls if isinstance(calls, list) else ():
        if isinstance(call, dict) and isinstance(call.get("id"), str):
            yield {"type": "tool_use", "id": call["id"]}
    if isinstance(data.get("tool_call_id"), str):
        yield {"type": "tool_result", "tool_use_id": data["tool_call_id"]}
