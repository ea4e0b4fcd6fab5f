"""What a store needs of an archive: where cleanup puts messages before they go.

`archive.directory.Archive` is one.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll_worker.contract.pacing import Slices
from backscroll_worker.contract.states import States

REMOVALS_PER_FILE: Final = 500
BYTES_PER_FILE: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ArchivedSession:
    """What the archive, or an export, says of a session besides its messages.

    `info` is as it was before the removal, `removed_at` in microseconds since 1970 UTC; what was
    exported has its last activity there. Without `is_whole` only the oldest messages were removed,
    those of one author if it `is_of_author`, and the session stayed.
    """

    info: SessionInfo
    removed_at: int
    rule: str
    is_whole: bool = True
    states: States = field(default_factory=dict, hash=False)
    is_of_author: bool = False


class RemovalWriter(Protocol):
    """Takes what one round of a cleanup removes; nothing of it counts until `publish`.

    All but `abandon` raise `ArchiveError` when the archive's disk fails.
    """

    file: Any
    size_bytes: int

    def begin(self, session: ArchivedSession) -> None:
        """What is added from here on belongs to `session`."""

    def add(self, message: ChatMessage) -> bytes:
        """A message of the session, later than those before; the line it becomes."""

    def publish(self) -> None:
        """Make all of it durable and visible."""

    def abandon(self) -> None:
        """Remove what was written; harmless after `publish`."""


class RemovalArchive(Protocol):
    """Keeps what cleanup removes. Each call raises `ArchiveError` when its disk fails."""

    def sweep(self) -> None:
        """Remove what was being written when a process was killed."""

    def begin(self) -> RemovalWriter:
        """Where the next round's removals go."""

    def drop_slices(self, file: Any, places: Container[int]) -> Slices[None]:
        """Take sessions out of a writer's `file` again, by their places in it."""
