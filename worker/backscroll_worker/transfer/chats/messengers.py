"""The exports of messengers as JSON: Telegram Desktop and DiscordChatExporter.

Everybody in them is a user, but for whom the options call the assistant, and the bot of a Telegram
bot's chat. Keys are those that an adapter gives the same conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

from backscroll.contract.attachments import Attachment
from backscroll_worker.transfer.chats.conversation import (
    ASSISTANT,
    Conversation,
    Options,
    file,
    items,
    mapping,
    moment,
    text,
)

_SUPERGROUPS: Final = ("supergroup", "channel")
_OTHERS: Final = ("location_information", "contact_information", "poll")
_NOT_THERE: Final = "(File"  # of an export without files, in the place of a path


def telegram(document: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """Telegram Desktop's `result.json`: of one chat, or of an account with `chats.list`."""
    chats = mapping(document.get("chats"))
    if chats:
        left = mapping(document.get("left_chats"))
        for chat in [*items(chats.get("list")), *items(left.get("list"))]:
            yield _telegram_chat(mapping(chat), options)
    else:
        yield _telegram_chat(document, options)


def _telegram_chat(chat: Mapping[str, Any], options: Options) -> Conversation:
    id_, kind = chat.get("id"), text(chat.get("type"))
    if "group" in kind or "channel" in kind:
        # As the Bot API writes them: -100 before the id of a supergroup or channel.
        id_ = f"-100{id_}" if kind.endswith(_SUPERGROUPS) else f"-{id_}"
    made = Conversation(options.key("telegram", id_), channel="telegram", room=str(id_))
    made.name = text(chat.get("name")) or None
    for message in map(mapping, items(chat.get("messages"))):
        if message.get("type") != "message":
            made.not_kept["events, such as who joined"] += 1
            continue
        _add_telegram(made, message, options, bot=chat.get("id") if kind == "bot_chat" else None)
    return made


def _add_telegram(
    made: Conversation, message: Mapping[str, Any], options: Options, bot: object
) -> None:
    author, name = text(message.get("from_id")), text(message.get("from"))
    number = author.removeprefix("user").removeprefix("channel").removeprefix("chat")
    role = options.role_of(author, number, name)
    if bot is not None and number == str(bot):
        role = ASSISTANT
    files = _telegram_files(message)
    others = {kind: message[kind] for kind in _OTHERS if message.get(kind)}
    made.not_kept["reactions"] += bool(message.get("reactions"))
    made.not_kept["what an edited message said before"] += "edited" in message
    said = _telegram_text(message.get("text"))
    known = {"forwarded_from": message.get("forwarded_from"), **others}
    if not said and not files and not others:
        return
    reply = message.get("reply_to_message_id")
    made.add(
        role,
        said,
        moment(message.get("date_unixtime")) or moment(message.get("date")),
        author=number,
        author_name=name,
        platform_id=str(message.get("id", "")),
        reply_to=None if reply is None else str(reply),
        attachments=files,
        extra={name: value for name, value in known.items() if value},
    )


def _telegram_files(message: Mapping[str, Any]) -> list[Attachment]:
    """A photo or a file; instead of a path there may be why the export does not have it."""
    size = message.get("file_size", message.get("photo_file_size"))
    if message.get("photo"):
        return [file("image", _path(message["photo"]), size=size)]
    if message.get("file"):
        name = message.get("file_name") or _path(message["file"])
        kind = text(message.get("media_type")).removesuffix("_file") or "file"
        return [file(kind, name, message.get("mime_type"), size)]
    return []


def _path(value: object) -> str | None:
    path = text(value)
    return None if path.startswith(_NOT_THERE) else PurePath(path).name


def _telegram_text(value: object) -> str:
    """Text, or a list of text and of objects that have it."""
    return text(value) or "".join(
        part if isinstance(part, str) else text(mapping(part).get("text")) for part in items(value)
    )


def discord(document: Mapping[str, Any], options: Options) -> Iterator[Conversation]:
    """DiscordChatExporter's JSON: one channel."""
    guild, channel = mapping(document["guild"]), mapping(document["channel"])
    made = Conversation(options.key("discord", channel.get("id")), channel="discord")
    made.room = text(channel.get("id")) or None
    made.name = (
        " / ".join(filter(None, (text(guild.get("name")), text(channel.get("name"))))) or None
    )
    for message in map(mapping, items(document["messages"])):
        author = mapping(message.get("author"))
        attached = [mapping(each) for each in items(message.get("attachments"))]
        made.not_kept["reactions"] += bool(message.get("reactions"))
        made.not_kept["embeds"] += len(items(message.get("embeds")))
        made.not_kept["what an edited message said before"] += bool(message.get("timestampEdited"))
        said = text(message.get("content"))
        if message.get("type") not in ("Default", "Reply", "0", "19", None) and not said:
            made.not_kept["events, such as who joined"] += 1
            continue
        if not said and not attached:
            continue
        names = author.get("id"), author.get("name"), author.get("nickname")
        made.add(
            options.role_of(*names),
            said,
            moment(message.get("timestamp")),
            author=text(author.get("id")),
            author_name=text(author.get("nickname")) or text(author.get("name")),
            platform_id=text(message.get("id")),
            reply_to=text(mapping(message.get("reference")).get("messageId")),
            attachments=[
                file(
                    "file",
                    each.get("fileName"),
                    size=each.get("fileSizeBytes"),
                    url=each.get("url"),
                    platform_id=each.get("id"),
                )
                for each in attached
            ],
        )
    yield made
