"""The messages of Strands Agents as messages of a history, and back.

What comes back is equal. What is said, also by tools, is found by search, and uses of tools and
their results are known as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, message_for, restored, role_of

_RAW: Final = "strands"
_TOOLS: Final = "strands_tools"


def platform_id(agent_id: str, number: int) -> str:
    """The id of an agent's message with that number, in a session that agents may share."""
    return f"{agent_id}/{number}"


def message_of(
    record: Mapping[str, Any], agent_id: str, author: str | None, author_name: str | None
) -> ChatMessage:
    """The message that stands for a `SessionMessage`, as its `to_dict` gives it.

    It says what is left of one that was redacted. The author is whoever speaks as "user".
    """
    name = "message" if record.get("redact_message") is None else "redact_message"
    blocks = record[name].get("content") or []
    said = list(_texts(blocks, (name, "content")))
    role = role_of(record[name].get("role"), "assistant")
    if blocks and all("toolResult" in block for block in blocks):
        role = "tool"
    extra = kept(_RAW, record, said[0][0] if len(said) == 1 else None)
    if tools := list(_tools(blocks)):
        extra[_TOOLS] = tools
    return message_for(
        role,
        said,
        extra,
        author=author,
        author_name=author_name,
        platform_id=platform_id(agent_id, record["message_id"]),
    )


def record_of(message: ChatMessage, agent_id: str) -> dict[str, Any] | None:
    """The `SessionMessage` of the agent that the message stands for, as its `from_dict` takes it.

    Of one that was edited since, what it says now. None for what is not the agent's.
    """
    agent, _, number = (message.platform_id or "").rpartition("/")
    if agent != agent_id or not number.isdecimal():
        return None
    record = restored(_RAW, message.extra, message.content)
    if record is None:
        role = "assistant" if message.role == "assistant" else "user"
        said = {"role": role, "content": [{"text": message.content}]}
        record = {"message": said, "message_id": int(number)}
    return record


def _texts(blocks: Any, place: tuple[str | int, ...]) -> Iterator[tuple[Place, str]]:
    """What is said in blocks, and where."""
    for number, block in enumerate(blocks):
        at = (*place, number)
        if isinstance(block.get("text"), str):
            yield (*at, "text"), block["text"]
        elif "toolResult" in block:
            inside = (*at, "toolResult", "content")
            yield from _texts(block["toolResult"].get("content") or [], inside)


def _tools(blocks: Any) -> Iterator[dict[str, Any]]:
    """The uses of tools and their results, in Anthropic's form."""
    for block in blocks:
        if used := block.get("toolUse"):
            yield {"type": "tool_use", "id": used.get("toolUseId"), "name": used.get("name")}
        elif done := block.get("toolResult"):
            yield {"type": "tool_result", "tool_use_id": done.get("toolUseId")}
