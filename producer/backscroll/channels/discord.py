"""Discord: messages and raw events of discord.py, read by `read`.

Key: `discord_CHANNEL`. A thread, a forum's post and the direct messages with somebody are channels
of their own for Discord; a thread's first message stays in the channel above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from backscroll.channels.changes import Change, Deleted, Edited, Said
from backscroll.channels.message import Author, Me, author, file, message
from backscroll.channels.values import (
    attribute,
    identifier,
    items,
    mapping,
    moment,
    name,
    session_key,
    text,
)
from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage, SessionAttributes

_SAID: Final = (0, 19, 20, 23)
"""`MessageType`: default, reply, chat_input_command and context_menu_command."""


def read(event: Any, *, me: Me = None) -> tuple[Change, ...]:
    """What changes by a `Message` or by a raw event: an edit, a deletion, or several deletions.

    `me` is the id of the bot's user, or that and those of its webhooks. Take `on_raw_message_edit`,
    `on_raw_message_delete` and `on_raw_bulk_message_delete`: the others are called only for
    messages that discord.py has in memory. A `Message` is always something said, also if it was
    edited since, as `channel.history()` gives it.
    """
    if hasattr(event, "cached_messages"):
        ids = attribute(event, "message_ids")
        return _deleted(event, ids if isinstance(ids, set) else ())
    if hasattr(event, "cached_message"):  # which reactions and votes have not
        if hasattr(event, "data"):
            return _edited(event, me)
        return _deleted(event, [attribute(event, "message_id")])
    return _said(event, me)


def key(channel: int | str) -> str:
    """The session's key for a channel, a thread or direct messages, by the channel's id."""
    return session_key("discord", str(channel))


def _said(one: Any, me: Me) -> tuple[Change, ...]:
    channel, what = identifier(attribute(one, "channel", "id")), _message(one, me)
    return () if channel is None or not what else (Said(key(channel), what, _session(one)),)


def _edited(event: Any, me: Me) -> tuple[Change, ...]:
    """Discord also says so when a preview, a pin or a thread comes to a message."""
    channel = identifier(attribute(event, "channel_id"))
    id_ = identifier(attribute(event, "message_id"))
    one, before = attribute(event, "message"), attribute(event, "cached_message")
    what = _message(one, me)
    if channel is None or id_ is None or what is None:
        return ()
    if before is not None and _message(before, me) is None:  # a bot was still thinking
        return (Said(key(channel), what, _session(one)),)
    is_same = before is not None and _message(before, me) == what
    edited_at = mapping(event.data).get("edited_timestamp")
    if is_same or not edited_at:
        return ()
    return (Edited(key(channel), what, id_, identifier(edited_at)),)


def _deleted(event: Any, ids: Iterable[object]) -> tuple[Change, ...]:
    channel = identifier(attribute(event, "channel_id"))
    gone = sorted(filter(None, map(identifier, ids)), key=lambda id_: (len(id_), id_))
    return () if channel is None else tuple(Deleted(key(channel), id_) for id_ in gone)


def _session(one: Any) -> SessionAttributes:
    session: dict[str, str] = {"channel": "discord"}
    if attribute(one, "guild") is None:
        by = attribute(one, "channel", "recipient") or attribute(one, "author")
        person = None if attribute(by, "bot") else identifier(attribute(by, "id"))
        return {**session, "sender": person} if person else session
    above = identifier(attribute(one, "channel", "parent_id"))  # only a thread has it
    room = above or identifier(attribute(one, "channel", "id"))
    title = name(attribute(one, "channel", "name"))
    return session | ({"room": room} if room else {}) | ({"name": title} if title else {})


def _message(one: Any, me: Me) -> ChatMessage | None:
    id_, said, files = identifier(attribute(one, "id")), _text(one), _files(one)
    if id_ is None or attribute(one, "type", "value") not in _SAID or not (said or files):
        return None
    return message(
        said,
        files,
        _author(one),
        me,
        platform_id=id_,
        reply_to=_reply_to(one),
        created_at=moment(attribute(one, "created_at")),
    )


def _author(one: Any) -> Author:
    """A webhook's author has the webhook's id, and the name that was given with the message."""
    return author(attribute(one, "author", "id"), shown=attribute(one, "author", "display_name"))


def _reply_to(one: Any) -> Any:
    """The message answered; a forwarded one, and one of another channel, is not answered."""
    if attribute(one, "type", "value") != 19 or (
        attribute(one, "reference", "channel_id") != attribute(one, "channel", "id")
    ):
        return None
    return attribute(one, "reference", "message_id")


def _text(one: Any) -> str:
    """The text with names for mentions; without one, what was forwarded, asked or embedded."""
    if said := text(attribute(one, "clean_content") or attribute(one, "content")):
        return said.replace("@\u200b", "@")  # which discord.py puts into @everyone
    if question := text(attribute(one, "poll", "question")):
        answers = [text(attribute(each, "text")) for each in items(one, "poll", "answers")]
        return f"[poll: {', '.join([question, *answers])}]"
    parts = [attribute(each, "content") for each in items(one, "message_snapshots")]
    for embed in items(one, "embeds"):
        parts += [attribute(embed, "title"), attribute(embed, "description")]
        for field in items(embed, "fields"):
            parts += [attribute(field, "name"), attribute(field, "value")]
    parts += _displayed(items(one, "components"))
    return "\n".join(filter(None, map(text, parts)))


def _displayed(components: Iterable[Any]) -> Iterator[object]:
    """The texts that are laid out in containers and sections."""
    for each in components:
        yield attribute(each, "content")
        yield from _displayed(items(each, "children"))


def _files(one: Any) -> list[Attachment]:
    snapshots = items(one, "message_snapshots")
    attached = [file for part in (one, *snapshots) for file in items(part, "attachments")]
    files = [
        file(
            name_=attribute(each, "filename"),
            mime_type=attribute(each, "content_type"),
            size=attribute(each, "size"),
            url=attribute(each, "url"),
            platform_id=attribute(each, "id"),
        )
        for each in attached
    ]
    for sticker in items(one, "stickers"):
        id_ = attribute(sticker, "id")
        url = attribute(sticker, "url")
        files.append(file("sticker", name_=attribute(sticker, "name"), url=url, platform_id=id_))
    return files
