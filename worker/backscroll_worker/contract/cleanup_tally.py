"""The removals of a cleanup, counted by rule for its report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from backscroll.contract.results import CleanedSession, CleanupReport, RuleTotals
from backscroll_worker.contract.retention import MICROS_PER_HOUR, Retention, Rule

MAX_DETAILS: Final = 1_000


@dataclass(slots=True)
class _Counts:
    sessions: int = 0
    messages: int = 0
    capped: int = 0


@dataclass(slots=True)
class Tally:
    """Counts removals from its creation to `report`; `now` is the store's clock."""

    retention: Retention
    now: int
    dry_run: bool
    _started: float = field(default_factory=time.monotonic)
    _by_rule: dict[str, _Counts] = field(default_factory=dict)
    _details: list[CleanedSession] = field(default_factory=list)

    def add(
        self, key: str, rule: Rule, last_activity: int, messages: int, *, is_whole: bool
    ) -> None:
        """Count a deleted session, or `messages` of its messages."""
        name = rule.name_of(is_whole=is_whole)
        counts = self._by_rule.setdefault(name, _Counts())
        if is_whole:
            counts.sessions += 1
            counts.messages += messages
        else:
            counts.capped += messages
        if len(self._details) < MAX_DETAILS:
            idle_hours = round((self.now - last_activity) / MICROS_PER_HOUR, 3)
            self._details.append(CleanedSession(key, name, idle_hours, messages, is_whole))

    def report(self) -> CleanupReport:
        """The report of all removals."""
        counted = self._by_rule.items()
        ttl = self.retention.default.ttl_micros
        return CleanupReport(
            sum(counts.sessions for _, counts in counted),
            sum(counts.messages for _, counts in counted),
            sum(counts.capped for _, counts in counted),
            None if ttl is None else ttl / MICROS_PER_HOUR,
            self.dry_run,
            time.monotonic() - self._started,
            tuple(
                RuleTotals(name, counts.sessions, counts.messages, counts.capped)
                for name, counts in counted
            ),
            tuple(self._details),
        )
