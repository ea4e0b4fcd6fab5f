"""The logs of agents, a JSON object a line: Claude Code, Codex, OpenClaw and nanobot.

One file is one session. Calls of tools and their results are kept in the form of the model's
provider, in `extra`, so that `load(legal=True)` knows them. Lines that are not JSON, or
not part of the conversation (a snapshot, a change of the model), are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from backscroll.channels.message import file
from backscroll.channels.values import mapping, objects
from backscroll.contract.attachments import Attachment
from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.chats.conversation import (
    NOT_UNICODE,
    REASONING,
    REPEATED,
    USER,
    Conversation,
    Options,
    moment,
    text,
    trees,
    value_in,
)
from backscroll_worker.transfer.chats.responses import add_item, call
from backscroll_worker.transfer.source import STANDARD_INPUT_NAME

_OTHER: Final = "lines that are no messages"
_BAD: Final = "lines that are not JSON"
_CALLS: Final = ("tool_use", "tool_result")
_NOT_SAID: Final = (  # by the user of Codex
    "<environment_context>",
    "<user_instructions>",
    "# AGENTS.md instructions for ",
    "<turn_aborted>",
)
_NEEDED: Final = ("type", "uuid", "timestamp", "message")  # of Claude Code's messages
_FILES: Final = {"image": "image", "document": "file"}


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
    if kind is None and {"id", "timestamp", "instructions"} <= first.keys():
        return "codex"  # of 2025
    return None


def read(
    form: str, lines: Iterable[tuple[int, bytes]], name: str, options: Options
) -> Iterator[Conversation]:
    """The session in a log of that form, whose file has that name."""
    log = _LOGS[form]
    if form == "openclaw":
        yield from _tree(log, lines, name, options)
        return
    if form == "claude_code":
        yield from _rewound(log, lines, name, options)
        return
    is_named = name != STANDARD_INPUT_NAME  # or all that come from there would be one session
    made = Conversation(options.key(log.program, PurePath(name).stem if is_named else None))
    made.channel = log.channel
    has_own_key = False
    for entry in _entries(lines, made.not_kept):
        # The first one counts: what a session goes on from may stand behind it.
        if not has_own_key and (key := options.key(log.program, log.id_of(entry))):
            made.key, has_own_key = key, True
        if not log.add(made, entry, options):
            made.not_kept[_OTHER] += 1
    yield made


def _entries(
    lines: Iterable[tuple[int, bytes]], not_kept: Counter[str]
) -> Iterator[Mapping[str, Any]]:
    """The JSON objects in the lines; what is not kept of them is counted."""
    for _, raw in lines:
        found = value_in(raw)
        not_kept[_BAD] += found is None
        if found is not None:
            not_kept[NOT_UNICODE] += found.is_altered
            yield found.fields


def _tree(
    log: _Log, lines: Iterable[tuple[int, bytes]], name: str, options: Options
) -> Iterator[Conversation]:
    """OpenClaw's: an entry has the id of the one before, and the last one ends what is shown.

    What is not a message is left out of the way to those behind it.
    """
    id_: object = None if name == STANDARD_INPUT_NAME else PurePath(name).stem
    messages, above, beside = (
        dict[str, Mapping[str, Any]](),
        dict[str, str | None](),
        Counter[str](),
    )
    has_own_id, last = False, None
    for number, entry in enumerate(_entries(lines, beside), 1):
        if (own := log.id_of(entry)) is not None:
            id_, has_own_id = (id_ if has_own_id else own), True
        else:
            node, parent = text(entry.get("id")) or f"entry {number}", entry.get("parentId", last)
            above[node] = text(parent) or None
            is_message = log.add(Conversation(""), entry, options)
            if is_message:
                above[node] = node
                messages[node] = {**entry, "parentId": _message_above(above, parent)}
            beside[_OTHER] += not is_message
            last = node
    current = _message_above(above, last)
    for made, way in trees(log.program, id_, messages, "parentId", current, options):
        made.channel = log.channel
        for node in way:
            log.add(made, messages[node], options)
        made.not_kept.update(beside)
        beside.clear()
        yield made


def _rewound(
    log: _Log, lines: Iterable[tuple[int, bytes]], name: str, options: Options
) -> Iterator[Conversation]:
    """Claude Code's: entries are in order, but that a prompt may go back behind earlier ones.

    Other entries have the one before them as the parent, or one of several calls at once.
    """
    id_: object = None if name == STANDARD_INPUT_NAME else PurePath(name).stem
    nodes, beside = dict[str, Mapping[str, Any]](), Counter[str]()
    places, prompts = dict[str, str | None](), set[str | None]()
    title, last = None, None
    for number, entry in enumerate(_entries(lines, beside), 1):
        id_ = log.id_of(entry) if id_ is None else id_
        alone = Conversation("", name=title)
        if not log.add(alone, entry, options):
            beside[_OTHER] += 1
        title, own = alone.name, text(entry.get("uuid"))
        if alone.messages and own in nodes:
            beside[REPEATED] += 1
        elif alone.messages:
            before, node = last, own or f"entry {number}"
            if _is_prompt(entry):
                above = text(entry.get("parentUuid"))
                if above in places and _leaves(nodes, last, places[above], prompts):
                    before = places[above]
                prompts.add(node)
            kept = {each: entry[each] for each in _NEEDED if each in entry}
            nodes[node], last = {**kept, "before": before}, node
        else:  # what is beside the messages, such as reasoning, is counted once
            beside.update(alone.not_kept)
        if own:
            places.setdefault(own, last)
    for made, way in trees(log.program, id_, nodes, "before", last, options):
        made.channel, made.name = log.channel, title
        for node in way:
            log.add(made, nodes[node], options)
        made.not_kept.update(beside)
        beside.clear()
        yield made


def _is_prompt(entry: Mapping[str, Any]) -> bool:
    content = mapping(entry.get("message")).get("content")
    results = [block for block in objects(content) if block.get("type") in _CALLS]
    return entry.get("type") == "user" and not results


def _leaves(
    nodes: Mapping[str, Mapping[str, Any]],
    last: str | None,
    above: str | None,
    prompts: Container[str | None],
) -> bool:
    """Whether what goes on behind `above` leaves a prompt that came after it."""
    while last is not None and last != above:
        if last in prompts:
            return True
        last = nodes[last]["before"]
    return False


def _message_above(above: Mapping[str, str | None], node: object) -> str | None:
    """The nearest message from there on up, itself or the one that it goes on from."""
    seen = set[str]()
    while isinstance(node, str) and node in above and node not in seen:
        seen.add(node)
        if above[node] == node:
            return node
        node = above[node]
    return None


def _claude_code(made: Conversation, entry: Mapping[str, Any], options: Options) -> bool:
    kind, message = entry.get("type"), mapping(entry.get("message"))
    if kind == "summary":
        made.name = text(entry.get("summary")) or made.name
        return True
    if kind not in ("user", "assistant") or not message or entry.get("isMeta"):
        return False
    if entry.get("isSidechain"):
        made.not_kept["messages of subagents"] += 1
        return True
    content = message.get("content")
    blocks = objects(content)
    called = [block for block in blocks if block.get("type") in _CALLS]
    said = content if isinstance(content, str) else _spoken(made, blocks)
    files = _files(blocks)
    if said or called or files:
        _count_once(made, text(message.get("id")))
        made.add(
            message.get("role") or kind,
            said,
            moment(entry.get("timestamp")),
            platform_id=text(entry.get("uuid")),
            tokens=_tokens(mapping(message.get("usage")), "output_tokens"),
            attachments=files,
            extra=_known(content=called, model=message.get("model")),
        )
    return True


def _count_once(made: Conversation, answer: str) -> None:
    """An answer is in several lines, each with the tokens of all so far: the last ones count."""
    if not answer:
        return
    if (before := made.answers.get(answer)) is not None:
        made.messages[before] = replace(made.messages[before], tokens=None)
    made.answers[answer] = len(made.messages)


def _openclaw(made: Conversation, entry: Mapping[str, Any], options: Options) -> bool:
    if entry.get("type") == "session":
        return True
    message = mapping(entry.get("message"))
    if entry.get("type") != "message" or not message:
        return False
    content = message.get("content")
    blocks = objects(content)
    calls = [
        call(block.get("id"), block.get("name"), block.get("arguments"))
        for block in blocks
        if block.get("type") == "toolCall"
    ]
    said = content if isinstance(content, str) else _spoken(made, blocks)
    result, role, files = message.get("toolCallId"), message.get("role"), _files(blocks)
    if said or calls or files or result is not None:
        made.add(
            "tool" if role == "toolResult" else role or "user",
            said,
            moment(entry.get("timestamp")) or moment(message.get("timestamp")),
            platform_id=text(entry.get("id")),
            tokens=_tokens(mapping(message.get("usage")), "output"),
            attachments=files,
            extra=_known(
                tool_calls=calls,
                tool_call_id=result,
                name=message.get("toolName"),
                model=message.get("model"),
            ),
        )
    return True


def _codex(made: Conversation, entry: Mapping[str, Any], options: Options) -> bool:
    kind, at = entry.get("type"), moment(entry.get("timestamp"))
    if kind == "session_meta" or (kind is None and "instructions" in entry):
        return True
    if "payload" in entry and kind != "response_item":
        return False  # what a user said is a response item, too
    item = mapping(entry.get("payload", entry))  # without one in logs of 2025
    if item.get("role") == USER and text_of(item.get("content")).startswith(_NOT_SAID):
        made.not_kept["what the program told the model by itself"] += 1
        return True
    return isinstance(kind, str) and add_item(made, item, at)


def _nanobot(made: Conversation, entry: Mapping[str, Any], options: Options) -> bool:
    if entry.get("_type") == "metadata":
        return True
    role, content = entry.get("role"), entry.get("content")
    if not isinstance(role, str):
        return False
    left = {name: entry[name] for name in entry if name not in ("role", "content", "timestamp")}
    if not isinstance(content, str):
        if content is not None:
            left["content"] = content
        content = text_of(content)
    made.add(role, content, options.moment(entry.get("timestamp")), extra=left)
    return True


class _Log(NamedTuple):
    """A program's log; `add` takes an entry over, or returns False for one that is no message."""

    program: str
    channel: str | None
    add: Callable[[Conversation, Mapping[str, Any], Options], bool]
    id_of: Callable[[Mapping[str, Any]], object]
    """The session's id, in an entry that has it; None in others."""


def _id_in_codex(entry: Mapping[str, Any]) -> object:
    if entry.get("type") == "session_meta":
        return mapping(entry.get("payload")).get("id")
    return entry.get("id") if "instructions" in entry else None


_LOGS: Final = {
    "claude_code": _Log("claude-code", "cli", _claude_code, lambda each: each.get("sessionId")),
    "openclaw": _Log(
        "openclaw",
        None,
        _openclaw,
        lambda each: each.get("id") if each.get("type") == "session" else None,
    ),
    "codex": _Log("codex", "cli", _codex, _id_in_codex),
    "nanobot": _Log(
        "nanobot",
        None,
        _nanobot,
        lambda each: each.get("key") if each.get("_type") == "metadata" else None,
    ),
}


def _spoken(made: Conversation, blocks: list[Mapping[str, Any]]) -> str:
    """The text of these blocks; those of reasoning are counted."""
    made.not_kept[REASONING] += sum(block.get("type") == "thinking" for block in blocks)
    return text_of([block for block in blocks if block.get("type") == "text"])


def _files(blocks: list[Mapping[str, Any]]) -> list[Attachment]:
    """The pictures and documents among these blocks."""
    return [
        file(
            _FILES[kind],
            name_=block.get("title"),
            mime_type=mapping(block.get("source")).get("media_type") or block.get("mimeType"),
        )
        for block in blocks
        if isinstance(kind := block.get("type"), str) and kind in _FILES
    ]


def _known(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], "")}


def _tokens(usage: Mapping[str, Any], name: str) -> int | None:
    count = usage.get(name)
    return count if type(count) is int and count >= 0 else None
