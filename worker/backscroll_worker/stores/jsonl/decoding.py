"""Finds the complete JSON objects in a damaged line, one that a strict parser refuses.

A crash leaves zero bytes, half a record followed by the next one, or a record in several lines;
editors leave byte order marks; other programs write NaN, integers beyond 64 bits, duplicate keys,
or bytes that are not UTF-8. The rest of the line is returned too, so that it can be kept. The time
needed is proportional to the line's length.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import orjson

_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
ENCODING_BYTES: Final = 4
_UNMARKED: Final = {b'{\0"\0': "utf-16-le", b'\0{\0"': "utf-16-be"}

# Characters without meaning between the objects of a list or around a line.
_SEPARATORS: Final = " \t\r\n\v\f,[]\ufeff"
_PADDING: Final = " \t\r\n\v\f\0\ufeff"
_BEGINNING: Final = re.compile(r'\{\s*["}]')
_OPENING: Final = re.compile(r'\{\s*"?\s*$')
_CONTINUES: Final = re.compile(r"[\s\0\ufeff]*[,}\]]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_DEEP: Final = 250
_MAX_ATTEMPTS: Final = 16
_MAX_TEARS: Final = 200  # each costs a scan of the whole line

NOT_UNICODE: Final = "some of it is not Unicode; U+FFFD stands in its place"

IsRecord = Callable[[dict[str, Any]], bool]


class Value(NamedTuple):
    """An object of a line; `is_altered` if text that is not Unicode was replaced by U+FFFD."""

    fields: dict[str, Any]
    is_altered: bool = False


class Decoded(NamedTuple):
    """The objects of a line in order, the bytes that remain, and why those are unreadable."""

    values: Sequence[Value]
    remains: bytes
    problem: str


def as_utf8(content: bytes) -> bytes:
    """A file's content, converted to UTF-8 if it is in UTF-16 or UTF-32."""
    encoding = encoding_of(content[:ENCODING_BYTES])
    if encoding is None:
        return content
    return content.decode(encoding, "replace").removeprefix("\ufeff").encode(errors="replace")


def encoding_of(start: bytes) -> str | None:
    """The encoding of a file that begins with these bytes; None for UTF-8."""
    marks = (name for mark, name in _MARKS.items() if start.startswith(mark))
    return next(marks, None) or _UNMARKED.get(start)


def decode_line(raw: bytes, is_record: IsRecord) -> Decoded:
    """Find the objects of a line that are records according to `is_record`."""
    text = raw.decode("utf-8", "surrogateescape")
    values, beside, end = list[Value](), list[str](), 0
    for start, stop, fields in _objects(text, is_record):
        value = _stored(fields)
        if value is not None and is_record(value.fields):
            values.append(value)
            beside.append(text[end:start])
            end = stop
    beside.append(text[end:])
    remains = "".join(part for part in beside if part.strip(_SEPARATORS))
    problem = _problem(raw, remains, bool(values))
    if not remains and any(value.is_altered for value in values):
        remains, problem = text, NOT_UNICODE
    return Decoded(values, remains.encode("utf-8", "surrogateescape"), problem)


def decode_whole(raw: bytes) -> Value | None:
    """The object if `raw` is exactly one, parsed as leniently as those of a damaged line."""
    text = raw.decode("utf-8", "surrogateescape").strip(_PADDING)
    try:
        fields, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return _stored(fields) if isinstance(fields, dict) and end == len(text) else None


def is_cut_off(raw: bytes) -> bool:
    """Whether `raw` is the beginning of an object that the next lines may complete."""
    text = raw.decode("utf-8", "surrogateescape").strip(_PADDING)
    if not text.startswith("{"):
        return False
    try:
        _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text) or error.msg.startswith("Unterminated")
    except (ValueError, RecursionError):
        return False
    return False


def is_storable(value: object) -> bool:
    """Whether `value` can be encoded as JSON, also inside the objects that will contain it."""
    try:
        orjson.dumps([[[[[[[[value]]]]]]]])
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def is_deep(raw: bytes) -> bool:
    """Whether a line may be nested too deeply to be stored."""
    return raw.count(b"{") + raw.count(b"[") > _DEEP


def _objects(text: str, is_record: IsRecord) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The outermost objects of `text` with start and end, including those after a torn one.

    An object inside a torn one belongs to it, unless it ends where the torn one breaks off: then
    it was written after the tear.
    """
    position, tears = 0, 0
    while tears < _MAX_TEARS and (opening := _BEGINNING.search(text, position)):
        start = opening.start()
        try:
            fields, position = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            tears += 1
            inner = _written_after(text, start, error.pos, is_record)
            if inner is None:
                position = _next_opening(text, start, error.pos)
                continue
            start, position, fields = inner
        except (ValueError, RecursionError):
            return
        if not (tears and _CONTINUES.match(text, position)):
            yield start, position, fields


def _problem(raw: bytes, remains: str, is_message: bool) -> str:
    if not remains.strip(_PADDING):
        return "zero bytes" + " beside a message" * is_message
    if is_message:
        return "a part of the line beside the message is unreadable"
    if is_deep(raw):
        return "it is nested too deeply to be stored"
    return "no message can be read; the line may be cut off"


def _next_opening(text: str, start: int, failed: int) -> int:
    """Where to continue; the start of the next object may have been taken for a string's end."""
    near = max(start + 1, failed - 64)
    opening = _OPENING.search(text, near, failed)
    return opening.start() if opening else max(start + 1, failed)


def _written_after(
    text: str, start: int, failed: int, is_record: IsRecord
) -> tuple[int, int, dict[str, Any]] | None:
    """A record in the place of a value of the torn object that ends where that breaks off."""
    end = failed
    while end > start and text[end - 1] in _PADDING:
        end -= 1
    if text[end - 1] != "}":
        return None
    place = end
    for _ in range(_MAX_ATTEMPTS):
        place = text.rfind("{", start + 1, place)
        if place < 0:
            return None
        try:
            fields, size = _DECODER.raw_decode(text[place:end])
        except (ValueError, RecursionError):
            continue
        if place + size == end:
            is_own = is_record(fields) and "replaced_at" not in fields
            return (place, end, fields) if is_own else None
    return None


def _stored(fields: dict[str, Any]) -> Value | None:
    """The object in a form that can be stored; None if it is nested too deeply."""
    if is_storable(fields):
        return Value(fields)
    try:
        fields = _unicode(fields)
    except RecursionError:
        return None
    return Value(fields, is_altered=True) if is_storable(fields) else None


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_unicode(each) for each in value]
    if isinstance(value, dict):
        return {_unicode(name): _unicode(each) for name, each in value.items()}
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The last value of a duplicate key counts, as in other parsers; the others are kept."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        last = {name: place for place, (name, _) in enumerate(pairs)}
        free = "duplicate_fields"
        while free in fields:
            free += "_"
        fields[free] = [
            [name, value] for place, (name, value) in enumerate(pairs) if last[name] != place
        ]
    return fields


def _integer(digits: str) -> int | str:
    """As text if it exceeds 64 bits."""
    if len(digits) > 20:
        return digits
    value = int(digits)
    return value if -(2**63) <= value < 2**64 else digits


def _number(digits: str) -> float | str:
    value = float(digits)
    return value if math.isfinite(value) else digits


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=str,
    strict=False,
)
