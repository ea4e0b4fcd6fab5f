"""What a framework keeps for one entry of a history, in a message's `extra`, and back.

It comes back equal. Where one text in it is what the message says, that text is the message's
content and is kept once: `extra` then says where it belongs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from backscroll.contract.message_checks import MAX_ROLE_CHARS
from backscroll.contract.messages import ChatMessage

Place = Sequence[str | int]
"""Keys and numbers that lead from an object to a text inside it."""

_TEXT_AT: Final = "text_at"


def kept(name: str, raw: Mapping[str, Any], text_at: Place | None) -> dict[str, Any]:
    """`raw` as part of an `extra`, under `name`, without the text at that place."""
    if text_at is None:
        return {name: raw}
    return {name: _with(raw, text_at, None), _TEXT_AT: list(text_at)}


def restored(name: str, extra: Mapping[str, Any] | None, content: str) -> dict[str, Any] | None:
    """What `kept` was given; None where `extra` has nothing of that name, or another's."""
    raw = (extra or {}).get(name)
    if not isinstance(raw, dict):
        return None
    text_at = (extra or {}).get(_TEXT_AT)
    try:
        return raw if text_at is None else _with(raw, text_at, content)
    except (IndexError, KeyError, TypeError):  # not as this module wrote it
        return None


def _with(value: Any, place: Place, text: str | None) -> Any:
    """A copy of `value` with that text at the place, or with nothing there."""
    key, *inside = place
    copy = value.copy()
    if inside:
        copy[key] = _with(copy[key], inside, text)
    elif text is None:
        del copy[key]
    else:
        copy[key] = text
    return copy


def message_for(
    role: str,
    said: Iterable[tuple[Place | None, str]],
    extra: dict[str, Any] | None,
    *,
    author: str | None,
    author_name: str | None,
    **fields: Any,
) -> ChatMessage:
    """The message that stands for an entry: the texts in it, a line each.

    The author is whoever speaks as "user".
    """
    if role == "user":
        fields |= {"author": author, "author_name": author_name}
    return ChatMessage(role, "\n".join(text for _, text in said), extra, **fields)


def role_of(value: object, otherwise: str) -> str:
    """`value` if a message can have it as its role."""
    if isinstance(value, str) and 0 < len(value) <= MAX_ROLE_CHARS and value.isprintable():
        return value
    return otherwise
