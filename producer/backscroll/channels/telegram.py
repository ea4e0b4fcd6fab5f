"""Telegram: updates and messages of python-telegram-bot and of aiogram, read by `read`.

Both libraries name things as the Bot API does. Keys:

- `telegram_CHAT`: a private chat, a group, a channel, and the General topic of a forum
- `telegram_CHAT_TOPIC`: another topic of a forum, or one person's in a channel's direct messages
- `telegram_business_CONNECTION_CHAT`: a customer's chat with a business account
"""

from __future__ import annotations

from typing import Any, Final

from backscroll.channels.changes import Change, Deleted, Edited, Moved, Said
from backscroll.channels.message import Author, Me, author, file, message
from backscroll.channels.values import attribute, identifier, items, moment, name, session_key
from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import SessionAttributes

_NEW: Final = ("message", "channel_post", "business_message")
_EDITED: Final = ("edited_message", "edited_channel_post", "edited_business_message")
_FILES: Final = {
    "animation": "video",
    "audio": "audio",
    "document": None,
    "live_photo": "image",
    "video": "video",
    "video_note": "video",
    "voice": "voice",
    "sticker": "sticker",
}
_OTHERS: Final = (
    "venue", "location", "contact", "poll", "dice", "checklist", "game", "invoice", "story",
    "paid_media", "giveaway", "giveaway_winners", "rich_message",
)  # fmt: skip
"""What else a message may be, in the Bot API's names; a venue has its location as well."""


def read(update: Any, *, me: Me = None) -> tuple[Change, ...]:
    """What changes by an update, a message, or a business account's deleted messages.

    `me` is the bot's id. A message by itself is an edit if it has an `edit_date`. A photo of an
    album is a message of its own, and `extra.media_group_id` is the same in all of them.
    """
    if not hasattr(update, "update_id"):
        if hasattr(update, "message_ids"):
            return _deleted(update)
        return _of_message(update, me, attribute(update, "edit_date") is not None)
    for field in (*_NEW, *_EDITED):
        if (one := attribute(update, field)) is not None:
            return _of_message(one, me, field in _EDITED)
    return _deleted(attribute(update, "deleted_business_messages"))


def key(chat: int | str, topic: int | str | None = None, *, business: str | None = None) -> str:
    """The session's key for a chat, one of its topics, or a business account's chat, by their ids.

    `business` is a `business_connection_id`.
    """
    if business is not None:
        return session_key("telegram", "business", business, str(chat))
    return session_key("telegram", str(chat), *([] if topic is None else [str(topic)]))


def _deleted(deletion: Any) -> tuple[Change, ...]:
    here, ids = _key(deletion), map(identifier, items(deletion, "message_ids"))
    return () if here is None else tuple(Deleted(here, id_) for id_ in ids if id_)


def _of_message(one: Any, me: Me, is_edit: bool) -> tuple[Change, ...]:
    here, id_ = _key(one), _id(one, "message_id")
    if here is None or id_ is None or attribute(one, "ephemeral_message_id"):
        return ()  # also of what not everybody in the chat sees
    if moved := _moved(one, here):
        return (moved,)
    said, files = _text(one), _files(one)
    if not (said or files):
        return ()
    album = identifier(attribute(one, "media_group_id"))
    what = message(
        said,
        files,
        _author(one),
        me,
        platform_id=id_,
        reply_to=_reply_to(one),
        created_at=moment(attribute(one, "date")),
        extra={"media_group_id": album} if album else None,
    )
    if is_edit:
        edited_at = attribute(one, "edit_date")
        return (Edited(here, what, id_, None if edited_at is None else str(edited_at)),)
    return (Said(here, what, _session(one)),)


def _id(one: Any, *path: str) -> str | None:
    """A message's id; in a group with the chat's in front, as its supergroup counts anew."""
    id_, chat = identifier(attribute(one, *path)), attribute(one, "chat")
    if id_ in (None, "0"):  # 0 is one that is not there yet
        return None
    return f"{attribute(chat, 'id')}:{id_}" if attribute(chat, "type") == "group" else id_


def _key(one: Any) -> str | None:
    chat = identifier(attribute(one, "chat", "id"))
    if chat is None:
        return None
    return key(chat, _topic(one), business=identifier(attribute(one, "business_connection_id")))


def _topic(one: Any) -> str | None:
    """The topic's id, if the message is in one."""
    direct = identifier(attribute(one, "direct_messages_topic", "topic_id"))
    return _thread(one) if direct is None else direct


def _thread(one: Any) -> str | None:
    """Of a forum's topic; outside of topics `message_thread_id` is only a chain of replies."""
    thread = identifier(attribute(one, "message_thread_id"))
    return thread if attribute(one, "is_topic_message") else None


def _moved(one: Any, here: str) -> Moved | None:
    """A group became a supergroup; each of the two says so."""
    if new := identifier(attribute(one, "migrate_to_chat_id")):
        return Moved(here, key(new))
    if old := identifier(attribute(one, "migrate_from_chat_id")):
        return Moved(key(old), here)
    return None


def _session(one: Any) -> SessionAttributes:
    chat = identifier(attribute(one, "chat", "id"))
    session: dict[str, str | None] = {"channel": "telegram"}
    if attribute(one, "chat", "type") == "private":
        return {**session, "sender": chat}
    session["room"] = chat
    if title := name(attribute(one, "chat", "title")):
        session["name"] = title
    if person := identifier(attribute(one, "direct_messages_topic", "user", "id")):
        session["sender"] = person
    return session


def _author(one: Any) -> Author:
    """Who Telegram shows: of a channel's post and an anonymous administrator's it is the chat."""
    if (chat := attribute(one, "sender_chat")) is not None:
        return author(attribute(chat, "id"), shown=attribute(chat, "title") or _full_name(chat))
    user = attribute(one, "from_user")
    through = attribute(one, "sender_business_bot", "id")
    return author(attribute(user, "id"), through, shown=_full_name(user))


def _full_name(person: Any) -> str:
    names = (attribute(person, "first_name"), attribute(person, "last_name"))
    return " ".join(each for each in names if isinstance(each, str))


def _reply_to(one: Any) -> str | None:
    """The message answered; in a topic what is no answer names the topic's first message."""
    answered = _id(one, "reply_to_message", "message_id")
    return None if answered == _thread(one) else answered


def _text(one: Any) -> Any:
    if said := attribute(one, "text") or attribute(one, "caption"):
        return said
    for field in _OTHERS:
        if (other := attribute(one, field)) is not None and other != ():
            details = [str(each) for each in _details(field, other) if each]
            label = "[" + field.replace("_", " ")
            return f"{label}: {', '.join(details)}]" if details else f"{label}]"
    return ""


def _details(field: str, other: Any) -> list[Any]:
    """What a person reads of such a message."""
    match field:
        case "location":
            return [f"{attribute(other, 'latitude')}", f"{attribute(other, 'longitude')}"]
        case "contact":
            return [_full_name(other), attribute(other, "phone_number")]
        case "dice":
            return [f"{attribute(other, 'emoji')} {attribute(other, 'value')}"]
        case "poll":
            options = [attribute(each, "text") for each in items(other, "options")]
            return [attribute(other, "question"), *options]
        case "checklist":
            tasks = [attribute(each, "text") for each in items(other, "tasks")]
            return [attribute(other, "title"), *tasks]
        case _:
            return [attribute(other, "title"), attribute(other, "address")]


def _files(one: Any) -> list[Attachment]:
    if photo := items(one, "photo"):  # in several sizes, the largest one last
        return [_file("image", photo[-1])]
    for field, kind in _FILES.items():
        if (attached := attribute(one, field)) is not None:
            return [_file(kind, attached)]
    return []


def _file(kind: str | None, attached: Any) -> Attachment:
    return file(
        kind,
        name_=attribute(attached, "file_name") or attribute(attached, "emoji"),
        mime_type=attribute(attached, "mime_type"),
        size=attribute(attached, "file_size"),
        platform_id=attribute(attached, "file_id"),
    )
