"""What of a message is searched: its content, its extra's values, or its attachments' names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from backscroll.contract.attachments import Attachment
from backscroll.contract.filters import Within
from backscroll.contract.messages import ChatMessage


def searched_text(message: ChatMessage, within: Within | None) -> str:
    """The text of `message` in which a search looks for words."""
    if within == "attachments":
        return text_of_attachments(message.attachments)
    return message.content if within is None else text_of_extra(message.extra)


def text_of_attachments(attachments: Iterable[Attachment]) -> str:
    """The names of what is attached, a line each."""
    return "\n".join([each.name for each in attachments if each.name is not None])


def text_of_extra(extra: Mapping[str, Any] | None) -> str:
    """The texts and numbers in `extra`, in order, a line each; its names are not among them."""
    return "\n".join(_values(extra))


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _values(each)
    elif isinstance(value, list):
        for each in value:
            yield from _values(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield orjson.dumps(value).decode()  # as in the JSON that stores keep
