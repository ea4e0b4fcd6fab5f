"""The exports of web assistants: ChatGPT, Claude and Open WebUI.

All three are a JSON array of conversations. Those of ChatGPT and Open WebUI, and newer ones of
Claude, are trees: an answer that was made anew and a question that was edited begin another branch.
The branch that the program shows becomes the session, each other one a session of its own, whose
key has the id of its last message behind a `~`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.chats.conversation import (
    ASSISTANT,
    USER,
    Conversation,
    Options,
    branches,
    file,
    items,
    mapping,
    moment,
    of_branches,
    text,
)

_HIDDEN: Final = "hidden messages"
_REASONING: Final = "reasoning"


def chatgpt(conversation: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """ChatGPT: `mapping` has the messages by id, `current_node` ends the branch that is shown."""
    nodes = mapping(conversation["mapping"])
    parents = {id_: _parent(node, "parent") for id_, node in nodes.items()}
    id_ = str(conversation.get("conversation_id") or conversation.get("id") or "")
    ways = branches(parents, conversation.get("current_node"))
    for made, way in of_branches("chatgpt", id_, ways, options):
        made.name = text(conversation.get("title")) or None
        for node in way:
            _add_chatgpt(made, mapping(mapping(nodes[node]).get("message")))
        yield made


def _add_chatgpt(made: Conversation, message: Mapping[str, Any]) -> None:
    if not message:
        return  # the root
    content, about = mapping(message.get("content")), mapping(message.get("metadata"))
    author = mapping(message.get("author"))
    kind = content.get("content_type")
    if kind in ("thoughts", "reasoning_recap"):
        made.not_kept[_REASONING] += 1
        return
    parts = items(content.get("parts"))
    files = [mapping(part) for part in parts if isinstance(part, dict)]
    said = "\n".join(part for part in parts if isinstance(part, str)) or text(content.get("text"))
    role = author.get("role") or USER
    if about.get("is_visually_hidden_from_conversation") or (role == "system" and not said):
        made.not_kept[_HIDDEN] += bool(said)
        return
    if not said and not parts:
        return
    known = {
        "model": about.get("model_slug"),
        "content_type": None if kind in ("text", "multimodal_text") else kind,
        "name": author.get("name"),
        "recipient": None if message.get("recipient") == "all" else message.get("recipient"),
    }
    made.add(
        role,
        said,
        moment(message.get("create_time")),
        platform_id=text(message.get("id")),
        attachments=[
            file(
                text(each.get("content_type")).removesuffix("_asset_pointer") or "file",
                size=each.get("size_bytes"),
                platform_id=each.get("asset_pointer"),
            )
            for each in files
        ],
        extra={name: value for name, value in known.items() if value is not None},
    )


def claude(conversation: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """Claude: `chat_messages` in order, in newer exports with the id of the one before."""
    messages = [mapping(each) for each in items(conversation["chat_messages"])]
    by_id = {text(each.get("uuid")) or str(number): each for number, each in enumerate(messages)}
    ids = list(by_id)
    before = dict(zip(ids[1:], ids, strict=False))
    parents = {
        id_: _parent(each, "parent_message_uuid")
        if "parent_message_uuid" in each
        else before.get(id_)
        for id_, each in by_id.items()
    }
    current = conversation.get("current_leaf_message_uuid")
    ways = branches(parents, current)
    for made, way in of_branches("claude", str(conversation.get("uuid", "")), ways, options):
        made.name = text(conversation.get("name")) or None
        for id_ in way:
            _add_claude(made, id_, by_id[id_])
        yield made


def _add_claude(made: Conversation, id_: str, message: Mapping[str, Any]) -> None:
    blocks = [mapping(block) for block in items(message.get("content"))]
    tools = [block for block in blocks if block.get("type") in ("tool_use", "tool_result")]
    made.not_kept[_REASONING] += sum(block.get("type") == "thinking" for block in blocks)
    spoken = [text(block.get("text")) for block in blocks if block.get("type") == "text"]
    said = "\n\n".join(filter(None, spoken)) or text(message.get("text"))
    attached = [mapping(each) for each in items(message.get("attachments"))]
    said = "\n\n".join(filter(None, [said, *(text(a.get("extracted_content")) for a in attached)]))
    files = [*attached, *map(mapping, items(message.get("files")))]
    if not said and not tools and not files:
        return
    role = USER if message.get("sender") == "human" else ASSISTANT
    made.add(
        role,
        said,
        moment(message.get("created_at")),
        platform_id=id_,
        attachments=[
            file("file", each.get("file_name"), each.get("file_type"), each.get("file_size"))
            for each in files
        ],
        extra={"content": tools} if tools else None,
    )


def open_webui(conversation: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """Open WebUI: `chat.history.messages` by id, `currentId` ends the branch that is shown."""
    chat = mapping(conversation["chat"])
    history = mapping(chat.get("history"))
    nodes = mapping(history.get("messages"))
    if not nodes:
        listed = [mapping(each) for each in items(chat.get("messages"))]
        nodes = {text(each.get("id")) or str(number): each for number, each in enumerate(listed)}
    ids = list(nodes)
    before = dict(zip(ids[1:], ids, strict=False))
    parents = {
        id_: _parent(node, "parentId") if "parentId" in mapping(node) else before.get(id_)
        for id_, node in nodes.items()
    }
    ways = branches(parents, history.get("currentId"))
    for made, way in of_branches("openwebui", str(conversation.get("id", "")), ways, options):
        made.name = text(conversation.get("title")) or text(chat.get("title")) or None
        for id_ in way:
            message = mapping(nodes[id_])
            files = [mapping(each) for each in items(message.get("files"))]
            content = message.get("content")
            made.add(
                message.get("role") or USER,
                content if isinstance(content, str) else text_of(content),
                moment(message.get("timestamp")),
                platform_id=id_,
                attachments=[
                    file(
                        text(each.get("type")) or "file",
                        each.get("name"),
                        size=each.get("size"),
                        platform_id=each.get("id"),
                    )
                    for each in files
                ],
                extra={"model": message["model"]} if message.get("model") else None,
            )
        yield made


def _parent(node: object, name: str) -> str | None:
    parent = mapping(node).get(name)
    return parent if isinstance(parent, str) else None
