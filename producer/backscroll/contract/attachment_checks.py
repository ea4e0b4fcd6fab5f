"""Whether attachments can be stored, and reading them from a job, which may hold anything."""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from backscroll.contract.attachments import ATTACHMENT_FIELDS, Attachment
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import MAX_ATTRIBUTE_CHARS, check_text

MAX_ATTACHMENTS: Final = 32
MAX_ATTACHMENT_BYTES: Final = 8 * 1024 * 1024
MAX_KIND_CHARS: Final = 64
MAX_URL_CHARS: Final = 4096
_MAX_SIZE: Final = 2**53
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_TEXTS: Final = (
    ("kind", MAX_KIND_CHARS),
    ("name", MAX_ATTRIBUTE_CHARS),
    ("mime_type", MAX_ATTRIBUTE_CHARS),
    ("url", MAX_URL_CHARS),
    ("platform_id", MAX_ATTRIBUTE_CHARS),
)


def check_attachments(attachments: object) -> int:
    """How many bytes they have together, by `data` or `sha256`, if they can be stored.

    Raises `InvalidInputError`.
    """
    if not isinstance(attachments, tuple):
        problem = f"must be a list of Attachment objects, not {type(attachments).__name__}"
        raise InvalidInputError("attachments", problem)
    if len(attachments) > MAX_ATTACHMENTS:
        problem = f"are {len(attachments):,}; a message has at most {MAX_ATTACHMENTS}"
        raise InvalidInputError("attachments", problem, MAX_ATTACHMENTS)
    return sum(map(_checked_bytes, attachments))


def check_sha256(name: str, value: object) -> str:
    """`value` if it is a SHA-256 as `Attachment.sha256` has it."""
    if isinstance(value, str) and _SHA256.fullmatch(value):
        return value
    raise InvalidInputError(name, "must be a SHA-256: 64 characters of 0-9 and a-f")


def read_attachments(name: str, values: Any) -> tuple[Attachment, ...]:
    """Those in a message's JSON form; `check_attachments` then checks what they say."""
    if type(values) is not list or not all(type(each) is dict for each in values):
        raise InvalidInputError(name, "must be a list of objects")
    for fields in values:
        for field in fields:
            if field not in ATTACHMENT_FIELDS:
                raise InvalidInputError(name, f"unknown field {str(field)[:40]!r}")
    try:
        return tuple(map(Attachment.from_dict, values))
    except (TypeError, ValueError):
        raise InvalidInputError("data", "is not base64") from None


def _checked_bytes(attachment: object) -> int:
    if not isinstance(attachment, Attachment):
        problem = f"must be Attachment objects, not {type(attachment).__name__}"
        raise InvalidInputError("attachments", problem)
    for name, most_chars in _TEXTS:
        value = getattr(attachment, name)
        if value is not None or name == "kind":
            check_text(name, value, most_chars)
    size, sha256, data = attachment.size, attachment.sha256, attachment.data
    if size is not None and (type(size) is not int or not 0 <= size < _MAX_SIZE):
        raise InvalidInputError("size", "must be a whole number of bytes from 0")
    if sha256 is not None:
        check_sha256("sha256", sha256)
    if data is None:
        return 0 if sha256 is None else size or 0
    return _check_data(data, size, sha256)


def _check_data(data: object, size: int | None, sha256: str | None) -> int:
    if type(data) is not bytes:
        raise InvalidInputError("data", f"must be bytes, not {type(data).__name__}")
    if len(data) > MAX_ATTACHMENT_BYTES:
        raise InvalidInputError(
            "data",
            f"has {len(data):,} bytes; the limit is {MAX_ATTACHMENT_BYTES:,}. Store a larger one "
            "elsewhere and give its url",
            MAX_ATTACHMENT_BYTES,
        )
    if size is not None and size != len(data):
        raise InvalidInputError("size", f"is {size:,}, and data has {len(data):,} bytes")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidInputError("sha256", "is not that of data")
    return len(data)
