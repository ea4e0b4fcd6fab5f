"""Conversion between messages and the columns of a row."""

from __future__ import annotations

from typing import Any, Final

from backscroll.contract.messages import (
    ChatMessage,
    DraftMessage,
    EarlierVersion,
    from_micros,
)
from backscroll_worker.stores.sqlite.attachments import loads
from backscroll_worker.stores.sqlite.edits import unpack_extra
from backscroll_worker.stores.sqlite.packed_ids import unpack_id

MESSAGE_COLUMNS: Final = (
    "role, content, extra, message_id, messages.created_at,"
    " author, author_name, platform_id, reply_to, tokens, upto, attachments"
)


def message_of(
    role: str,
    content: str,
    extra: str | None,
    id_: bytes | str,
    created_at: int,
    author: str | None,
    author_name: str | None,
    platform_id: str | None,
    reply_to: str | None,
    tokens: int | None,
    upto: str | None,
    attachments: str | None,
    *,
    edits: tuple[EarlierVersion, ...] = (),
) -> ChatMessage:
    """The message in a row of `MESSAGE_COLUMNS`."""
    made: Any = DraftMessage()
    made.role = role
    made.content = content
    made.extra = None if extra is None else unpack_extra(extra)
    made.message_id = unpack_id(id_)
    made.created_at = from_micros(created_at)
    made.edits = edits
    made.author = author
    made.author_name = author_name
    made.platform_id = platform_id
    made.reply_to = reply_to
    made.tokens = tokens
    made.upto = upto
    made.attachments = () if attachments is None else loads(attachments)
    made.__class__ = ChatMessage
    return made  # type: ignore[no-any-return]
