"""Matrix: events of matrix-nio, or as JSON, read by `read`.

Key: `matrix_ROOM`, with threads. Neither an edit nor a redaction says in which thread its message
is, so that a thread with a key of its own would miss them: `extra.thread` is the id of the first
message of the thread.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from backscroll.channels.changes import Change, Deleted, Edited, Said
from backscroll.channels.message import Author, Me, author, file, message
from backscroll.channels.values import (
    attribute,
    identifier,
    mapping,
    moment_of_seconds,
    name,
    objects,
    session_key,
    text,
)
from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage, SessionAttributes

Names = Mapping[str, str]

_Event = Mapping[str, Any]
_Message = ChatMessage | None

_FILES: Final = {"m.image": "image", "m.audio": "audio", "m.video": "video", "m.file": None}
_SAID: Final = ("m.room.message", "m.sticker", "m.poll.start", "org.matrix.msc3381.poll.start")
_POLLS: Final = ("m.poll", "m.poll.start", "org.matrix.msc3381.poll.start")
_QUOTED: Final = re.compile(r"> (?:\* )?<@[^\n>]+>[^\n]*\n(?:>[^\n]*\n)*\n?")
"""What a client puts in front of an answer, for clients that do not show what is answered."""


def read(
    event: Any,
    room: Any = None,
    *,
    me: Me = None,
    names: Names | None = None,
    original: Any = None,
) -> tuple[Change, ...]:
    """What changes by an event in a room: a `MatrixRoom` of nio, or the room's id.

    Without a `room`, the event's `room_id` is taken. `names` are shown for the ids of authors where
    the room does not know them. An edit is valid only if its author is that of the message, which
    homeservers do not enforce: give the message as `original`, an event that was fetched by
    `edited_id(event)`; without it nothing changes.
    """
    source = _source(event)
    room_id = identifier(attribute(room, "room_id") or room or source.get("room_id"))
    id_, content = identifier(source.get("event_id")), mapping(source.get("content"))
    if room_id is None or id_ is None:
        return ()
    here = key(room_id)
    if source.get("type") == "m.room.redaction":
        if attribute(event, "decrypted"):
            return ()  # no homeserver has checked who may do that
        gone = identifier(source.get("redacts") or content.get("redacts"))
        return (Deleted(here, gone),) if gone else ()
    if not content and mapping(source.get("unsigned")).get("redacted_because"):
        return (Deleted(here, id_),)
    by = _author(source, room, names or {})
    if (edited := edited_id(source)) is not None:
        if not _may_edit(source, edited, _source(original)):
            return ()
        what = _message(source, mapping(content.get("m.new_content")), _source(original), by, me)
        return (Edited(here, what, edited, id_),) if what else ()
    what = _message(source, content, source, by, me)
    return (Said(here, what, _session(room, room_id)),) if what else ()


def key(room_id: str) -> str:
    """The session's key for a room."""
    return session_key("matrix", room_id)


def edited_id(event: Any) -> str | None:
    """The id of the message that the event edits; None for any other event."""
    relation = _relation(mapping(_source(event).get("content")))
    return identifier(relation.get("event_id")) if relation.get("rel_type") == "m.replace" else None


def _source(event: Any) -> _Event:
    """The event as JSON, which nio keeps beside what it has read in it."""
    return mapping(event) or mapping(attribute(event, "source"))


def _relation(content: _Event) -> _Event:
    return mapping(content.get("m.relates_to"))


def _may_edit(edit: _Event, edited: str, original: _Event) -> bool:
    """As the specification has it: same author, same type, and not an edit of an edit."""
    return (
        original.get("event_id") == edited
        and identifier(edit.get("sender")) is not None
        and original.get("sender") == edit.get("sender")
        and original.get("type") in (edit.get("type"), "m.room.encrypted")
        and edited_id(original) is None
    )


def _session(room: Any, room_id: str) -> SessionAttributes:
    title = name(attribute(room, "display_name"))
    return {"channel": "matrix", "room": room_id} | ({"name": title} if title else {})


def _author(event: _Event, room: Any, names: Names) -> Author:
    sender = identifier(event.get("sender"))
    if sender is None:
        return Author(())
    called = attribute(room, "user_name")
    return author(sender, shown=(called(sender) if callable(called) else None) or names.get(sender))


def _message(event: _Event, content: _Event, first: _Event, by: Author, me: Me) -> _Message:
    """What `event` says in `content`; `first` is the message itself, also where that is an edit."""
    if event.get("type") not in _SAID or "state_key" in event:
        return None
    id_, relation = identifier(first.get("event_id")), _relation(mapping(first.get("content")))
    is_answer = "m.in_reply_to" in _relation(content)
    said, files = _text(content, by, is_answer), _files(event, content)
    if id_ is None or not (said or files):
        return None
    thread = relation.get("event_id") if relation.get("rel_type") == "m.thread" else None
    return message(
        said,
        files,
        by,
        me,
        platform_id=id_,
        reply_to=_answered(relation),
        created_at=moment_of_seconds(first.get("origin_server_ts"), per_second=1000),
        extra={"thread": thread} if identifier(thread) else None,
    )


def _answered(relation: _Event) -> Any:
    """The message answered; in a thread, one for clients without threads is no answer."""
    if relation.get("is_falling_back") is True:
        return None
    return mapping(relation.get("m.in_reply_to")).get("event_id")


def _text(content: _Event, by: Author, is_answer: bool) -> str:
    """The body without the quotation of what is answered; of a file, its caption."""
    if poll := next((mapping(content[name]) for name in _POLLS if name in content), None):
        asked = [mapping(poll.get("question")), *objects(poll.get("answers"))]
        return f"[poll: {', '.join(filter(None, map(_extensible_text, asked)))}]"
    kind, body = text(content.get("msgtype")), text(content.get("body"))
    if not kind or (kind in _FILES and content.get("filename") in (None, body)):
        return ""
    if is_answer:
        body = _QUOTED.sub("", body, count=1) if _QUOTED.match(body) else body
    if kind == "m.emote":
        return f"* {by.name or ''.join(by.ids)} {body}"
    return body


def _extensible_text(part: _Event) -> str:
    """A text as polls have it: in the specification a list of representations."""
    plain = [text(each.get("body")) for each in objects(part.get("m.text"))]
    return next(iter(plain), "") or text(part.get("org.matrix.msc1767.text"))


def _files(event: _Event, content: _Event) -> list[Attachment]:
    kind, info = text(content.get("msgtype")), mapping(content.get("info"))
    is_sticker = event.get("type") == "m.sticker"
    if not is_sticker and kind not in _FILES:
        return []
    attached = file(
        "sticker" if is_sticker else _FILES[kind],
        name_=content.get("filename") or content.get("body"),
        mime_type=info.get("mimetype"),
        size=info.get("size"),
        url=content.get("url") or mapping(content.get("file")).get("url"),
    )
    return [attached]
