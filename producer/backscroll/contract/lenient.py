r"""What a model produced, as it is kept where neither Unicode nor JSON can hold it, and back.

`kept` gives a message that passes every check, and `restored` gives the first one again, equal. In
between anybody may read it: what is kept is plain text and plain JSON.

- A lone surrogate is written as `\ud83d`. A text that has such letters already has the backslashes
  before them twice.
- An integer beyond 64 bits, NaN and infinity are `{"$number": "…"}`.
- A key that begins with `$` begins with `$$`.
- Of a message that is larger than its limit, base64 goes to its attachments, the longest first:
  `{"$base64": <SHA-256>, "$before": "data:image/png;base64,"}` stands for it.

What is kept so is named in the `extra`, under `$backscroll`: "content", "extra", and how many of
the attachments, the last ones, were none before.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import orjson

from backscroll.contract.attachment_checks import MAX_ATTACHMENT_BYTES, MAX_ATTACHMENTS
from backscroll.contract.attachments import Attachment, from_base64, to_base64
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.message_checks import Limits, check_messages
from backscroll.contract.messages import ChatMessage, EarlierVersion

MARK: Final = "$backscroll"
NUMBER: Final = "$number"
_BASE64: Final = "$base64"
_BEFORE: Final = "$before"
OURS: Final = frozenset({MARK, NUMBER, _BASE64, _BEFORE})
"""The keys that stand for something else; no key of a caller's is one, where `kept` wrote it."""

_LEAST_BASE64: Final = 1024
_MARK_BYTES: Final = 64
_LONGEST_DECIMAL: Final = 4_000  # digits; Python converts no more than 4,300 of them
_PAIR: Final = r"u[dD][89a-fA-F][0-9a-fA-F]{2}"
_TO_ESCAPE: Final = re.compile(rf"(\\*)([\ud800-\udfff])|(\\+)(?={_PAIR})")
_ESCAPED: Final = re.compile(rf"(\\+)({_PAIR})")
_DATA_URL: Final = re.compile(r"data:([\w.+-]{1,60}/[\w.+-]{1,60})?[^,]{0,200};base64,")

Blobs = dict[str, Attachment]
"""What is moved to the attachments, by its SHA-256."""


def kept(message: ChatMessage, most_bytes: float) -> ChatMessage:
    """`message` as it is stored: itself where it can be stored so.

    No base64 is moved where `most_bytes` is infinite. Raises nothing: what cannot be kept, such as
    a set in its `extra`, is left for the checks.
    """
    if _is_plain(message, most_bytes) or not _is_typed(message):
        return message
    with suppress(RecursionError):
        return _kept(message, most_bytes)
    return message


def _kept(message: ChatMessage, most_bytes: float) -> ChatMessage:
    content, blobs, marks = escape(message.content), Blobs(), list[str | int]()
    if content != message.content:
        marks.append("content")
    extra = None if message.extra is None else _written(message.extra)
    too_many = len(content.encode()) + _size(extra) + _MARK_BYTES - most_bytes
    if extra is not None and too_many > 0:
        extra = _without_base64(message, too_many, blobs)
    if extra is not None and (marks or extra != message.extra):
        marks.append("extra")
    if not marks:
        return message
    if blobs:
        marks.append(len(blobs))
    attachments = (*message.attachments, *blobs.values())
    held = {**(extra or {}), MARK: marks}
    return replace(message, content=content, extra=held, attachments=attachments)


def kept_value(value: Any) -> Any:
    """A JSON value as it is stored: itself where it can be stored so."""
    with suppress(RecursionError):
        written = _written(value)
        return value if written == value else {MARK: ["value"], "value": written}
    return value


def is_kept(message: ChatMessage) -> bool:
    """Whether `restored` would change the message."""
    return _has_mark(message.extra) or any(_has_mark(edit.extra) for edit in message.edits)


def missing(message: ChatMessage) -> tuple[str, ...]:
    """The SHA-256 of each attachment whose bytes `restored` needs."""
    moved = message.attachments[_first_moved(message) :]
    return tuple([each.sha256 for each in moved if each.sha256])


def restored(message: ChatMessage, blobs: Mapping[str, bytes]) -> ChatMessage:
    """The inverse of `kept`; `blobs` are the bytes of attachments by their SHA-256.

    What stands for bytes that are not among them stays as it is.
    """
    content, extra = _restored(message.content, message.extra, blobs)
    attachments = message.attachments[: _first_moved(message)]
    edits = tuple([_restored_edit(edit) for edit in message.edits])
    return replace(message, content=content, extra=extra, attachments=attachments, edits=edits)


def restored_value(value: Any) -> Any:
    """The inverse of `kept_value`."""
    return _read(value["value"], {}) if _has_mark(value) and "value" in value else value


def escape(text: str) -> str:
    """`text` without lone surrogates."""
    if text.isascii() and "\\u" not in text:  # such as a picture, which is long
        return text
    return _TO_ESCAPE.sub(_escaped, text)


def unescape(text: str) -> str:
    """The inverse of `escape`."""
    return _ESCAPED.sub(_unescaped, text) if "\\u" in text else text


def _escaped(found: re.Match[str]) -> str:
    if found[2] is None:
        return found[3] * 2
    return f"{found[1] * 2}\\u{ord(found[2]):04x}"


def _unescaped(found: re.Match[str]) -> str:
    count = len(found[1])
    said = chr(int(found[2][1:], 16)) if count % 2 else found[2]
    return "\\" * (count // 2) + said


def _is_plain(message: ChatMessage, most_bytes: float) -> bool:
    """Whether the message can be stored as it is, and none would take it for one that is `kept`."""
    try:
        check_messages((message,), Limits(int(min(most_bytes, 2**62)), 2**62))
    except InvalidInputError:
        return False
    return message.extra is None or MARK not in message.extra


def _is_typed(message: Any) -> bool:
    """Whether the fields that may be changed are what they should be."""
    extra = message.extra
    is_typed = isinstance(message.content, str) and isinstance(message.attachments, tuple)
    return is_typed and (extra is None or isinstance(extra, dict))


def _restored_edit(edit: EarlierVersion) -> EarlierVersion:
    content, extra = _restored(edit.content, edit.extra, {})
    return replace(edit, content=content, extra=extra)


def _restored(content: str, extra: Any, blobs: Mapping[str, bytes]) -> tuple[str, Any]:
    if not _has_mark(extra):
        return content, extra
    marks = extra[MARK]
    if "content" in marks:
        content = unescape(content)
    if "extra" not in marks:
        return content, None
    return content, _read({key: value for key, value in extra.items() if key != MARK}, blobs)


def _has_mark(extra: Any) -> bool:
    return isinstance(extra, dict) and isinstance(extra.get(MARK), list)


def _first_moved(message: ChatMessage) -> int:
    """The place of the first attachment that was none before."""
    marks: Any = message.extra[MARK] if message.extra and _has_mark(message.extra) else ()
    count = marks[-1] if marks and type(marks[-1]) is int else 0
    return max(0, len(message.attachments) - max(0, count))


def _written(value: Any, text: Callable[[str], Any] = escape) -> Any:
    """`value` as JSON can hold it; `text` says what is written for a text."""
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return {_key(key): _written(each, text) for key, each in value.items()}
    if isinstance(value, list):
        return [_written(each, text) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else {NUMBER: str(value)}
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        is_long = abs(value) >= 10**_LONGEST_DECIMAL
        return {NUMBER: hex(value) if is_long else str(value)}
    return value


def _key(key: Any) -> Any:
    if not isinstance(key, str):
        return key
    return escape(f"${key}" if key.startswith("$") else key)


def _read(value: Any, blobs: Mapping[str, bytes]) -> Any:
    """The inverse of `_written`."""
    if isinstance(value, str):
        return unescape(value)
    if isinstance(value, list):
        return [_read(each, blobs) for each in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get(NUMBER), str):
        return _number(value[NUMBER])
    if isinstance(sha256 := value.get(_BASE64), str):
        before, data = value.get(_BEFORE), blobs.get(sha256)
        return value if data is None else f"{before}{to_base64(data)}"
    return {
        unescape(key.removeprefix("$") if key.startswith("$$") else key): _read(each, blobs)
        for key, each in value.items()
    }


def _number(text: str) -> Any:
    for read in (lambda: int(text, 0), lambda: float(text)):
        with suppress(ValueError):
            return read()
    return text  # as a redaction has left it


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except (TypeError, ValueError):
        return 0  # the checks refuse it


def _without_base64(message: ChatMessage, too_many: float, blobs: Blobs) -> Any:
    """The `extra` as it is written, with so many bytes less; `blobs` get what they stand for."""
    extra = message.extra
    texts = sorted(_texts(extra), key=len, reverse=True)
    instead = dict[str, Any]()
    for text in dict.fromkeys(texts):
        if too_many <= 0 or len(text) < _LEAST_BASE64:
            break
        if len(message.attachments) + len(blobs) >= MAX_ATTACHMENTS:
            break
        if (found := _base64_in(text)) is not None:
            before, attachment = found
            sha256 = attachment.sha256 or ""
            blobs[sha256] = attachment
            instead[text] = {_BASE64: sha256, _BEFORE: before}
            too_many -= texts.count(text) * (len(text) - _size(instead[text]))
    return _written(extra, lambda text: instead[text] if text in instead else escape(text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _base64_in(text: str) -> tuple[str, Attachment] | None:
    """What precedes base64 in `text`, and its bytes; None if there is other text, too."""
    url = _DATA_URL.match(text)
    before = url[0] if url is not None else ""
    with suppress(ValueError):  # UnicodeError is one
        data = from_base64(text[len(before) :])
        if len(data) <= MAX_ATTACHMENT_BYTES and to_base64(data) == text[len(before) :]:
            mime = url[1] if url is not None else None
            kind = (mime or "file").partition("/")[0]
            sha256 = hashlib.sha256(data).hexdigest()
            return before, Attachment(kind, mime_type=mime, data=data, sha256=sha256)
    return None
