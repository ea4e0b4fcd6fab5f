"""Messages of the model: as a store returns them, changed by an edit, and in their order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from operator import itemgetter

from backscroll.contract.attachments import Attachment
from backscroll.contract.messages import ChatMessage, to_micros
from backscroll.contract.operations import Backfill


def as_stored(message: ChatMessage) -> ChatMessage:
    """The message as it is loaded: of the bytes that are attached it has the hash and the size."""
    return replace(message, attachments=tuple(map(_without_bytes, message.attachments)))


def _without_bytes(attachment: Attachment) -> Attachment:
    data = attachment.data
    if data is None:
        return attachment
    return replace(attachment, data=None, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def edited(old: ChatMessage, new: ChatMessage) -> ChatMessage:
    """The message `old` after it was replaced by `new`."""
    return replace(
        old,
        role=new.role,
        content=new.content,
        extra=new.extra,
        tokens=old.tokens if new.tokens is None else new.tokens,
        attachments=as_stored(new).attachments or old.attachments,
    )


def moment(message: ChatMessage) -> int:
    """When it was said, in microseconds since 1970 UTC."""
    return 0 if message.created_at is None else to_micros(message.created_at)


def in_order_of_time(
    own: Sequence[ChatMessage], others: Sequence[ChatMessage]
) -> list[ChatMessage]:
    """The messages of two sessions; those of each stay in their order."""
    latest = [at for each in (own, others) for at in accumulate(map(moment, each), max)]
    placed = zip(latest, [*own, *others], strict=True)
    return [message for _, message in sorted(placed, key=itemgetter(0))]


def with_earlier(
    operation: Backfill, own: Sequence[ChatMessage], new: Sequence[ChatMessage]
) -> list[ChatMessage]:
    """A session's own messages with the new ones of a backfill, each put in by itself."""
    messages = list(own)
    added = {each.platform_id: each for each in new}
    ids = list(dict.fromkeys(each.platform_id for each in operation.messages))
    start = 0
    for number, id_ in enumerate(ids):
        there = [each.platform_id for each in messages]
        if id_ not in added:
            start = max(start, there.index(id_) + 1) if id_ in there else start
            continue
        known = [there.index(each) for each in ids[number + 1 :] if each in there]
        end = next(iter(known), len(messages))
        while start < end and moment(messages[start]) <= moment(added[id_]):
            start += 1
        messages.insert(start, added[id_])
        start += 1
    return messages
