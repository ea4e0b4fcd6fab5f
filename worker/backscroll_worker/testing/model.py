"""The contract in a few lines of plain Python: what any store must look like after operations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import Rename, Reset, Rewind
from backscroll.contract.messages import ChatMessage, SessionInfo, to_micros
from backscroll.contract.operations import (
    Append,
    Clear,
    Delete,
    Describe,
    Operation,
    RenameAgent,
    Replace,
    Rollback,
)
from backscroll.contract.results import Outcome
from backscroll.contract.states import SessionState, SetState
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.turns import CONFLICT, outcome
from backscroll_worker.stores.search.query import Query
from backscroll_worker.testing.stores import StoreUnderTest

State = dict[str, tuple[list[ChatMessage], SessionInfo | None]]


@dataclass(slots=True)
class ModelSession:
    created_at: int
    last_activity: int
    messages: list[ChatMessage] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    states: dict[str, SessionState] = field(default_factory=dict)
    platform_ids: set[str] = field(default_factory=set)
    """Those that it has, or had."""


@dataclass(slots=True)
class Model:
    """A store that forgets nothing and never fails."""

    sessions: dict[str, ModelSession] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)

    def apply(self, operations: Iterable[Operation], now: int) -> list[Outcome]:
        return [self._once(operation, now) for operation in operations]

    def search(self, text: str) -> set[tuple[str, str]]:
        query = Query.parse(text)
        return {
            (key, message.content)
            for key, session in self.sessions.items()
            for message in session.messages
            if query.matches(message.content)
        }

    def cleanup(self, idle_before: int) -> set[str]:
        idle = {
            key
            for key, session in self.sessions.items()
            if session.last_activity < idle_before and not session.attributes.get("pinned")
        }
        for key in idle:
            del self.sessions[key]
        return idle

    def state(self, keys: Iterable[str]) -> State:
        return {key: (self._load(key), self._info(key)) for key in keys}

    def states(self, key: str) -> dict[str, SessionState]:
        return self.sessions[key].states if key in self.sessions else {}

    def _load(self, key: str) -> list[ChatMessage]:
        session = self.sessions.get(key)
        return [] if session is None else list(session.messages)

    def _info(self, key: str) -> SessionInfo | None:
        session = self.sessions.get(key)
        if session is None:
            return None
        return SessionInfo.from_dict(
            {
                "key": key,
                "created_at": session.created_at,
                "last_activity": session.last_activity,
                "message_count": len(session.messages),
                **session.attributes,
            }
        )

    def _once(self, operation: Operation, now: int) -> Outcome:
        is_known = operation.op_id in self.applied
        if not is_known:
            self.applied[operation.op_id] = self._carry_out(operation, now)
        return outcome(self.applied[operation.op_id], duplicate=is_known)

    def _carry_out(self, operation: Operation, now: int) -> int:  # noqa: C901, PLR0912 - cases
        match operation:
            case Append(key=key) if self._is_closed(key):
                return CONFLICT
            case Append(key=key):
                session = self.sessions.setdefault(key, ModelSession(now, now))
                self._describe_anew(session, operation.session or {}, now)
                return self._append(session, operation.stamped(), now)
            case Rollback(key=key, message_id=message_id):
                return self._change(key, message_id, None, now)
            case Rewind(key=key, to=to):
                return self._rewind(key, to, now)
            case Replace(key=key, message=message, message_id=message_id):
                return self._change(key, message_id, message, now)
            case Clear(key=key) if key in self.sessions:
                session = self.sessions[key]
                count, session.messages, session.last_activity = len(session.messages), [], now
                return count
            case Delete(key=key):
                return int(self.sessions.pop(key, None) is not None)
            case Describe(key=key, attributes=attributes):
                self._describe(
                    self.sessions.setdefault(key, ModelSession(now, now)), attributes, now
                )
                return 1
            case Fork():
                return self._fork(operation, now)
            case SetState():
                return self._set_state(operation, now)
            case Rename(key=key, new_key=new_key) if key in self.sessions:
                if new_key not in self.sessions:
                    self.sessions[new_key] = self.sessions.pop(key)
                    return 1
                return CONFLICT
            case Reset() if self._load(operation.key):
                past = self.sessions[operation.past_key] = self.sessions.pop(operation.key)
                self.sessions[operation.key] = self._begun_anew(past, operation.past_key, now)
                return len(past.messages)
            case RenameAgent(old=old, new=new):
                return self._rename(old, new)
            case ImportSession():
                return self._import(operation, now)
        return 0

    def _begun_anew(self, past: ModelSession, past_key: str, now: int) -> ModelSession:
        new = ModelSession(now, now, [], dict(past.attributes), dict(past.states))
        new.platform_ids |= past.platform_ids
        if past.attributes.get("state") == "running":
            self._describe(past, {"state": "idle"}, now)
        self._describe(new, {"state": "idle", "closed": False}, now)
        new.attributes.update(forked_from=None, forked_upto=None, continued_from=past_key)
        return new

    def _is_closed(self, key: str) -> bool:
        return key in self.sessions and bool(self.sessions[key].attributes.get("closed"))

    def _rewind(self, key: str, to: str, now: int) -> int:
        session = self.sessions.get(key)
        messages = [] if session is None else session.messages
        places = [place for place, each in enumerate(messages) if each.message_id == to]
        count = len(messages) - 1 - places[0] if places else 0
        if session is not None and count:
            del session.messages[-count:]
            session.last_activity = now
        return count

    def _fork(self, operation: Fork, now: int) -> int:
        source = self.sessions[operation.key]
        fork = self.sessions.get(operation.new_key) or ModelSession(now, now)
        if fork.messages:
            return CONFLICT
        ids = [message.message_id for message in source.messages]
        count = len(ids) if operation.upto is None else ids.index(operation.upto) + 1
        fork.messages = [
            replace(message, message_id=f"{operation.op_id}-{place}")
            for place, message in enumerate(source.messages[:count], 1)
        ]
        for name in ("name", "agent", "meta"):
            fork.attributes[name] = fork.attributes.get(name) or source.attributes.get(name)
        fork.attributes["meta"] = dict(fork.attributes["meta"] or {})
        fork.attributes["forked_from"] = operation.key
        fork.attributes["forked_upto"] = ids[count - 1] if count else None
        fork.states = {**source.states, **fork.states}
        fork.platform_ids |= {each.platform_id for each in fork.messages if each.platform_id}
        fork.last_activity = now
        self.sessions[operation.new_key] = fork
        return count

    def _append(self, session: ModelSession, messages: Iterable[ChatMessage], now: int) -> int:
        before = len(session.messages)
        for message in messages:
            if message.platform_id is None or message.platform_id not in session.platform_ids:
                session.messages.append(message)
                session.last_activity = now
            if message.platform_id is not None:
                session.platform_ids.add(message.platform_id)
        return len(session.messages) - before

    def _change(self, key: str, message_id: str | None, new: ChatMessage | None, now: int) -> int:
        session = self.sessions.get(key)
        ids = [] if session is None else [message.message_id for message in session.messages]
        if session is None or not ids or (message_id is not None and message_id not in ids):
            return 0
        index = len(ids) - 1 if message_id is None else ids.index(message_id)
        old = session.messages.pop(index)
        if new is not None:
            said = new.role, new.content, new.extra, old.message_id, old.created_at
            session.messages.insert(index, ChatMessage(*said, platform_id=old.platform_id))
        session.last_activity = now
        return 1

    def _describe(self, session: ModelSession, attributes: Any, now: int) -> None:
        values = dict(attributes)
        if "state" in values:
            is_running = values["state"] == "running"
            values["turn_id"] = values.get("turn_id") if is_running else None
            values["turn_started_at"] = now if is_running else None
        if "meta" in values:
            meta = {**(session.attributes.get("meta") or {}), **values["meta"]}
            values["meta"] = {name: value for name, value in meta.items() if value is not None}
        session.attributes.update(values)

    def _describe_anew(self, session: ModelSession, attributes: Any, now: int) -> None:
        """As `_describe`, but for a turn that is running already: it did not begin now."""
        before = dict(session.attributes)
        self._describe(session, attributes, now)
        if all(session.attributes.get(name) == before.get(name) for name in ("state", "turn_id")):
            session.attributes["turn_started_at"] = before.get("turn_started_at")

    def _set_state(self, operation: SetState, now: int) -> int:
        before = self.states(operation.key).get(operation.name, SessionState())
        has_value, wanted = before.value is not None, operation.expect
        if wanted is not None and wanted != before.version and (wanted or has_value):
            return CONFLICT
        if not has_value and operation.value is None:
            return before.version
        session = self.sessions.setdefault(operation.key, ModelSession(now, now))
        version = before.version + 1
        session.states[operation.name] = SessionState(operation.value, version)
        return version

    def _rename(self, old: str, new: str | None) -> int:
        named = [s for s in self.sessions.values() if s.attributes.get("agent") == old]
        for session in named:
            session.attributes["agent"] = new
        return len(named)

    def _import(self, operation: ImportSession, now: int) -> int:
        session = self.sessions.setdefault(operation.key, ModelSession(now, now))
        session.attributes.update(operation.attributes, turn_started_at=operation.turn_started_at)
        session.messages = list(operation.messages)
        session.created_at, session.last_activity = operation.created_at, operation.last_activity
        return len(operation.messages)


def state_of(store: StoreUnderTest, keys: Iterable[str]) -> State:
    """What a store says of these sessions, to compare with a model's `state`."""
    return {key: (store.load(key), store.session(key)) for key in keys}


def activity(info: SessionInfo) -> int:
    return to_micros(info.last_activity)
