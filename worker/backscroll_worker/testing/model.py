"""The contract in a few lines of plain Python: what any store must look like after operations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import DeleteSessions, Merge, Rename, Reset, Rewind
from backscroll.contract.messages import ChatMessage, SessionInfo, to_micros
from backscroll.contract.operations import (
    Append,
    Backfill,
    Clear,
    Delete,
    Describe,
    Operation,
    RenameAgent,
    Replace,
    Rollback,
)
from backscroll.contract.results import Outcome
from backscroll.contract.splicing import Pop, Splice
from backscroll.contract.states import SessionState, SetState
from backscroll.contract.turns import BeginTurn, EndTurn
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.contract.turns import CONFLICT, lease_of, outcome
from backscroll_worker.contract.waiting import Change
from backscroll_worker.stores.search.query import Query
from backscroll_worker.testing.model_messages import (
    as_stored,
    edited,
    in_order_of_time,
    with_earlier,
)
from backscroll_worker.testing.model_session import ModelSession
from backscroll_worker.testing.stores import StoreUnderTest

State = dict[str, tuple[list[ChatMessage], SessionInfo | None]]


@dataclass(slots=True)
class Model:
    """A store that forgets nothing and never fails."""

    sessions: dict[str, ModelSession] = field(default_factory=dict)
    applied: dict[str, int] = field(default_factory=dict)
    waiting: dict[tuple[str, str | None], Change] = field(default_factory=dict)
    """By key and platform id, changes of messages that have not arrived."""
    popped: dict[str, list[ChatMessage]] = field(default_factory=dict)
    """By op id, what pops removed."""
    renames: list[tuple[str, str]] = field(default_factory=list)
    """The old key and the new one of sessions that got another, in their order."""

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

    def cleanup(self, now: int, ttl_hours: float) -> set[str]:
        idle = {key for key, session in self.sessions.items() if session.is_due(now, ttl_hours)}
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
        if (session := self.sessions.get(key)) is None:
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
            self.applied[operation.op_id] = self._carry_out(self._followed(operation), now)
        return outcome(self.applied[operation.op_id], duplicate=is_known)

    def _followed(self, operation: Any) -> Any:
        """What is of a turn, or names messages, under the key of the session that has these."""
        turn_id, reached = getattr(operation, "turn_id", None), [getattr(operation, "key", "")]
        ids = set(getattr(operation, "message_ids", None) or () if operation.kind == "pop" else ())
        for old, new in self.renames if ids or turn_id is not None else ():
            if old in reached:
                reached.append(new)
        has = {key: ids & {each.message_id for each in self._load(key)} for key in reached}
        found = [key for key in reached if self._runs(key, turn_id) or has[key]]
        return replace(operation, key=found[0]) if found else operation

    def _runs(self, key: str, turn_id: str | None) -> bool:
        session = self.sessions.get(key)
        return session is not None and turn_id is not None and session.is_turn(turn_id)

    def _carry_out(self, operation: Operation, now: int) -> int:  # noqa: C901, PLR0912 - cases
        match operation:
            case BeginTurn():
                return self._begin_turn(operation, now)
            case EndTurn():
                return self._end_turn(operation, now)
            case Pop():
                return self._pop(operation, now)
            case Splice():
                return self._splice(operation, now)
            case Backfill():
                return self._backfill(operation, now)
            case Append():
                return self._append(operation, now)
            case Rollback() | Replace():
                return self._change(operation, now)
            case Rewind(key=key, to=to):
                return self._rewind(key, to, now)
            case Clear(key=key) if key in self.sessions:
                session = self.sessions[key]
                count, session.messages, session.last_activity = len(session.messages), [], now
                return count
            case Delete(key=key):
                self.waiting = {place: c for place, c in self.waiting.items() if place[0] != key}
                return int(self.sessions.pop(key, None) is not None)
            case DeleteSessions(prefix=prefix):
                self.waiting = {
                    place: c for place, c in self.waiting.items() if not place[0].startswith(prefix)
                }
                keys = [*self.sessions]
                return len([self.sessions.pop(key) for key in keys if key.startswith(prefix)])
            case Describe(key=key, attributes=attributes):
                self.sessions.setdefault(key, ModelSession(now, now)).describe(attributes, now)
                return 1
            case Fork():
                return self._fork(operation, now)
            case SetState():
                return self._set_state(operation, now)
            case Rename(key=key, new_key=new_key) if key in self.sessions:
                return self._rename_session(key, new_key, now)
            case Merge() if operation.key in self.sessions:
                return self._merge(operation, now)
            case Reset() if self._load(operation.key):
                past = self.sessions[operation.past_key] = self.sessions.pop(operation.key)
                self.sessions[operation.key] = past.begun_anew(operation.past_key, now)
                self.renames.append((operation.key, operation.past_key))
                return len(past.messages)
            case RenameAgent(old=old, new=new):
                return self._rename(old, new)
            case ImportSession():
                return self._import(operation, now)
        return 0

    def _merge(self, operation: Merge, now: int) -> int:
        session, into = (self.sessions.get(key) for key in operation.keys)
        both = [each for each in (session, into) if each is not None]
        is_taken = any(each.is_taken(now) for each in both)
        if session is None or is_taken or self.is_closed(operation.into):
            return CONFLICT
        if into is None:
            count = len(session.messages)
            self._rename_session(operation.key, operation.into, now)
            return count
        del self.sessions[operation.key]
        self.renames.append(operation.keys)
        ids = {message.platform_id for message in into.messages} - {None}
        new = [message for message in session.messages if message.platform_id not in ids]
        into.messages = in_order_of_time(into.messages, new)
        into.platform_ids |= session.platform_ids
        into.created_at, into.last_activity = min(into.created_at, session.created_at), now
        self._move_waiting(operation.key, operation.into, now)
        return len(new)

    def _rename_session(self, key: str, new_key: str, now: int) -> int:
        if new_key in self.sessions:
            return CONFLICT
        self.sessions[new_key] = self.sessions.pop(key)
        self.renames.append((key, new_key))
        self._move_waiting(key, new_key, now)
        return 1

    def _move_waiting(self, key: str, new_key: str, now: int) -> None:
        moved = [place for place in self.waiting if place[0] in (key, new_key)]
        for change in [self.waiting.pop(place) for place in moved]:
            self._change(replace(change, key=new_key), now)

    def is_closed(self, key: str) -> bool:
        """Whether nobody may append to the session."""
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
        if fork.messages or self.is_closed(operation.new_key):
            return CONFLICT
        ids = [message.message_id for message in source.messages]
        count = len(ids) if operation.upto is None else ids.index(operation.upto) + 1
        fork.messages = [
            replace(message, message_id=f"{operation.op_id}-{place}")
            for place, message in enumerate(source.messages[:count], 1)
        ]
        for name in ("name", "agent", "channel", "room", "sender", "meta", "ttl_hours"):
            if fork.attributes.get(name) in (None, {}):
                fork.attributes[name] = source.attributes.get(name)
        fork.attributes["meta"] = dict(fork.attributes["meta"] or {})
        upto = ids[count - 1] if count else None
        fork.attributes |= {"forked_from": operation.key, "forked_upto": upto}
        fork.states = {**source.states, **fork.states}
        fork.platform_ids |= {each.platform_id for each in fork.messages if each.platform_id}
        fork.last_activity = now
        self.sessions[operation.new_key] = fork
        self._move_waiting(operation.new_key, operation.new_key, now)
        return count

    def _append(self, operation: Append, now: int) -> int:
        is_refused = operation.needs_open and self.is_closed(operation.key)
        if is_refused or not self._holds(operation, now):
            return CONFLICT
        session = self.sessions.setdefault(operation.key, ModelSession(now, now))
        session.describe_beside(operation.session or {}, now)
        new = set[str | None]()
        for message in map(as_stored, operation.stamped()):
            if message.platform_id not in session.platform_ids:
                new.add(message.message_id)
                session.messages.append(message)
                session.last_activity = now
                session.platform_ids |= {id_ for id_ in [message.platform_id] if id_}
        for message in operation.messages:
            change = self.waiting.pop((operation.key, message.platform_id), None)
            if change is not None:
                self._change(change, now)
        return sum(message.message_id in new for message in session.messages)

    def _backfill(self, operation: Backfill, now: int) -> int:
        before, known = self._load(operation.key), set[str]()
        if operation.key in self.sessions:
            known |= self.sessions[operation.key].platform_ids
        affected = self._append(operation, now)
        if affected != CONFLICT and {each.platform_id for each in operation.messages} - known:
            session = self.sessions[operation.key]
            own, new = session.messages[: len(before)], session.messages[len(before) :]
            session.messages = with_earlier(operation, own, new)
            said_at = map(operation.said_at, operation.messages)
            session.created_at = min(session.created_at, *said_at)
        return affected

    def _pop(self, operation: Pop, now: int) -> int:
        gone, ids = self._load(operation.key)[-operation.count :], operation.message_ids
        if ids is not None:
            gone = [each for each in self._load(operation.key) if each.message_id in ids]
        self.popped[operation.op_id] = gone
        if gone:
            session = self.sessions[operation.key]
            session.messages = [each for each in session.messages if each not in gone]
            session.last_activity = now
        return len(gone)

    def _splice(self, operation: Splice, now: int) -> int:
        key, expect, remove = operation.key, operation.expect, operation.remove
        messages = self._load(key)
        ids = [message.message_id for message in messages]
        ends = expect is None or (ids[-len(expect) :] == list(expect) if expect else not ids)
        if not ends or (operation.needs_open and self.is_closed(key)):
            return CONFLICT
        if isinstance(remove, int):
            gone = set(ids[-remove:] if remove else [])
        else:
            gone = {*ids} if remove == "all" else {*ids}.intersection(remove)
        session = self.sessions.get(key)
        if session is not None and gone:
            session.messages = [each for each in messages if each.message_id not in gone]
            back = {m.platform_id for m in messages if m.message_id in gone}
            session.platform_ids -= {str(m.platform_id) for m in operation.messages} & back
            session.last_activity = now
        is_more = operation.messages or operation.session is not None
        return len(gone) + (self._append(replace(operation, expect=None), now) if is_more else 0)

    def _holds(self, operation: Append | Replace, now: int) -> bool:
        session = self.sessions.get(operation.key)
        tail = operation.expect_tail if isinstance(operation, Append) else None
        if tail is not None:
            last = session.messages[-1].message_id if session and session.messages else ""
            if tail != last:
                return False
        if operation.turn_id is not None:
            if session is None or not session.is_turn(operation.turn_id):
                return False
            if session.lease is not None:
                session.attributes["turn_expires_at"] = now + session.lease
        return True

    def _begin_turn(self, operation: BeginTurn, now: int) -> int:
        session = self.sessions.get(operation.key)
        if session is not None and session.is_taken(now):
            ids = [message.platform_id for message in operation.messages]
            has_news = not ids or any(id_ is None or id_ not in session.platform_ids for id_ in ids)
            if not operation.supersedes or not has_news:
                return CONFLICT
        affected = self._append(operation, now)
        if affected != CONFLICT:
            session = self.sessions[operation.key]
            session.describe({"state": "running", "turn_id": operation.op_id}, now)
            session.lease = lease_of(operation)
            session.attributes["turn_expires_at"] = now + session.lease
        return affected

    def _end_turn(self, operation: EndTurn, now: int) -> int:
        session = self.sessions.get(operation.key)
        if session is None or not session.is_turn(operation.turn_id):
            return CONFLICT
        session.describe({"state": operation.state}, now)
        gone = [each for each in session.messages if each.message_id in operation.remove]
        if gone:
            session.messages = [each for each in session.messages if each not in gone]
            session.platform_ids -= {str(each.platform_id) for each in gone}
            session.last_activity = now
        return len(gone)

    def _change(self, change: Change, now: int) -> int:
        if isinstance(change, Replace) and not self._holds(change, now):
            return CONFLICT
        session = self.sessions.get(change.key)
        index = None if session is None else session.index(change)
        if session is None or index is None:
            self._wait(session, change)
            return 0
        old = session.messages.pop(index)
        if isinstance(change, Replace):
            session.messages.insert(index, edited(old, change.message))
        session.last_activity = now
        return 1

    def _wait(self, session: ModelSession | None, change: Change) -> None:
        place = change.key, change.platform_id
        is_known = session is not None and change.platform_id in session.platform_ids
        if change.platform_id is None or is_known:
            return
        if not isinstance(self.waiting.get(place), Rollback):
            self.waiting[place] = change

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
        session.messages = [*map(as_stored, operation.messages)]
        session.created_at, session.last_activity = operation.created_at, operation.last_activity
        return len(operation.messages)


def state_of(store: StoreUnderTest, keys: Iterable[str]) -> State:
    """What a store says of these sessions, to compare with a model's `state`."""
    return {key: (store.load(key), store.session(key)) for key in keys}


def activity(info: SessionInfo) -> int:
    return to_micros(info.last_activity)
