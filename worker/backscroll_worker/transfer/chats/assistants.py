"""The exports of web assistants: ChatGPT, Claude and Open WebUI.

All three are a JSON array of conversations. Those of ChatGPT and Open WebUI, and newer ones of
Claude, are trees: an answer that was made anew and a question that was edited begin another branch.
The branch that the program shows becomes the session, each other one a session of its own, whose
key has the id of its first own message behind a `~`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from backscroll.channels.message import file
from backscroll.channels.values import mapping, name, objects
from backscroll.contract.attachment_checks import MAX_KIND_CHARS
from backscroll.contract.attachments import Attachment
from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.chats.conversation import (
    ASSISTANT,
    REASONING,
    USER,
    Conversation,
    Options,
    items,
    moment,
    text,
    trees,
)

_HIDDEN: Final = "hidden messages"
_TEXTS: Final = ("text", "multimodal_text")


def chatgpt(conversation: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """ChatGPT: `mapping` has the messages by id, `current_node` ends the branch that is shown."""
    nodes = mapping(conversation["mapping"])
    id_ = conversation.get("conversation_id") or conversation.get("id")
    current = conversation.get("current_node")
    for made, way in trees("chatgpt", id_, nodes, "parent", current, options):
        made.name = text(conversation.get("title")) or None
        for node in way:
            _add_chatgpt(made, node, mapping(mapping(nodes[node]).get("message")))
        yield made


def _add_chatgpt(made: Conversation, id_: str, message: Mapping[str, Any]) -> None:
    if not message:
        return  # the root
    content, about = mapping(message.get("content")), mapping(message.get("metadata"))
    author = mapping(message.get("author"))
    kind = content.get("content_type")
    if kind in ("thoughts", "reasoning_recap"):
        made.not_kept[REASONING] += 1
        return
    parts = items(content.get("parts"))
    # What was said aloud is an object, too; what a tool found or ran is beside the parts.
    texts = [text(mapping(part).get("text")) or text(part) for part in parts]
    files = [part for part in objects(parts) if not text(part.get("text"))]
    said = "\n".join(filter(None, texts)) or text(content.get("text"))
    said = said or text(content.get("result"))
    role = author.get("role") or USER
    if about.get("is_visually_hidden_from_conversation") or (role == "system" and not said):
        made.not_kept[_HIDDEN] += bool(said)
        return
    attached = objects(about.get("attachments"))
    if not said and not parts and not attached:
        made.not_kept["content of other kinds"] += kind not in (None, *_TEXTS)
        return
    known = {
        "model": about.get("model_slug"),
        "content_type": None if kind in _TEXTS else kind,
        "name": author.get("name"),
        "recipient": None if message.get("recipient") == "all" else message.get("recipient"),
    }
    made.add(
        role,
        said,
        moment(message.get("create_time")),
        platform_id=id_,
        attachments=_chatgpt_files(files, attached),
        extra={name: value for name, value in known.items() if value is not None},
    )


def _chatgpt_files(
    shown: list[Mapping[str, Any]], attached: list[Mapping[str, Any]]
) -> list[Attachment]:
    """What is among the parts, and what was attached besides; pictures may be in both."""
    pointers = [text(each.get("asset_pointer")) for each in shown]
    among_parts = [
        file(
            name(text(each.get("content_type")).removesuffix("_asset_pointer"), MAX_KIND_CHARS),
            size=each.get("size_bytes"),
            platform_id=each.get("asset_pointer"),
        )
        for each in shown
    ]
    beside = [
        file(
            name_=each.get("name"),
            mime_type=each.get("mime_type") or each.get("mimeType"),
            size=each.get("size"),
            platform_id=each.get("id"),
        )
        for each in attached
        if not any(pointer.endswith(text(each.get("id")) or "/") for pointer in pointers)
    ]
    return among_parts + beside


def claude(conversation: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """Claude: `chat_messages` in order, in newer exports with the id of the one before."""
    by_id = _by_id("uuid", conversation["chat_messages"])
    id_, current = conversation["uuid"], conversation.get("current_leaf_message_uuid")
    for made, way in trees("claude", id_, by_id, "parent_message_uuid", current, options):
        made.name = text(conversation.get("name")) or None
        for node in way:
            _add_claude(made, node, by_id[node])
        yield made


def _add_claude(made: Conversation, id_: str, message: Mapping[str, Any]) -> None:
    blocks = objects(message.get("content"))
    tools = [block for block in blocks if block.get("type") in ("tool_use", "tool_result")]
    made.not_kept[REASONING] += sum(block.get("type") == "thinking" for block in blocks)
    spoken = [text(block.get("text")) for block in blocks if block.get("type") == "text"]
    said = "\n\n".join(filter(None, spoken)) or text(message.get("text"))
    attached = objects(message.get("attachments"))
    said = "\n\n".join(filter(None, [said, *(text(a.get("extracted_content")) for a in attached)]))
    files = [*attached, *objects(message.get("files"))]
    if not said and not tools and not files:
        return
    role = USER if message.get("sender") == "human" else ASSISTANT
    made.add(
        role,
        said,
        moment(message.get("created_at")),
        platform_id=id_,
        attachments=[
            file(
                name_=each.get("file_name"),
                mime_type=each.get("file_type"),
                size=each.get("file_size"),
            )
            for each in files
        ],
        extra={"content": tools} if tools else None,
    )


def open_webui(conversation: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """Open WebUI: `chat.history.messages` by id, `currentId` ends the branch that is shown."""
    chat = mapping(conversation["chat"])
    history = mapping(chat.get("history"))
    nodes = mapping(history.get("messages")) or _by_id("id", chat.get("messages"))
    id_, current = conversation["id"], history.get("currentId")
    for made, way in trees("openwebui", id_, nodes, "parentId", current, options):
        made.name = text(conversation.get("title")) or text(chat.get("title")) or None
        for node in way:
            _add_open_webui(made, node, mapping(nodes[node]))
        yield made


def _add_open_webui(made: Conversation, id_: str, message: Mapping[str, Any]) -> None:
    content = message.get("content")
    made.add(
        message.get("role") or USER,
        content if isinstance(content, str) else text_of(content),
        moment(message.get("timestamp")),
        platform_id=id_,
        attachments=[
            file(
                name(each.get("type"), MAX_KIND_CHARS),
                name_=each.get("name"),
                size=each.get("size"),
                platform_id=each.get("id"),
            )
            for each in objects(message.get("files"))
        ],
        extra={"model": message["model"]} if message.get("model") else None,
    )


def _by_id(field: str, messages: object) -> dict[str, Mapping[str, Any]]:
    """A list of messages by their ids; by their places where they have none."""
    listed = enumerate(map(mapping, items(messages)))
    return {text(each.get(field)) or str(number): each for number, each in listed}
