"""Which messages of a session go by the retention rules for their authors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backscroll_worker.contract.clock import Passage
from backscroll_worker.contract.retention import Retention, Rule


class DueMessages:
    """Takes one session's messages in their order, each author's from the first on.

    A message is due when its own time is longer ago than the ttl of its author's rule, and all
    that the author said before in this session is due, too: so what arrives late or with a clock
    that is behind stays at least as long as what was there before. A message dated in the future
    stays and keeps no other.
    """

    def __init__(
        self, retention: Retention, passage: Passage, attributes: Mapping[str, Any]
    ) -> None:
        self._retention = retention
        self._passage = passage
        self._attributes = attributes
        self._rules = dict[str, Rule | None]()

    def take(self, author: str | None, created_at: int | None) -> Rule | None:
        """The rule by which a message goes, if any; times are in microseconds."""
        rule = self.rule_of(author)
        if author is None or rule is None or rule.ttl_micros is None or created_at is None:
            return None
        if created_at > self._passage.now:
            return None
        if self._passage.cutoff(rule.ttl_micros).is_past(created_at):
            return rule
        self._rules[author] = None
        return None

    def rule_of(self, author: str | None) -> Rule | None:
        """The rule for the author's next message; None if that and all later ones stay."""
        if author is None:
            return None
        if author not in self._rules:
            self._rules[author] = self._retention.rule_for_author(self._attributes, author)
        return self._rules[author]
