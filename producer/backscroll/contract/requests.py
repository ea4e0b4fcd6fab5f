"""Builds checked operations from the arguments of a call; what both clients have in common."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, Final

from backscroll.contract.codec import decode, encode
from backscroll.contract.errors import InvalidInputError, MalformedJobError
from backscroll.contract.filters import SearchFields, SearchFilter
from backscroll.contract.ids import DEFAULT_QUEUE, derived_op_id, new_op_id
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    ChatMessage,
    Limits,
    SessionAttributes,
    SessionFilter,
    check_key,
    check_messages,
    check_moment,
    check_text,
    to_micros,
)
from backscroll.contract.operations import (
    Append,
    Cleanup,
    Clear,
    Compact,
    Delete,
    Describe,
    Erase,
    GetSession,
    ListSessions,
    Load,
    Operation,
    RenameAgent,
    Replace,
    Restore,
    Rollback,
    Search,
)
from backscroll.contract.validation import (
    MAX_LOAD,
    MAX_PAGE,
    check_attributes,
    check_flag,
    check_limit,
    check_number,
    check_place,
    check_query,
    check_subject,
    parse_session_filter,
    shown,
)


class Unset(Enum):
    """The type of `UNSET`: "leave this attribute as it is", where None means "clear it"."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET

# As `producer.ids` makes them; earlier versions and imports have none of another form.
_OP_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")
_OWN_ID: Final = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a write left behind.

    `op_id` is also the RQ job's id. With `ack="stored"`, `affected` says how many messages (or
    sessions) the operation touched, 0 when there was nothing to do, and `duplicate` that its op
    id had been applied before; both are None when the worker was not waited for. `spooled`: the
    server could not be reached, and the operation waits in the producer's spool.
    """

    op_id: str
    message_ids: tuple[str, ...] = ()
    affected: int | None = None
    duplicate: bool | None = None
    spooled: bool = False


class Requests:
    """Turns arguments into operations; raises `InvalidInputError` before anything is enqueued."""

    def __init__(self, limits: Limits, queue: str = DEFAULT_QUEUE) -> None:
        self._limits = limits
        self._queue = queue

    def append(
        self,
        key: str,
        messages: tuple[ChatMessage, ...],
        dedup_key: str | None,
        session: SessionAttributes | None = None,
    ) -> Append:
        check_messages(messages, self._limits)
        _refuse_foreign_ids(messages)
        if dedup_key is None:
            op_id = new_op_id()
        else:
            dedup_key = check_text("dedup_key", dedup_key, MAX_ATTRIBUTE_CHARS)
            op_id = derived_op_id(check_key(key), dedup_key, self._queue)
        return Append(op_id, _now(), check_key(key), messages, _session(session))

    def again(self, operation: Operation) -> Operation:
        """`operation`, which an error carried, if it is one that a job can carry."""
        if not isinstance(operation, Operation):
            raise InvalidInputError("operation", f"must be an operation, not {shown(operation)}")
        try:
            if not _OP_ID.fullmatch(operation.op_id):
                raise InvalidInputError("operation", "its op id may have only A-Z a-z 0-9 _ -")
            return decode(operation.op_id, encode(operation))
        except (MalformedJobError, AttributeError, TypeError, ValueError) as error:
            raise InvalidInputError("operation", f"cannot be sent: {error}") from None

    def rollback(self, key: str, message_id: str | None) -> Rollback:
        return Rollback(new_op_id(), _now(), check_key(key), _optional("message_id", message_id))

    def replace(self, key: str, message: ChatMessage, message_id: str | None) -> Replace:
        check_messages([message], self._limits)
        _refuse_foreign_ids([message])
        message_id = _optional("message_id", message_id)
        return Replace(new_op_id(), _now(), check_key(key), message, message_id)

    def clear(self, key: str) -> Clear:
        return Clear(new_op_id(), _now(), check_key(key))

    def delete(self, key: str) -> Delete:
        return Delete(new_op_id(), _now(), check_key(key))

    def describe(self, key: str, attributes: Mapping[str, object]) -> Describe:
        given = {name: value for name, value in attributes.items() if value is not UNSET}
        return Describe(new_op_id(), _now(), check_key(key), check_attributes(given))

    def rename_agent(self, old: str, new: str | None) -> RenameAgent:
        old = check_text("old", old, MAX_ATTRIBUTE_CHARS)
        return RenameAgent(new_op_id(), _now(), old, _optional("new", new))

    def load(
        self,
        key: str,
        limit: int | None,
        before: str | None,
        include_edits: bool = False,
        around: str | None = None,
    ) -> Load:
        if limit is not None:
            check_limit(limit, MAX_LOAD)
        check_flag("include_edits", include_edits)
        before, around = _optional("before", before), _optional("around", around)
        check_place(before, around)
        return Load(new_op_id(), _now(), check_key(key), limit, before, include_edits, around)

    def session(self, key: str) -> GetSession:
        return GetSession(new_op_id(), _now(), check_key(key))

    def sessions(
        self,
        given: Mapping[str, Any],
        limit: int,
        cursor: str | None,
        where: SessionFilter | None = None,
    ) -> ListSessions:
        """`given` are fields of a filter by name, and come before what `where` says."""
        check_limit(limit, MAX_PAGE)
        cursor = _optional("cursor", cursor)
        wanted = _fields(SessionFilter, where, given)
        for name in ("active_since", "active_until"):
            if wanted.get(name) is not None:
                wanted[name] = to_micros(check_moment(name, wanted[name]))
        return ListSessions(new_op_id(), _now(), parse_session_filter(wanted), limit, cursor)

    def search(
        self,
        query: str,
        where: SearchFilter | None,
        limit: int,
        by_session: bool = False,
        cursor: str | None = None,
        given: SearchFields | None = None,
    ) -> Search:
        """`given` are fields of a filter by name, and come before what `where` says."""
        check_limit(limit, MAX_PAGE)
        check_flag("by_session", by_session)
        where = SearchFilter(**_fields(SearchFilter, where, given or {}))
        for name in ("key", "role", "channel", "sender", "room", "agent"):
            _optional(name, getattr(where, name))
        for name in ("since", "until"):
            if (moment := getattr(where, name)) is not None:
                check_moment(name, moment)
        cursor = _optional("cursor", cursor)
        return Search(new_op_id(), _now(), check_query(query), where, limit, by_session, cursor)

    def cleanup(self, ttl_hours: float | None, dry_run: bool) -> Cleanup:
        if ttl_hours is not None:
            check_number("ttl_hours", ttl_hours)
        check_flag("dry_run", dry_run)
        return Cleanup(new_op_id(), _now(), ttl_hours, dry_run)

    def restore(self, key: str, into: str | None, file: str | None, pin: bool) -> Restore:
        into = None if into is None else check_key(into)
        check_flag("pin", pin)
        return Restore(new_op_id(), _now(), check_key(key), into, _optional("file", file), pin)

    def compact(self) -> Compact:
        return Compact(new_op_id(), _now())

    def erase(self, key: str | None, sender: str | None, room: str | None) -> Erase:
        subject = check_subject({"key": key, "sender": sender, "room": room})
        return Erase(new_op_id(), _now(), **subject)


def _session(attributes: object) -> SessionAttributes | None:
    """The attributes that travel with an append; None for none."""
    if attributes is None:
        return None
    if not isinstance(attributes, Mapping):
        raise InvalidInputError(
            "session", f"must be a mapping of attributes, not {type(attributes).__name__}"
        )
    return check_attributes(attributes) if attributes else None


def _now() -> int:
    return time.time_ns() // 1000


def _fields(kind: type, where: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a filter and single fields say together."""
    if where is not None and not isinstance(where, kind):
        raise InvalidInputError("where", f"must be a {kind.__name__}, not {shown(where)}")
    known = {field.name for field in fields(kind)}
    for name in given:
        if name not in known:
            raise InvalidInputError(name[:40], f"is not a field of {kind.__name__}")
    said = {} if where is None else {name: getattr(where, name) for name in known}
    return {**said, **{name: value for name, value in given.items() if value is not None}}


def _refuse_foreign_ids(messages: Iterable[ChatMessage]) -> None:
    for message in messages:
        id_ = message.message_id
        if id_ is not None and not (isinstance(id_, str) and _OWN_ID.fullmatch(id_)):
            raise InvalidInputError(
                "message_id",
                "is given by Backscroll; a platform's id belongs into extra or is the dedup_key",
            )


def _optional(name: str, value: str | None) -> str | None:
    return None if value is None else check_text(name, value, MAX_ATTRIBUTE_CHARS)
