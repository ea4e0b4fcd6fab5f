"""A session's own keys and values: what may be in them, and which sessions have them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import MAX_ATTRIBUTE_CHARS, Meta, check_text

MAX_META_BYTES: Final = 16 * 1024
"""Of all keys and values of a session together, in JSON."""

_INT64: Final = 2**63


def check_meta(meta: object, *, may_clear: bool = True) -> dict[str, Any]:
    """`meta` if its keys are text and its values text, numbers or booleans.

    None as a value, which clears a key, only if it `may_clear`.
    """
    if not isinstance(meta, Mapping):
        raise InvalidInputError("meta", f"must be a mapping, not {type(meta).__name__}")
    checked = {
        check_text("meta", name, MAX_ATTRIBUTE_CHARS): _value(value, may_clear)
        for name, value in meta.items()
    }
    check_meta_size(checked)
    return checked


def check_meta_size(meta: Meta) -> None:
    """Raise `InvalidInputError` if that is more than a session may have."""
    size = len(orjson.dumps(meta))
    if size > MAX_META_BYTES:
        problem = f"has {size:,} bytes of JSON; the limit is {MAX_META_BYTES:,}"
        raise InvalidInputError("meta", problem, MAX_META_BYTES)


def has_meta(meta: Meta, wanted: Meta) -> bool:
    """Whether all that is `wanted` is in `meta`. 1 is 1.0, but true is not 1."""
    return all(
        name in meta
        and meta[name] == value
        and isinstance(meta[name], bool) is isinstance(value, bool)
        for name, value in wanted.items()
    )


def _value(value: object, may_clear: bool) -> str | int | float | bool | None:
    if isinstance(value, str):
        return check_text("meta", value, MAX_META_BYTES, may_be_empty=True)
    if isinstance(value, bool) or (value is None and may_clear):
        return value
    if isinstance(value, int) and -_INT64 <= value < _INT64:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    problem = "each value must be text, a finite number of at most 64 bits, true or false"
    raise InvalidInputError("meta", f"{problem}, not {type(value).__name__}")
