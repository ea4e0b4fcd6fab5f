"""The events of Google's ADK as messages of a history, and back.

What comes back is equal, as ADK's own JSON form keeps it. What is said is found by search, and
calls of functions and their responses are known as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from google.adk.events.event import Event

from backscroll.contract.messages import ChatMessage
from backscroll.integrations.raw import Place, kept, restored

_RAW: Final = "google_adk"
_TOOLS: Final = "google_adk_tools"
_USER: Final = "user"
_KINDS: Final = (
    ("function_call", "tool_use", "id"),
    ("function_response", "tool_result", "tool_use_id"),
)


def message_of(event: Event, user_id: str) -> ChatMessage:
    """The message that stands for an event; the user is the author of what the user said."""
    raw = event.model_dump(mode="json", exclude_none=True)
    parts = (raw.get("content") or {}).get("parts") or []
    said = list(_texts(parts))
    extra = kept(_RAW, raw, said[0][0] if len(said) == 1 else None)
    if tools := list(_tools(parts)):
        extra[_TOOLS] = tools
    is_user = event.author == _USER
    answers = bool(parts) and all("function_response" in part for part in parts)
    return ChatMessage(
        "user" if is_user else "tool" if answers else "assistant",
        "\n".join(text for _, text in said),
        extra,
        created_at=datetime.fromtimestamp(event.timestamp, UTC) if event.timestamp > 0 else None,
        author=user_id if is_user else None,
        platform_id=event.id,
    )


def event_of(message: ChatMessage) -> Event:
    """The event that the message stands for; of one that was edited since, what it says now.

    What something else than ADK has appended is an event with that text.
    """
    raw = restored(_RAW, message.extra, message.content)
    if raw is None:
        is_user = message.role == "user"
        said = {"role": "user" if is_user else "model", "parts": [{"text": message.content}]}
        raw = {"author": _USER if is_user else message.role, "content": said}
        raw["id"] = message.platform_id or message.message_id
        if message.created_at is not None:
            raw["timestamp"] = message.created_at.timestamp()
    return Event.model_validate(raw)


def _texts(parts: list[Mapping[str, Any]]) -> Iterator[tuple[Place, str]]:
    """What is said, thoughts excepted, and where each text stands."""
    for number, part in enumerate(parts):
        if isinstance(text := part.get("text"), str) and not part.get("thought"):
            yield ("content", "parts", number, "text"), text


def _tools(parts: list[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """The calls and responses, in the form in which a history looks for them."""
    for part in parts:
        for name, kind, id_name in _KINDS:
            if isinstance(id_ := (part.get(name) or {}).get("id"), str):
                yield {"type": kind, id_name: id_}
