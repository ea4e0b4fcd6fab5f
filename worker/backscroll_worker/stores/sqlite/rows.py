"""Conversion between messages and the columns of a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final

from backscroll.contract.messages import EPOCH, ChatMessage, DraftMessage, EarlierVersion
from backscroll_worker.stores.sqlite.attachments import loads
from backscroll_worker.stores.sqlite.edits import unpack_extra
from backscroll_worker.stores.sqlite.packed_ids import unpack_id

MESSAGE_COLUMNS: Final = (
    "role, content, extra, message_id, messages.created_at,"
    " author, author_name, platform_id, reply_to, tokens, upto, attachments"
)


def message_of(*columns: Any, edits: tuple[EarlierVersion, ...] = ()) -> ChatMessage:
    """The message in a row of `MESSAGE_COLUMNS`."""
    return next(messages_of([columns], edits))


def messages_of(
    rows: Iterable[tuple[Any, ...]], edits: tuple[EarlierVersion, ...] = ()
) -> Iterator[ChatMessage]:
    """The messages in rows of `MESSAGE_COLUMNS`.

    Adapters wait for many of them at once, so the two conversions that each of them needs are
    written out.
    """
    draft, epoch, hexadecimal = DraftMessage, EPOCH, bytes.hex
    for (
        role, content, extra, id_, created_at,
        author, author_name, platform_id, reply_to, tokens, upto, attachments,
    ) in rows:  # fmt: skip
        is_uuid = type(id_) is bytes and len(id_) == 16
        made = draft(
            role,
            content,
            None if extra is None else unpack_extra(extra),
            hexadecimal(id_) if is_uuid else unpack_id(id_),
            epoch + timedelta(0, 0, created_at),
            edits,
            author,
            author_name,
            platform_id,
            reply_to,
            tokens,
            upto,
            () if attachments is None else loads(attachments),
        )
        made.__class__ = ChatMessage
        yield made
