"""The writes that no job can name: whole sessions from elsewhere, and out of the archive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from backscroll.contract.messages import ChatMessage, SessionInfo
from backscroll.contract.operations import Write


@dataclass(frozen=True, slots=True)
class ImportSession(Write):
    """Take over a whole session with its own times, in microseconds since 1970 UTC.

    Times of the future become now. Every message has its id and time, and its earlier versions. The
    attributes are taken as they are, without what `describe` makes of a state. Refused when the
    store has messages of that session already. No job can name it: it is for migration and import,
    which run as the store's one writer.
    """

    kind = "import_session"
    key: str
    messages: tuple[ChatMessage, ...]
    attributes: Mapping[str, str | bool | None]
    created_at: int
    last_activity: int
    turn_started_at: int | None = None


@dataclass(frozen=True, slots=True)
class RestoreSession(Write):
    """Put a session's messages from the archive before those that it has by now.

    What the store has already of them, in this session or in `source`, where they come from, is
    left out; the outcome counts the others. A session that is not there becomes as `info` says,
    unless all its messages are elsewhere in the store; one that is there keeps its attributes and
    its last activity. With `info.pinned` it is pinned in any case.
    No job can name it: `maintenance.restore` makes it of what the archive has.
    """

    kind = "restore_session"
    key: str
    source: str
    info: SessionInfo
    messages: tuple[ChatMessage, ...]
