"""The items of the OpenAI Agents SDK as messages, and messages as items.

An item is an object of the Responses API: what somebody said, a call of a tool, its result,
reasoning, and more. It comes back equal; what it says is found by search, and its calls and results
are known as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, message_for, restored, role_of

_RAW: Final = "openai_agents"
_PLAIN: Final = {"role", "content"}


def message_of(
    item: object, author: str | None = None, author_name: str | None = None
) -> ChatMessage:
    """The message that stands for an item; the author is whoever speaks as "user".

    Raises `InvalidInputError` for what is not a dict.
    """
    if not isinstance(item, dict):
        raise InvalidInputError("items", f"must be dicts, not {type(item).__name__}")
    said_in = "tool" if str(item.get("type")).endswith("_output") else "assistant"
    role = role_of(item.get("role"), said_in)
    content, text_at = _text(item)
    extra: dict[str, Any] | None = None
    if item.keys() != _PLAIN or role != item["role"] or text_at != ("content",):
        extra = kept(_RAW, item, text_at) | _exchange(item)
    said = ((text_at, content),)
    return message_for(role, said, extra, author=author, author_name=author_name)


def item_of(message: ChatMessage) -> dict[str, Any]:
    """The item that the message stands for; of one that another adapter wrote, what it says."""
    item = restored(_RAW, message.extra, message.content)
    return {"role": message.role, "content": message.content} if item is None else item


def _text(item: Mapping[str, Any]) -> tuple[str, Place | None]:
    """What is said in an item, and where in it that stands by itself."""
    for name in ("content", "output"):
        said = item.get(name)
        if isinstance(said, str):
            return said, (name,)
        if isinstance(said, list) and item.get("type") != "reasoning":
            parts = [
                (place, part["text"])
                for place, part in enumerate(said)
                if isinstance(part, dict) and isinstance(part.get("text"), str)
            ]
            if len(parts) == 1:
                return parts[0][1], (name, parts[0][0], "text")
            return "\n".join(text for _, text in parts), None
    return "", None


def _exchange(item: Mapping[str, Any]) -> dict[str, Any]:
    """The call of a tool or the result in an item, in the form of chat completions."""
    kind, id_ = item.get("type"), item.get("call_id")
    if not isinstance(kind, str) or not isinstance(id_, str):
        return {}
    if kind.endswith("_output"):
        return {"tool_call_id": id_}
    name, arguments = item.get("name", kind), item.get("arguments", item.get("input", ""))
    function = {"name": name, "arguments": arguments}
    return {"tool_calls": [{"id": id_, "type": "function", "function": function}]}
