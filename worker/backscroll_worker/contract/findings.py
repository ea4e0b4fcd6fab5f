"""A store's reports about itself: findings of `verify`, and totals."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem found by `verify`: where, what, and what to do about it."""

    where: str
    problem: str
    advice: str
    repairable: bool = False
    """Whether `repair` can correct it: the users' messages are intact."""


@dataclass(frozen=True, slots=True)
class Totals:
    """A store's totals; the times are the sessions' activity, in microseconds since 1970."""

    sessions: int
    messages: int
    size_bytes: int
    oldest_activity: int | None
    newest_activity: int | None
    waiting_changes: int = 0
    """Edits and deletions whose message has not arrived."""
    blobs: int = 0
    """Files with the bytes of attachments; `size_bytes` is without them."""
    blob_bytes: int = 0
