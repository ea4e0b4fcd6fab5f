"""A session's sidecar: its data besides the messages.

`<name>.meta.json` is one JSON object: `version` (1), `key` (exactly as given), `created_at`,
`turn_started_at` and `turn_expires_at` (microseconds since 1970 UTC), `turn_lease` (microseconds),
those of the attributes `name`, `agent`, `channel`, `room`, `sender`, `state`, `turn_id`,
`pinned`, `closed`, `meta` and `ttl_hours` that are set, `forked_from`, `forked_upto` and
`continued_from`, `states`, each with its `value` and `version`, `popped`, the op ids of pops, each
with its time and what it removed, `applied`, the op ids of the operations that described it, and
`restored_from`, the hash of the key under which its messages were archived, if that was another.
The last activity is in the store's `.activity`, and messages are counted in their file, so that an
append writes one file. A sidecar without a messages file is ignored.

`<name>.gone.json` has in `applied` the op ids of a session that does not exist. Beside a messages
file it is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from backscroll.contract.errors import STUMBLES, InvalidInputError, OperationRefusedError
from backscroll.contract.messages import (
    LATEST_MICROS,
    ChatMessage,
    SessionAttributes,
    SessionFilter,
    SessionInfo,
    from_micros,
    to_micros,
)
from backscroll.contract.meta import check_meta, has_meta
from backscroll.contract.states import SessionState
from backscroll.contract.validation import ATTRIBUTES, FLAGS, ORIGINS, check_number
from backscroll_worker.contract.attributes import with_turn
from backscroll_worker.contract.clock import TOLERANCE
from backscroll_worker.contract.popped import kept
from backscroll_worker.contract.states import read_states
from backscroll_worker.contract.takeover import (
    TurnTimes,
    known_attributes,
    turn_times,
    turn_times_of,
)
from backscroll_worker.contract.turns import Turn
from backscroll_worker.stores.jsonl.lines import Records, records_from_json, records_to_json

VERSION: Final = 1

_STORED: Final = (*ATTRIBUTES, *ORIGINS)

Attributes = dict[str, Any]


class Popped(NamedTuple):
    """What a pop removed, and when, in microseconds: the messages as in JSON."""

    at: int
    messages: list[dict[str, Any]]


@dataclass(slots=True)
class Sidecar:
    """The content of a sidecar."""

    key: str
    created_at: int
    attributes: Attributes = field(default_factory=dict)
    turn_started_at: int | None = None
    turn_expires_at: int | None = None
    turn_lease: int | None = None
    applied: Records = field(default_factory=dict)
    restored_from: str | None = None
    states: dict[str, SessionState] = field(default_factory=dict)
    popped: dict[str, Popped] = field(default_factory=dict)
    """By op id, what pops removed, the oldest first."""
    is_damaged: bool = False
    """Whether the file is unreadable, so that the attributes are unknown."""

    @classmethod
    def loads(cls, content: bytes, key: str, created_at: int) -> Sidecar | None:
        """Read a sidecar; None if it is damaged. `created_at` is the default.

        Raises `OperationRefusedError` for one of a newer version.
        """
        try:
            fields = orjson.loads(content)
        except ValueError:
            return None
        if not isinstance(fields, dict) or not isinstance(fields.get("version"), int):
            return None
        if fields["version"] > VERSION:
            raise OperationRefusedError(
                f"the sidecar of session {key!r} has version {fields['version']} and this "
                f"Backscroll knows {VERSION}; it was written by a newer one, install that"
            )
        own, source = _time(fields.get("created_at")), fields.get("restored_from")
        return cls(
            key,
            created_at if own is None else own,
            {name: fields[name] for name in _STORED if _fits(name, fields.get(name))},
            _time(fields.get("turn_started_at")),
            _time(fields.get("turn_expires_at")),
            _time(fields.get("turn_lease")),
            records_from_json(fields.get("applied")) or {},
            source if isinstance(source, str) else None,
            _states(fields.get("states")),
            _popped(fields.get("popped")),
        )

    def dumps(self) -> bytes:
        fields: dict[str, Any] = {
            "version": VERSION,
            "key": self.key,
            "created_at": self.created_at,
            **{name: value for name, value in self.attributes.items() if value is not None},
        }
        for name in ("turn_started_at", "turn_expires_at", "turn_lease"):
            if (value := getattr(self, name)) is not None:
                fields[name] = value
        if self.restored_from is not None:
            fields["restored_from"] = self.restored_from
        if self.states:
            fields["states"] = {name: asdict(state) for name, state in self.states.items()}
        if self.popped:
            fields["popped"] = [[op_id, *popped] for op_id, popped in self.popped.items()]
        if self.applied:
            fields["applied"] = records_to_json(self.applied)
        return orjson.dumps(fields) + b"\n"

    def note_popped(self, op_id: str, at: int, encoded: Iterable[bytes]) -> None:
        """Record what a pop removes; the oldest records may go for it."""
        self.popped[op_id] = Popped(at, [orjson.loads(each) for each in encoded])
        newest = list(self.popped)[::-1]
        sizes = [(len(each), len(orjson.dumps(each))) for each in map(self.messages_of, newest)]
        for each in newest[kept(sizes) :]:
            del self.popped[each]

    def messages_of(self, op_id: str) -> list[dict[str, Any]]:
        """What a pop removed, as far as it is recorded."""
        record = self.popped.get(op_id)
        return [] if record is None else record.messages

    def has_popped(self, author: str) -> bool:
        """Whether an author's message is among what pops removed."""
        return any(
            each.get("author") == author for _, said in self.popped.values() for each in said
        )

    def forget_popped(self, author: str) -> None:
        """Drop an author's messages from what pops removed."""
        for op_id, (at, said) in self.popped.items():
            self.popped[op_id] = Popped(at, [m for m in said if m.get("author") != author])

    @property
    def is_pinned(self) -> bool:
        return self.attributes.get("pinned") is True

    @property
    def is_closed(self) -> bool:
        return self.attributes.get("closed") is True

    @property
    def is_kept(self) -> bool:
        """Whether cleanup must not touch the session: it is pinned, or may be."""
        return self.is_pinned or self.is_damaged

    def restore(self, info: SessionInfo, now: int) -> None:
        """Take the attributes and times of an archived session."""
        self.attributes = known_attributes(info)
        self.take_over_turn(turn_times_of(info), now)
        self.created_at = to_micros(info.created_at)

    def take_over_turn(self, times: TurnTimes, now: int) -> None:
        """Have the times of the turn that the session had elsewhere."""
        for name, value in turn_times(self.attributes, times, now).items():
            setattr(self, name, value)

    def bring_back(self, now: int, fell_back_to: int | None) -> None:
        """Correct times in the future, from a clock that was ahead."""
        latest = now if fell_back_to is None else fell_back_to
        if self.created_at > now + TOLERANCE:
            self.created_at = latest
        if self.turn_started_at is not None and self.turn_started_at > now + TOLERANCE:
            self.turn_started_at = latest
        if self.turn_expires_at is not None and self.turn_lease is not None:
            self.turn_expires_at = min(self.turn_expires_at, now + self.turn_lease)

    def describe(self, attributes: SessionAttributes, now: int) -> None:
        """Set attributes; a state begins or ends a turn."""
        values = with_turn(attributes, now)
        if "state" in values:
            self.turn_started_at = values.pop("turn_started_at")
            self.turn_expires_at, self.turn_lease = values.pop("turn_expires_at"), None
            del values["turn_lease"]
        self.attributes.update(values)

    def matches(self, where: SessionFilter, now: int) -> bool:
        """Whether the session matches the filter, except for its name, which takes a query."""
        for name in ("agent", "channel", "room", "sender", "forked_from"):
            wanted = getattr(where, name)
            if wanted is not None and self.attributes.get(name) != wanted:
                return False
        if where.prefix is not None and not self.key.startswith(where.prefix):
            return False
        if where.meta and not has_meta(self.attributes.get("meta") or {}, where.meta):
            return False
        if where.state is not None and self._state != where.state:
            return False
        if where.pinned is not None and self.is_pinned != where.pinned:
            return False
        if where.expired is not None:
            expires_at = self.turn_expires_at
            if where.expired != (expires_at is not None and expires_at < now):
                return False
        if where.stuck_seconds is None:
            return True
        latest = now - int(where.stuck_seconds * 1e6)
        started = self.turn_started_at
        return self._state == "running" and started is not None and started < latest

    def info(self, last_activity: int, message_count: int) -> SessionInfo:
        """The session as in a listing."""
        values: dict[str, Any] = {**self.attributes, "state": self._state}
        values |= {"pinned": self.is_pinned, "closed": self.is_closed}
        values["meta"] = self.attributes.get("meta") or {}
        started, expires_at = self.turn_started_at, self.turn_expires_at
        return SessionInfo(
            self.key,
            from_micros(self.created_at),
            from_micros(last_activity),
            message_count,
            turn_started_at=None if started is None else from_micros(started),
            turn_expires_at=None if expires_at is None else from_micros(expires_at),
            **values,
        )

    @property
    def _state(self) -> Any:
        return self.attributes.get("state") or "idle"

    @property
    def turn(self) -> Turn:
        """The turn as its conditions are decided."""
        turn_id: Any = self.attributes.get("turn_id")
        return Turn(self._state, turn_id, self.turn_expires_at, self.turn_lease)


def _time(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < LATEST_MICROS else None


def _states(value: object) -> dict[str, SessionState]:
    with suppress(InvalidInputError):
        return read_states(value)
    return {}


def _popped(value: object) -> dict[str, Popped]:
    found: dict[str, Popped] = {}
    for item in value if isinstance(value, list) else []:
        match item:
            case [str(op_id), int(at), list(messages)]:
                with suppress(*STUMBLES):
                    list(map(ChatMessage.from_dict, messages))
                    found[op_id] = Popped(at, messages)
    return found


def _fits(name: str, value: object) -> bool:
    if name == "meta":
        with suppress(InvalidInputError):
            check_meta(value, may_clear=False)
            return True
        return False
    if name == "ttl_hours":
        with suppress(InvalidInputError):
            check_number(name, value)
            return True
        return False
    return isinstance(value, bool if name in FLAGS else str)
