"""One session of the model: what it has, and what an operation on it alone makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from backscroll.contract.messages import ChatMessage
from backscroll.contract.states import SessionState
from backscroll_worker.contract.waiting import Change


@dataclass(slots=True)
class ModelSession:
    created_at: int
    last_activity: int
    messages: list[ChatMessage] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    states: dict[str, SessionState] = field(default_factory=dict)
    platform_ids: set[str] = field(default_factory=set)
    """Those that it has, or had."""
    lease: int | None = None

    def is_turn(self, turn_id: str) -> bool:
        """Whether that turn runs."""
        return self._turn == ("running", turn_id)

    def is_taken(self, now: int) -> bool:
        """Whether a turn runs whose lease has not expired."""
        expires_at = self.attributes.get("turn_expires_at")
        return self._turn[0] == "running" and (expires_at is None or expires_at >= now)

    def is_due(self, now: int, ttl_hours: float) -> bool:
        """Whether cleanup deletes it, by its own ttl or else by this one."""
        own = self.attributes.get("ttl_hours")
        hours = ttl_hours if own is None else own or math.inf
        is_idle = (now - self.last_activity) / 3.6e9 > hours
        return is_idle and not self.attributes.get("pinned")

    def index(self, change: Change) -> int | None:
        """The place of the last message, or of the one named."""
        wanted = change.message_id or change.platform_id
        name = "message_id" if change.message_id else "platform_id"
        found = [each for each, m in enumerate(self.messages) if getattr(m, name) == wanted]
        if wanted is None:
            return len(self.messages) - 1 if self.messages else None
        return found[0] if found else None

    def describe(self, attributes: Mapping[str, Any], now: int) -> None:
        """Set these attributes; a running turn begins now."""
        values = dict(attributes)
        if "state" in values:
            is_running = values["state"] == "running"
            values["turn_id"] = values.get("turn_id") if is_running else None
            values["turn_started_at"] = now if is_running else None
            values["turn_expires_at"] = self.lease = None
        if "meta" in values:
            meta = {**(self.attributes.get("meta") or {}), **values["meta"]}
            values["meta"] = {name: value for name, value in meta.items() if value is not None}
        self.attributes.update(values)

    def describe_beside(self, attributes: Mapping[str, Any], now: int) -> None:
        """As `describe`, but a turn that is running already did not begin now."""
        before, lease = dict(self.attributes), self.lease
        self.describe(attributes, now)
        if all(self.attributes.get(name) == before.get(name) for name in ("state", "turn_id")):
            self.lease = lease
            for name in ("turn_started_at", "turn_expires_at"):
                self.attributes[name] = before.get(name)

    def begun_anew(self, past_key: str, now: int) -> Self:
        """The new conversation after this one, which is the past one from now on."""
        new = type(self)(now, now, [], dict(self.attributes), dict(self.states))
        new.platform_ids |= self.platform_ids
        if self.attributes.get("state") == "running":
            self.describe({"state": "idle"}, now)
        new.describe({"state": "idle", "closed": False}, now)
        new.attributes.update(forked_from=None, forked_upto=None, continued_from=past_key)
        return new

    @property
    def _turn(self) -> tuple[str | None, str | None]:
        return self.attributes.get("state"), self.attributes.get("turn_id")
