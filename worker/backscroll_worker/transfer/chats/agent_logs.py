"""The logs of agents, a JSON object a line: Claude Code, Codex, OpenClaw and nanobot.

One file is one session. Calls of tools and their results are kept in the form of the model's
provider, in `extra`, so that `load(legal=True)` knows them. A line that is not JSON is reported;
one that is not part of the conversation (a snapshot, a change of the model) is counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

from backscroll_worker.contract.interchange import BadLineError, parse_object
from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.chats.conversation import (
    ASSISTANT,
    Conversation,
    Options,
    items,
    mapping,
    moment,
    text,
)

_REASONING: Final = "reasoning"
_OTHER: Final = "lines that are no messages"
_BAD: Final = "lines that are not JSON"
_CALLS: Final = ("tool_use", "tool_result")


def form_of(first: Mapping[str, Any]) -> str | None:
    """Whose log begins with this object; None if it is nobody's."""
    kind = first.get("type")
    if first.get("_type") == "metadata":
        return "nanobot"
    if kind == "session" and "id" in first:
        return "openclaw"
    if kind in ("session_meta", "response_item", "event_msg") and "payload" in first:
        return "codex"
    if "sessionId" in first or (kind == "summary" and "leafUuid" in first):
        return "claude_code"
    return None


def read(
    form: str, lines: Iterable[tuple[int, bytes]], name: str, options: Options
) -> Iterator[Conversation]:
    """The sessions in a log of that form, whose file has that name."""
    yield from _READERS[form](_objects(lines), name, options)


class _Bad:
    """Stands for a line that is not JSON."""


def _objects(lines: Iterable[tuple[int, bytes]]) -> Iterator[Mapping[str, Any] | _Bad]:
    for _, raw in lines:
        try:
            yield parse_object(raw)
        except BadLineError:
            yield _Bad()


def _claude_code(
    entries: Iterator[Mapping[str, Any] | _Bad], name: str, options: Options
) -> Iterator[Conversation]:
    made = Conversation(options.key("claude-code", PurePath(name).stem), channel="cli")
    for entry in entries:
        if isinstance(entry, _Bad):
            made.not_kept[_BAD] += 1
            continue
        kind, message = entry.get("type"), mapping(entry.get("message"))
        if kind == "summary":
            made.name = text(entry.get("summary")) or made.name
            continue
        if kind not in ("user", "assistant") or not message or entry.get("isMeta"):
            made.not_kept[_OTHER] += 1
            continue
        if entry.get("isSidechain"):
            made.not_kept["messages of subagents"] += 1
            continue
        content = message.get("content")
        blocks = [mapping(block) for block in items(content)]
        made.not_kept[_REASONING] += sum(block.get("type") == "thinking" for block in blocks)
        called = [block for block in blocks if block.get("type") in _CALLS]
        said = content if isinstance(content, str) else text_of(_spoken(blocks))
        if not said and not called:
            continue
        made.add(
            message.get("role") or kind,
            said,
            moment(entry.get("timestamp")),
            platform_id=text(entry.get("uuid")),
            tokens=_tokens(mapping(message.get("usage")), "output_tokens"),
            extra=_known(content=called, model=message.get("model")),
        )
    yield made


def _openclaw(
    entries: Iterator[Mapping[str, Any] | _Bad], name: str, options: Options
) -> Iterator[Conversation]:
    made = Conversation(options.key("openclaw", PurePath(name).stem))
    for entry in entries:
        if isinstance(entry, _Bad):
            made.not_kept[_BAD] += 1
            continue
        if entry.get("type") == "session":
            made.key = options.key("openclaw", entry.get("id"))
            continue
        message = mapping(entry.get("message"))
        if entry.get("type") != "message" or not message:
            made.not_kept[_OTHER] += 1
            continue
        content = message.get("content")
        blocks = [mapping(block) for block in items(content)]
        made.not_kept[_REASONING] += sum(block.get("type") == "thinking" for block in blocks)
        calls = [
            _call(block.get("id"), block.get("name"), block.get("arguments"))
            for block in blocks
            if block.get("type") == "toolCall"
        ]
        said = content if isinstance(content, str) else text_of(_spoken(blocks))
        result, role = message.get("toolCallId"), message.get("role")
        if not said and not calls and result is None:
            continue
        made.add(
            "tool" if role == "toolResult" else role or "user",
            said,
            moment(entry.get("timestamp")) or moment(message.get("timestamp")),
            platform_id=text(entry.get("id")),
            reply_to=None,
            tokens=_tokens(mapping(message.get("usage")), "output"),
            extra=_known(
                tool_calls=calls,
                tool_call_id=result,
                name=message.get("toolName"),
                model=message.get("model"),
            ),
        )
    yield made


def _codex(
    entries: Iterator[Mapping[str, Any] | _Bad], name: str, options: Options
) -> Iterator[Conversation]:
    made = Conversation(options.key("codex", PurePath(name).stem), channel="cli")
    for entry in entries:
        if isinstance(entry, _Bad):
            made.not_kept[_BAD] += 1
            continue
        payload, at = mapping(entry.get("payload")), moment(entry.get("timestamp"))
        if entry.get("type") == "session_meta":
            made.key = options.key("codex", payload.get("id") or PurePath(name).stem)
            continue
        kind = payload.get("type")
        if entry.get("type") != "response_item":
            made.not_kept[_OTHER] += 1  # what a user said is a response item, too
        elif kind == "message":
            said = text_of(items(payload.get("content"))) or text(payload.get("content"))
            if said:
                made.add(payload.get("role") or "user", said, at)
        elif kind in ("function_call", "custom_tool_call", "local_shell_call"):
            asked = payload.get("arguments", payload.get("input", payload.get("action")))
            call = _call(payload.get("call_id"), payload.get("name") or kind, asked)
            made.add(ASSISTANT, "", at, extra={"tool_calls": [call]})
        elif kind in ("function_call_output", "custom_tool_call_output"):
            output = payload.get("output")
            said = output if isinstance(output, str) else text_of(output)
            made.add("tool", said, at, extra=_known(tool_call_id=payload.get("call_id")))
        else:
            made.not_kept[_REASONING if kind == "reasoning" else _OTHER] += 1
    yield made


def _nanobot(
    entries: Iterator[Mapping[str, Any] | _Bad], name: str, options: Options
) -> Iterator[Conversation]:
    made = Conversation(options.key("nanobot", PurePath(name).stem))
    for entry in entries:
        if isinstance(entry, _Bad):
            made.not_kept[_BAD] += 1
            continue
        if entry.get("_type") == "metadata":
            made.key = options.key("nanobot", entry.get("key") or PurePath(name).stem)
            continue
        left = {
            field: value
            for field, value in entry.items()
            if field not in ("role", "content", "timestamp")
        }
        content = entry.get("content")
        if not isinstance(entry.get("role"), str):
            made.not_kept[_OTHER] += 1
            continue
        if not isinstance(content, str):
            if content is not None:
                left["content"] = content
            content = text_of(content)
        made.add(entry["role"], content, moment(entry.get("timestamp")), extra=left)
    yield made


_READERS: Final = {
    "claude_code": _claude_code,
    "openclaw": _openclaw,
    "codex": _codex,
    "nanobot": _nanobot,
}


def _spoken(blocks: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [block for block in blocks if block.get("type") == "text"]


def _call(id_: object, name: object, arguments: object) -> dict[str, Any]:
    """A call of a tool as OpenAI's messages have it."""
    return {
        "id": id_,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def _known(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], "")}


def _tokens(usage: Mapping[str, Any], name: str) -> int | None:
    count = usage.get(name)
    return count if type(count) is int and count >= 0 else None
