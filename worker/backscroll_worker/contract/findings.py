"""What a store says of itself: what is wrong with it, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing `verify` found wrong: where, what, and what to do about it."""

    where: str
    problem: str
    advice: str
    repairable: bool = False
    """Whether `repair` can put it right: what the users said is sound."""


@dataclass(frozen=True, slots=True)
class Totals:
    """How much a store holds; the times are the sessions' activity, in microseconds since 1970."""

    sessions: int
    messages: int
    size_bytes: int
    oldest_activity: int | None
    newest_activity: int | None
