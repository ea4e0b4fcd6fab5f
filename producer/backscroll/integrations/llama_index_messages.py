"""The messages of LlamaIndex as messages of a history, and back.

What comes back is equal, as far as LlamaIndex itself writes it down as JSON. What is said is found
by search, and calls of tools and their results are known as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from llama_index.core.base.llms.types import ChatMessage as LlamaMessage
from llama_index.core.base.llms.types import MessageRole

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, message_for, restored

_RAW: Final = "llama_index"
_TOOLS: Final = "llama_index_tools"
_ARCHIVED: Final = "llama_index_archived"
_ROLES: Final = {"chatbot": "assistant", "model": "assistant", "function": "tool"}


def to_message(
    message: LlamaMessage,
    author: str | None = None,
    author_name: str | None = None,
    *,
    archived: bool = False,
) -> ChatMessage:
    """The message of a history that stands for one of LlamaIndex; `archived` from the start.

    The author is whoever speaks as "user". Raises `InvalidInputError` for what is not JSON.
    """
    try:
        record = message.model_dump(mode="json")
    except ValueError as error:
        raise InvalidInputError("messages", str(error)) from None
    role = _ROLES.get(message.role.value, message.role.value)
    said = list(_texts(record["blocks"], ("blocks",)))
    extra = kept(_RAW, record, said[0][0] if len(said) == 1 else None)
    if tools := list(_tools(record)):
        extra[_TOOLS] = tools
    if archived:
        extra[_ARCHIVED] = True
    return message_for(role, said, extra, author=author, author_name=author_name)


def from_message(message: ChatMessage) -> LlamaMessage:
    """The message of LlamaIndex that it stands for.

    Of one that another adapter wrote, or that was edited since, what it says now.
    """
    record = restored(_RAW, message.extra, message.content)
    if record is not None:
        return LlamaMessage.model_validate(record)
    role = MessageRole.USER
    with suppress(ValueError):  # of a role that LlamaIndex does not have
        role = MessageRole(message.role)
    return LlamaMessage(message.content, role=role)


def was_archived(message: ChatMessage) -> bool:
    """Whether the message was added as an archived one."""
    return (message.extra or {}).get(_ARCHIVED) is True


def _texts(blocks: Sequence[Mapping[str, Any]], place: Place) -> Iterator[tuple[Place, str]]:
    """What is said in blocks, also in those that have blocks, and where."""
    for number, block in enumerate(blocks):
        at = (*place, number)
        if block.get("block_type") == "text":
            yield (*at, "text"), block["text"]
        elif isinstance(inside := block.get("content"), list):
            yield from _texts(inside, (*at, "content"))


def _tools(record: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The calls and results, in the form in which a history looks for them.

    Calls are blocks, or, of some models, OpenAI's in `additional_kwargs`.
    """
    more = record["additional_kwargs"]
    called = [block.get("tool_call_id") for block in record["blocks"]]
    others = more.get("tool_calls")
    if isinstance(others, list):
        called += [each.get("id") for each in others if isinstance(each, dict)]
    for id_ in dict.fromkeys(called):
        if isinstance(id_, str):
            yield {"type": "tool_use", "id": id_}
    if isinstance(more.get("tool_call_id"), str):
        yield {"type": "tool_result", "tool_use_id": more["tool_call_id"]}
