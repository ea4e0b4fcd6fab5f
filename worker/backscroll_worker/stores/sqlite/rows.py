"""Conversion between messages and the columns of a row."""

from __future__ import annotations

from typing import Any, Final

from backscroll.contract.messages import ChatMessage, EarlierVersion, from_micros
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
    message_id: bytes | str,
    created_at: int,
    *others: Any,
    edits: tuple[EarlierVersion, ...] = (),
) -> ChatMessage:
    """The message in a row of `MESSAGE_COLUMNS`."""
    id_, at = unpack_id(message_id), from_micros(created_at)
    *circumstances, attachments = others
    if attachments is not None:
        circumstances.append(loads(attachments))
    return ChatMessage(role, content, unpack_extra(extra), id_, at, edits, *circumstances)
