"""A message as a platform's window shows it, made of what its library said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from backscroll.channels.values import identifier, name, text
from backscroll.contract.attachment_checks import MAX_ATTACHMENTS, MAX_URL_CHARS
from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage

Me = str | int | Iterable[str | int] | None
"""The bot's own id on the platform, or several where it has several."""

_KINDS: Final = {"image": "image", "audio": "audio", "video": "video"}


@dataclass(frozen=True, slots=True)
class Author:
    """Who said something; `ids` are all that the platform has for that one, the shown one first."""

    ids: tuple[str, ...]
    name: str | None = None


def author(*ids: object, shown: object = None) -> Author:
    """Of ids the platform may not have given, and the name it shows."""
    return Author(tuple(filter(None, map(identifier, ids))), name(shown))


def message(
    said: object,
    files: Sequence[Attachment],
    by: Author,
    me: Me,
    *,
    platform_id: str,
    reply_to: object = None,
    created_at: datetime | None = None,
    extra: Mapping[str, Any] | None = None,
) -> ChatMessage:
    """The bot's own message is the assistant's, any other the user's."""
    own = {str(each) for each in ((me,) if isinstance(me, str | int) else me or ())}
    whose = by.ids[0] if by.ids else None
    return ChatMessage(
        "user" if own.isdisjoint(by.ids) else "assistant",
        text(said),
        extra,
        created_at=created_at,
        author=whose,
        author_name=by.name if whose else None,
        platform_id=platform_id,
        reply_to=identifier(reply_to),
        attachments=tuple(files[:MAX_ATTACHMENTS]),
    )


def file(
    kind: str | None = None,
    *,
    name_: object = None,
    mime_type: object = None,
    size: object = None,
    url: object = None,
    platform_id: object = None,
) -> Attachment:
    """A file of that kind, or of the one that its type says; what is not valid is left out."""
    type_ = name(mime_type)
    return Attachment(
        kind or _KINDS.get((type_ or "").partition("/")[0], "file"),
        name=name(name_),
        mime_type=type_,
        size=size if type(size) is int and 0 <= size < 2**53 else None,
        url=name(url, MAX_URL_CHARS) if len(str(url)) <= MAX_URL_CHARS else None,
        platform_id=identifier(platform_id),
    )
