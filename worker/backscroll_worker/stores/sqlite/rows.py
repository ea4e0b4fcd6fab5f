"""Conversion between messages and the columns of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from backscroll.contract.messages import (
    ChatMessage,
    DraftMessage,
    EarlierVersion,
    from_micros,
)
from backscroll_worker.contract.answer_budget import Form
from backscroll_worker.stores.sqlite.attachments import loads
from backscroll_worker.stores.sqlite.edits import unpack_extra
from backscroll_worker.stores.sqlite.packed_ids import unpack_id

MESSAGE_COLUMNS: Final = (
    "role, content, extra, message_id, messages.created_at,"
    " author, author_name, platform_id, reply_to, tokens, upto, attachments"
)


def message_of(columns: Sequence[Any], edits: tuple[EarlierVersion, ...] = ()) -> ChatMessage:
    """The message in a row of `MESSAGE_COLUMNS`."""
    made: Any = DraftMessage()
    (
        made.role, made.content, extra, id_, created_at, made.author, made.author_name,
        made.platform_id, made.reply_to, made.tokens, made.upto, attachments,
    ) = columns  # fmt: skip
    made.extra = None if extra is None else unpack_extra(extra)
    made.message_id = unpack_id(id_)
    made.created_at = from_micros(created_at)
    made.edits = edits
    made.attachments = () if attachments is None else loads(attachments)
    made.__class__ = ChatMessage
    return made  # type: ignore[no-any-return]


def json_of(columns: Sequence[Any]) -> dict[str, Any]:
    """The JSON form of the message in a row, which need not be made for it."""
    (
        role, content, extra, id_, created_at, author, author_name,
        platform_id, reply_to, tokens, upto, attachments,
    ) = columns  # fmt: skip
    fields: dict[str, Any] = {"role": role, "content": content}
    if extra is not None:
        fields["extra"] = unpack_extra(extra)
    fields["message_id"] = unpack_id(id_)
    fields["created_at"] = created_at
    if attachments is not None:
        fields["attachments"] = [each.to_dict() for each in loads(attachments)]
    if author is not None:
        fields["author"] = author
    if author_name is not None:
        fields["author_name"] = author_name
    if platform_id is not None:
        fields["platform_id"] = platform_id
    if reply_to is not None:
        fields["reply_to"] = reply_to
    if tokens is not None:
        fields["tokens"] = tokens
    if upto is not None:
        fields["upto"] = upto
    return fields


ROWS: Final[Form[tuple[Any, ...]]] = Form(message_of, json_of)
