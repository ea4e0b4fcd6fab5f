"""Chat-completions messages, a session a line, as fine-tuning takes them.

    {"messages":[{"role":…,"content":…,"name":…,"tool_calls":…,"tool_call_id":…},…]}

Of a message's `extra` come along `name`, `tool_calls` and `tool_call_id`; and `content`, when it is
a list of parts, in the place of the text. Sessions without messages are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import orjson

from backscroll.contract.messages import ChatMessage
from backscroll_worker.transfer.sessions import ExportedSession

CARRIED: Final = ("name", "tool_calls", "tool_call_id")


def openai(sessions: Iterable[ExportedSession]) -> Iterator[bytes]:
    """One line a session."""
    for session in sessions:
        before = b'{"messages":['
        for message in session.messages:
            yield before + orjson.dumps(_fields(message))
            before = b","
        if before == b",":
            yield b"]}\n"


def _fields(message: ChatMessage) -> dict[str, Any]:
    extra = message.extra or {}
    parts = extra.get("content")
    content = parts if isinstance(parts, list) else message.content
    carried = {name: extra[name] for name in CARRIED if extra.get(name) is not None}
    return {"role": message.role, "content": content, **carried}
