"""The exports of messengers as JSON: Telegram Desktop and DiscordChatExporter.

Everybody in them is a user, but for whom the options call the assistant, and the bot of a Telegram
bot's chat. Keys of groups and channels are those that an adapter gives them. A private chat has the
id of the other one there, and of a forum all topics are one session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any, Final, NamedTuple

from backscroll.channels.message import file
from backscroll.channels.values import identifier, mapping, name, objects
from backscroll.contract.attachment_checks import MAX_KIND_CHARS
from backscroll.contract.attachments import Attachment
from backscroll_worker.transfer.chats.conversation import (
    ASSISTANT,
    Conversation,
    Options,
    items,
    moment,
    text,
)

_SUPERGROUPS: Final = ("supergroup", "channel")
_OTHERS: Final = ("location_information", "contact_information", "poll")
_NAMES: Final = ("first", "last")
_DISCORD_SAID: Final = ("Default", "Reply", "0", "19", None)
_DISCORD_EVENTS: Final = (
    "RecipientAdd", "RecipientRemove", "Call", "ChannelNameChange", "ChannelIconChange",
    "ChannelPinnedMessage", "GuildMemberJoin", "ThreadCreated", *map(str, range(1, 19)),
)  # fmt: skip
"""Which have a text in the export that nobody said, such as "Joined the server."."""
_NOT_THERE: Final = "(File"  # of an export without files, in the place of a path


class Begun(NamedTuple):
    """A chat without its messages, and what adds one to it."""

    made: Conversation
    add: Callable[[Mapping[str, Any]], None]


def add(begun: Begun, message: object) -> None:
    """Add what a chat's list has, if it is a message."""
    if isinstance(message, dict):
        begun.add(message)
    else:
        begun.made.not_kept["entries that are no messages"] += 1


def telegram(chat: Mapping[str, Any], options: Options) -> Begun:
    """A chat in Telegram Desktop's `result.json`."""
    id_, kind = identifier(chat.get("id")), text(chat.get("type"))
    if id_ and ("group" in kind or "channel" in kind):
        # As the Bot API writes them: -100 before the id of a supergroup or channel.
        id_ = f"-100{id_}" if kind.endswith(_SUPERGROUPS) else f"-{id_}"
    made = Conversation(options.key("telegram", id_), channel="telegram", room=id_)
    made.name = text(chat.get("name")) or None
    bot = str(chat.get("id")) if kind == "bot_chat" else None
    # Of a group, each account counts the messages for itself, and its supergroup counts anew.
    is_group = "group" in kind and not kind.endswith(_SUPERGROUPS)
    ids_in = f"export:{id_}:" if is_group else ""
    return Begun(made, partial(_add_telegram, made, options, bot, ids_in))


def _add_telegram(
    made: Conversation, options: Options, bot: str | None, ids_in: str, message: Mapping[str, Any]
) -> None:
    if message.get("type") != "message":
        made.not_kept["events, such as who joined"] += 1
        return
    author, shown = text(message.get("from_id")), text(message.get("from"))
    number = _as_in_bot_api(author)
    role = options.role_of(author, number, shown)
    if bot is not None and number == bot:
        role = ASSISTANT
    files = _telegram_files(message)
    others = {kind: message[kind] for kind in _OTHERS if message.get(kind)}
    made.not_kept["reactions"] += bool(message.get("reactions"))
    made.not_kept["what an edited message said before"] += "edited" in message
    said = _telegram_text(message.get("text"))
    id_ = identifier(message.get("id"))
    is_here = not message.get("reply_to_peer_id")  # or what is answered is in another chat
    answered = identifier(message.get("reply_to_message_id")) if is_here else None
    known = {"forwarded_from": message.get("forwarded_from"), **others}
    if not said and not files and not others:
        made.not_kept["messages without text or files"] += 1
        return
    made.add(
        role,
        said or ("" if files else _telegram_other(others)),
        moment(message.get("date_unixtime")) or options.moment(message.get("date")),
        author=number,
        author_name=shown,
        platform_id=id_ and ids_in + id_,
        reply_to=answered and ids_in + answered,
        attachments=files,
        extra={field: value for field, value in known.items() if value},
    )


def _telegram_other(others: Mapping[str, Any]) -> str:
    """What a message is that is neither text nor a file, as a bot reads it."""
    place, person, poll = (mapping(others.get(kind)) for kind in _OTHERS)
    if place:
        return f"[location: {place.get('latitude')}, {place.get('longitude')}]"
    if person:
        names = " ".join(filter(None, (text(person.get(f"{each}_name")) for each in _NAMES)))
        return f"[contact: {', '.join(filter(None, (names, text(person.get('phone_number')))))}]"
    answers = [text(each.get("text")) for each in objects(poll.get("answers"))]
    return f"[poll: {', '.join(filter(None, (text(poll.get('question')), *answers)))}]"


def _as_in_bot_api(sender: str) -> str:
    """The id of a person, a channel or a group, as a bot gets it."""
    for kind, before in (("user", ""), ("channel", "-100"), ("chat", "-")):
        if (id_ := sender.removeprefix(kind)) != sender:
            return before + id_
    return sender


def _telegram_files(message: Mapping[str, Any]) -> list[Attachment]:
    """A photo or a file; instead of a path there may be why the export does not have it."""
    size = message.get("file_size", message.get("photo_file_size"))
    if message.get("photo"):
        return [file("image", name_=_path(message["photo"]), size=size)]
    if message.get("file"):
        own = message.get("file_name") or _path(message["file"])
        kind = name(text(message.get("media_type")).removesuffix("_file"), MAX_KIND_CHARS)
        return [file(kind, name_=own, mime_type=message.get("mime_type"), size=size)]
    return []


def _path(value: object) -> str | None:
    path = text(value)
    return None if path.startswith(_NOT_THERE) else PurePath(path).name


def _telegram_text(value: object) -> str:
    """Text, or a list of text and of objects that have it."""
    return text(value) or "".join(
        part if isinstance(part, str) else text(mapping(part).get("text")) for part in items(value)
    )


def discord(document: Mapping[str, Any], options: Options) -> Begun:
    """DiscordChatExporter's JSON: one channel."""
    guild, channel = mapping(document["guild"]), mapping(document["channel"])
    made = Conversation(options.key("discord", channel.get("id")), channel="discord")
    is_thread = text(channel.get("type")).endswith("Thread")
    above = text(channel.get("categoryId")) if is_thread else ""  # which is the thread's channel
    made.room = above or text(channel.get("id")) or None
    made.name = (
        " / ".join(filter(None, (text(guild.get("name")), text(channel.get("name"))))) or None
    )
    return Begun(made, partial(_add_discord, made, options))


def _embedded(message: Mapping[str, Any]) -> str:
    """What the embeds of a message without text say, as a bot reads them."""
    lines: list[object] = []
    for embed in objects(message.get("embeds")):
        lines += [embed.get("title"), embed.get("description")]
        for field in objects(embed.get("fields")):
            lines += [field.get("name"), field.get("value")]
    return "\n".join(filter(None, map(text, lines)))


def _add_discord(made: Conversation, options: Options, message: Mapping[str, Any]) -> None:
    author = mapping(message.get("author"))
    forwarded = mapping(message.get("forwardedMessage"))
    attached = [*objects(message.get("attachments")), *objects(forwarded.get("attachments"))]
    stickers = objects(message.get("stickers"))
    made.not_kept["reactions"] += bool(message.get("reactions"))
    made.not_kept["embeds"] += len(items(message.get("embeds")))
    made.not_kept["what an edited message said before"] += bool(message.get("timestampEdited"))
    said = text(message.get("content")) or text(forwarded.get("content")) or _embedded(message)
    kind = message.get("type")
    if kind in _DISCORD_EVENTS or (kind not in _DISCORD_SAID and not said):
        made.not_kept["events, such as who joined"] += 1
        return
    if not (said or attached or stickers):
        made.not_kept["messages without text or files"] += 1
        return
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
                name_=each.get("fileName"),
                size=each.get("fileSizeBytes"),
                url=each.get("url"),
                platform_id=each.get("id"),
            )
            for each in attached
        ]
        + [file("sticker", name_=each.get("name"), url=each.get("sourceUrl")) for each in stickers],
    )
