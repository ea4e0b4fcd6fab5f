"""The messages of Microsoft's Agent Framework as messages of a history, and back.

What comes back is equal, as far as the framework itself writes it down. What is said, also by
functions, is found by search, and calls of functions and their results are known as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agent_framework import Message

from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, message_for, restored, role_of

_RAW: Final = "agent_framework"
_CALLS: Final = "agent_framework_calls"


def to_message(
    message: Message, author: str | None = None, author_name: str | None = None
) -> ChatMessage:
    """The message of a history that stands for one of the framework's.

    The author is whoever speaks as "user".
    """
    record = message.to_dict()
    contents = [_once(content) for content in record["contents"]]
    record["contents"] = contents
    said = list(_texts(contents))
    role = role_of(message.role, "assistant")
    extra = kept(_RAW, record, said[0][0] if len(said) == 1 else None)
    if calls := list(_calls(contents)):
        extra[_CALLS] = calls
    return message_for(role, said, extra, author=author, author_name=author_name)


def from_message(message: ChatMessage) -> Message:
    """The framework's message that it stands for.

    Of one that another adapter wrote, or that was edited since, what it says now.
    """
    record = restored(_RAW, message.extra, message.content)
    if record is None:
        return Message(message.role, [message.content])
    return Message.from_dict(record | {"contents": [_whole(each) for each in record["contents"]]})


def not_stored(existing: Sequence[Message], given: Sequence[Message]) -> list[Message]:
    """Those of `given` that come after the messages which it repeats of `existing`.

    An agent may be given the whole conversation anew. What has no id may also be said twice: it is
    taken for repeated only if something new follows it, and a user's only with what was before.
    """
    known, new = [_identity(each) for each in existing], [_identity(each) for each in given]
    ends = [
        *range(len(known), len(new) + 1),
        *range(min(len(known) - 1, len(new)), 0, -1),
    ]
    for end in ends if known else ():
        overlap = min(len(known), end)
        if known[-overlap:] != new[end - overlap : end]:
            continue
        last = given[end - 1]
        is_alone = overlap == 1 and last.role == "user"
        if last.message_id or (end < len(new) and not is_alone):
            return list(given[end:])
    return list(given)


def _identity(message: Message) -> object:
    return message.message_id or (message.role, [each.to_dict() for each in message.contents])


def _once(content: Mapping[str, Any]) -> dict[str, Any]:
    """A content as it is kept: `items` that only repeat the result of a function are None."""
    repeated = _items(content)
    return {**content, "items": None} if repeated == content.get("items") else dict(content)


def _whole(content: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `_once`."""
    left_out = content.get("type") == "function_result" and content.get("items", "") is None
    return {**content, "items": _items(content)} if left_out else content


def _items(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content.get("result"), "additional_properties": {}}]


def _texts(contents: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Place | None, str]]:
    """What is said, and where it stands by itself."""
    for number, content in enumerate(contents):
        place = ("contents", number)
        if content.get("type") == "text":
            yield (*place, "text"), content["text"]
        elif content.get("type") == "function_result":
            result, items = content.get("result"), content.get("items")
            if isinstance(result, str):
                yield None if items else (*place, "result"), result


def _calls(contents: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """The calls of functions and their results, in the form in which a history looks for them."""
    for content in contents:
        id_ = content.get("call_id")
        if not isinstance(id_, str):
            continue
        if content.get("type") == "function_call":
            yield {"type": "tool_use", "id": id_}
        elif content.get("type") == "function_result":
            yield {"type": "tool_result", "tool_use_id": id_}
