"""What an update changes in a history: something was said, edited or deleted, or a chat moved.

Each is sent with `to(producer)`, which is one call of a `Producer` or an `AsyncProducer` and
returns what that returns: a receipt, or what is to be awaited for one. It raises as that call does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from backscroll.contract.messages import ChatMessage, SessionAttributes

Answer = TypeVar("Answer")
Answer_co = TypeVar("Answer_co", covariant=True)


class Writes(Protocol[Answer_co]):
    """A producer, of either sort."""

    def append(
        self, key: str, *messages: ChatMessage, session: SessionAttributes | None = None
    ) -> Answer_co: ...

    def replace(
        self,
        key: str,
        message: ChatMessage,
        *,
        platform_id: str | None = None,
        dedup_key: str | None = None,
    ) -> Answer_co: ...

    def rollback(self, key: str, *, platform_id: str | None = None) -> Answer_co: ...

    def rename(self, key: str, new_key: str) -> Answer_co: ...


@dataclass(frozen=True, slots=True)
class Said:
    """A new message; `session` has attributes of its session, as `append` takes them."""

    key: str
    message: ChatMessage
    session: SessionAttributes = field(default_factory=dict, hash=False)

    def to(self, producer: Writes[Answer]) -> Answer:
        """Append the message; it is stored once, however often it is delivered."""
        return producer.append(self.key, self.message, session=self.session or None)


@dataclass(frozen=True, slots=True)
class Edited:
    """What a message says from now on; `edit_id` is the platform's id or time of the edit."""

    key: str
    message: ChatMessage
    platform_id: str
    edit_id: str | None = field(default=None, compare=False)

    def to(self, producer: Writes[Answer]) -> Answer:
        """Replace the message; if it is not there yet, the edit waits for it.

        With an `edit_id` it is done once, so that to be delivered again undoes no later edit.
        """
        return producer.replace(
            self.key, self.message, platform_id=self.platform_id, dedup_key=self._dedup_key
        )

    @property
    def _dedup_key(self) -> str | None:
        """Of what it says, too: a platform's time may be that of two edits."""
        if self.edit_id is None:
            return None
        said = self.message.content, self.message.extra, self.message.attachments
        edit = repr((self.platform_id, self.edit_id, *said)).encode()
        return f"edit {hashlib.blake2b(edit, digest_size=16).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Deleted:
    """A message is gone; of several deleted at once there is one of these each."""

    key: str
    platform_id: str

    def to(self, producer: Writes[Answer]) -> Answer:
        """Drop the message; if it is not there yet, the deletion waits for it."""
        return producer.rollback(self.key, platform_id=self.platform_id)


@dataclass(frozen=True, slots=True)
class Moved:
    """The chat has another id, and its session another key, from now on."""

    key: str
    new_key: str

    def to(self, producer: Writes[Answer]) -> Answer:
        """Rename the session; nothing happens where there is none."""
        return producer.rename(self.key, self.new_key)


Change = Said | Edited | Deleted | Moved
