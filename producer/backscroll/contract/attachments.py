"""What is attached to a message: pictures, recordings, files; what is known of each, and its bytes.

The bytes travel inside of the message, in base64. A store keeps them beside the messages, once
each, under their SHA-256, by which whoever loads the message asks for them.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something attached to a message.

    `kind` says what it is, such as "image", "audio", "video" or "file" (any word). `name` is its
    file name, `size` its size in bytes, `url` where it can be fetched and `platform_id` the
    platform's id of it. `data` are its bytes, up to 8 MiB: with `url`, instead of it, or not at
    all. A message that was loaded has their `sha256` and `size`, and no `data`.
    """

    kind: str
    name: str | None = None
    mime_type: str | None = None
    size: int | None = None
    url: str | None = None
    data: bytes | None = field(default=None, repr=False)
    platform_id: str | None = None
    sha256: str | None = None

    @property
    def label(self) -> str:
        """How a transcript shows it: `[image: cat.png]`."""
        name = self.name or self.url or self.platform_id
        return f"[{self.kind}]" if name is None else f"[{self.kind}: {name}]"

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it: without absent fields, the bytes in base64."""
        fields = {name: getattr(self, name) for name in ATTACHMENT_FIELDS}
        if self.data is not None:
            fields["data"] = to_base64(self.data)
        return {name: value for name, value in fields.items() if value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises `ValueError` where the bytes are not base64."""
        given: dict[str, Any] = {name: fields.get(name) for name in ATTACHMENT_FIELDS}
        if (data := given["data"]) is not None:
            given["data"] = from_base64(data)
        return cls(**given)


ATTACHMENT_FIELDS: Final = tuple(Attachment.__slots__)


def attachments_of(fields: Iterable[Mapping[str, Any]] | None) -> tuple[Attachment, ...]:
    """Those in a message's JSON form."""
    return tuple(map(Attachment.from_dict, fields)) if fields else ()


def to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def from_base64(text: str) -> bytes:
    """The inverse of `to_base64`; raises `ValueError` for anything else."""
    return binascii.a2b_base64(text, strict_mode=True)
