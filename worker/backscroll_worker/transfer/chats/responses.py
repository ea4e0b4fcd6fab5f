"""Items of OpenAI's Responses API, which Codex keeps, as messages.

Calls of tools and their results get the form of chat completions, which `load(legal=True)` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from backscroll.channels.message import file
from backscroll.channels.values import objects
from backscroll.contract.attachments import Attachment
from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.chats.conversation import ASSISTANT, REASONING, Conversation

_CALLS: Final = ("function_call", "custom_tool_call", "local_shell_call")
_RESULTS: Final = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


def add_item(made: Conversation, item: Mapping[str, Any], at: datetime | None) -> bool:
    """Add a message, a call or a result; False if the item is none of these."""
    kind = item.get("type", "message")
    said, files = _said(item.get("content")), _files(item.get("content"))
    if kind == "message" and (said or files):
        made.add(item.get("role") or ASSISTANT, said, at, attachments=files)
    elif kind in _CALLS:
        asked = item.get("arguments", item.get("input", item.get("action")))
        calls = [call(item.get("call_id"), item.get("name") or kind, asked)]
        made.add(ASSISTANT, "", at, extra={"tool_calls": calls})
    elif kind in _RESULTS:
        answered = {"tool_call_id": item.get("call_id")}
        made.add("tool", _said(item.get("output")), at, extra=answered)
    elif kind == "reasoning":
        made.not_kept[REASONING] += 1
    else:
        return False
    return True


def call(id_: object, name: object, arguments: object) -> dict[str, Any]:
    """A call of a tool as chat completions have it."""
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def _files(content: object) -> list[Attachment]:
    """The pictures in a message, of which the bytes are not taken over."""
    return [file("image") for part in objects(content) if part.get("type") == "input_image"]


def _said(content: object) -> str:
    return content if isinstance(content, str) else text_of(content)
