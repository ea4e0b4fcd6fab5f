"""Values that a platform sent, as a session or a message can hold them; they may be anything."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    MAX_KEY_CHARS,
    check_moment,
    check_text,
    from_micros,
)

_ESCAPED: Final = re.compile("[^!-$&-^`-~]")
"""In a part of a key: all but the visible ASCII characters, and of these "%" and "_"."""

_NOT_IN_NAMES: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_LATEST_MICROS: Final = 10**18


def session_key(channel: str, *parts: str) -> str:
    """`channel_part_part`: a key that no other parts have, whatever they are made of.

    Beyond the length that a key may have it ends with a hash of the parts, behind "%sha256_", which
    no escaped part can begin with.
    """
    key = "_".join((channel, *(_ESCAPED.sub(_as_bytes, part) for part in parts)))
    if len(key) <= MAX_KEY_CHARS:
        return key
    return f"{channel}_%sha256_{hashlib.sha256(key.encode()).hexdigest()}"


def _as_bytes(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))


def identifier(value: object) -> str | None:
    """A platform's id as text; None for what cannot be one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 2**64 else None
    try:
        return check_text("id", value, MAX_ATTRIBUTE_CHARS)
    except InvalidInputError:
        return None


def name(value: object, most_chars: int = MAX_ATTRIBUTE_CHARS) -> str | None:
    """A name to show, on one line and cut where it is too long; None if nothing is left."""
    if not isinstance(value, str):
        return None
    return _NOT_IN_NAMES.sub(" ", value).strip()[:most_chars].strip() or None


def text(value: object) -> str:
    """What was said, unchanged, but that lone surrogates become U+FFFD; "" for no text."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def moment(value: object) -> datetime | None:
    """A time as a message can have it; None for any other, and without a time zone."""
    try:
        return check_moment("created_at", value)
    except (InvalidInputError, ArithmeticError, ValueError):
        return None


def moment_of_seconds(seconds: object, per_second: int = 1) -> datetime | None:
    """The time so many seconds, or parts of one, after 1970, exact to the microsecond."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | str):
        return None
    try:
        micros = Decimal(seconds) * 1_000_000 / per_second
        return moment(from_micros(int(micros))) if abs(micros) < _LATEST_MICROS else None
    except (ArithmeticError, InvalidOperation, ValueError):
        return None


def mapping(value: object) -> Mapping[str, Any]:
    """`value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects in a list of JSON; none in anything else."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def items(value: Any, *path: str) -> Sequence[Any]:
    """Those of such an attribute that is a list or a tuple; none of any other."""
    found = attribute(value, *path)
    return found if isinstance(found, list | tuple) else ()


def attribute(value: Any, *path: str) -> Any:
    """An attribute of an attribute of …; None where one is missing."""
    for field in path:
        value = getattr(value, field, None)
    return value
