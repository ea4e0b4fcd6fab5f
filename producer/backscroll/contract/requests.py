"""Makes operations of the arguments of a call: what both clients and a store have in common."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import orjson

from backscroll.contract import (
    attachment_reading,
    forks,
    forms,
    lenient,
    lifecycle,
    operations,
    reads,
    splicing,
    tokens,
    turns,
)
from backscroll.contract.errors import STUMBLES, InvalidInputError
from backscroll.contract.filters import SearchFields, SearchFilter, Within
from backscroll.contract.ids import DEFAULT_QUEUE, derived_op_id, message_id, new_op_id
from backscroll.contract.message_checks import Limits
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    ChatMessage,
    SessionAttributes,
    SessionFilter,
    check_key,
    check_text,
)
from backscroll.contract.operations import OPERATIONS, Operation
from backscroll.contract.states import GetStates, SetState
from backscroll.contract.validation import shown

Filter = TypeVar("Filter", SessionFilter, SearchFilter)
P = ParamSpec("P")
Op = TypeVar("Op", bound=Operation)


class Unset(Enum):
    """The type of `UNSET`: "leave this attribute as it is", where None means "clear it"."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET

# As `contract.ids` makes them; earlier versions and imports have none of another form.
_OP_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,200}")


def _by_fields(
    kind: Callable[Concatenate[str, int, P], Op],
) -> Callable[Concatenate[Requests, P], Op]:
    """A method of `Requests` that takes the fields of an operation, as they are declared."""

    def request(self: Requests, /, *given: P.args, **named: P.kwargs) -> Op:
        return self.new(kind, *given, **named)

    return request


class Requests:
    """Makes operations of the arguments of a call, each with a fresh op id and the time.

    Each method raises `InvalidInputError` for what does not fit, before anything is enqueued.
    """

    def __init__(
        self, limits: Limits, queue: str = DEFAULT_QUEUE, *, lenient: bool = False
    ) -> None:
        """`lenient`: what does not fit is made to fit where `contract.lenient` can do that."""
        self._limits = limits
        self._queue = queue
        self._lenient = lenient

    def new(
        self, kind: Callable[Concatenate[str, int, P], Op], /, *given: P.args, **named: P.kwargs
    ) -> Op:
        """An operation of that kind; `given` are its fields, as they are declared."""
        return self._checked(kind(new_op_id(), _now(), *given, **named))

    backfill = _by_fields(operations.Backfill)
    begin_turn = _by_fields(turns.BeginTurn)
    end_turn = _by_fields(turns.EndTurn)
    rollback = _by_fields(operations.Rollback)
    pop = _by_fields(splicing.Pop)
    rewind = _by_fields(lifecycle.Rewind)
    merge = _by_fields(lifecycle.Merge)
    reset = _by_fields(lifecycle.Reset)
    rename = _by_fields(lifecycle.Rename)
    fork = _by_fields(forks.Fork)
    clear = _by_fields(operations.Clear)
    rename_agent = _by_fields(operations.RenameAgent)
    set_state = _by_fields(SetState)
    states = _by_fields(GetStates)
    load = _by_fields(reads.Load)
    get = _by_fields(reads.GetMessage)
    session = _by_fields(reads.GetSession)
    attachment = _by_fields(attachment_reading.GetAttachment)
    cleanup = _by_fields(operations.Cleanup)
    restore = _by_fields(operations.Restore)
    compact = _by_fields(operations.Compact)
    erase = _by_fields(operations.Erase)

    def append(
        self,
        key: str,
        messages: tuple[ChatMessage, ...],
        dedup_key: str | None = None,
        session: SessionAttributes | None = None,
        expect_tail: str | None = None,
        turn_id: str | None = None,
    ) -> operations.Append:
        """With a `dedup_key` the op id follows from key, `dedup_key` and queue."""
        session = None if session == {} else session
        op_id = new_op_id() if dedup_key is None else ""
        said = key, messages, session, expect_tail, turn_id
        appended = self._checked(operations.Append(op_id, _now(), *said))
        return appended if dedup_key is None else self._once(appended, appended.key, dedup_key)

    def delete(
        self, key: str | None, prefix: str | None = None
    ) -> operations.Delete | lifecycle.DeleteSessions:
        """Of one session, or of all whose key begins with a prefix."""
        if (key is None) == (prefix is None):
            raise InvalidInputError("prefix", "give either a key or a prefix")
        if prefix is not None:
            return self.new(lifecycle.DeleteSessions, prefix)
        return self.new(operations.Delete, key or "")

    def message_id(self, key: str, dedup_key: str) -> str:
        """The id of the message that is appended to the session with that `dedup_key`."""
        dedup_key = check_text("dedup_key", dedup_key, MAX_ATTRIBUTE_CHARS)
        return message_id(derived_op_id(check_key(key), dedup_key, self._queue), 0)

    def splice(
        self,
        key: str,
        messages: tuple[ChatMessage, ...],
        expect: Any = None,
        remove: Any = 0,
        session: SessionAttributes | None = None,
        dedup_key: str | None = None,
    ) -> splicing.Splice:
        """As for an append; the same `dedup_key` may be an append's, too."""
        session = None if session == {} else session
        spliced = self.new(splicing.Splice, key, messages, session, expect=expect, remove=remove)
        if dedup_key is not None:
            self._once(spliced, spliced.key, dedup_key, "splice\0")
        said = splicing.with_summaries(spliced.messages, spliced.message_ids)
        return spliced.changed(messages=said)

    def replace(
        self,
        key: str,
        message: ChatMessage,
        message_id: str | None = None,
        turn_id: str | None = None,
        platform_id: str | None = None,
        dedup_key: str | None = None,
    ) -> operations.Replace:
        """As for an append; the same `dedup_key` may be an append's, too."""
        said = key, message, message_id, turn_id, platform_id
        replaced = self.new(operations.Replace, *said)
        if dedup_key is None:
            return replaced
        return self._once(replaced, replaced.key, dedup_key, "replace\0")

    def end_turn_once(self, key: str, turn_id: str, stored_by: str, attempt: int) -> turns.EndTurn:
        """The end of the turn number `attempt` with the messages that operation `stored_by` stored.

        Its op id follows from these two, so that whoever sends it again learns what became of it.
        """
        op_id = derived_op_id(stored_by, f"end of turn\0{attempt}", self._queue)
        return self._checked(turns.EndTurn(op_id, _now(), key, turn_id))

    def describe(self, key: str, attributes: Mapping[str, Any]) -> operations.Describe:
        """Without those of the attributes that are `UNSET`."""
        given = {name: value for name, value in attributes.items() if value is not UNSET}
        return self.new(operations.Describe, key, given)

    def sessions(
        self,
        given: Mapping[str, Any],
        limit: int,
        cursor: str | None,
        where: SessionFilter | None = None,
    ) -> reads.ListSessions:
        """`given` are fields of a filter by name, and come before what `where` says."""
        wanted = _filter(SessionFilter, where, given)
        return self.new(reads.ListSessions, wanted, limit, cursor)

    def search(
        self,
        query: str,
        where: SearchFilter | None,
        limit: int,
        by_session: bool = False,
        cursor: str | None = None,
        given: SearchFields | None = None,
        within: Within | None = None,
    ) -> reads.Search:
        """`given` are fields of a filter by name, and come before what `where` says."""
        wanted = _filter(SearchFilter, where, given or {})
        return self.new(reads.Search, query, wanted, limit, by_session, cursor, within)

    def usage(
        self, where: SearchFilter | None, given: SearchFields | None = None
    ) -> tokens.GetUsage:
        """`given` are fields of a filter by name, and come before what `where` says."""
        return self.new(tokens.GetUsage, _filter(SearchFilter, where, given or {}))

    def again(self, operation: Operation) -> Operation:
        """`operation`, which an error carried, as sent late, if it is one that a job can carry.

        Others may have asked for something since, such as a deletion, that it must not undo.
        """
        kind = operation.kind if isinstance(operation, Operation) else ""
        if OPERATIONS.get(kind) is not type(operation):
            raise InvalidInputError("operation", f"must be an operation, not {shown(operation)}")
        try:
            if not _OP_ID.fullmatch(operation.op_id):
                raise InvalidInputError("operation", "its op id may have only A-Z a-z 0-9 _ -")
            carried = orjson.loads(orjson.dumps(operation.arguments()))
            return operation.parse(operation.op_id, carried, was_spooled=True)
        except STUMBLES as error:
            raise InvalidInputError("operation", f"cannot be sent: {error}") from None

    def _once(self, made: Op, key: str, dedup_key: str, kind: str = "") -> Op:
        """`made` with the op id that everybody derives for it."""
        dedup_key = kind + check_text("dedup_key", dedup_key, MAX_ATTRIBUTE_CHARS)
        op_id = derived_op_id(key, dedup_key, self._queue)
        object.__setattr__(made, "op_id", op_id)  # it is only being made
        return made

    def _checked(self, operation: Op) -> Op:
        """`operation`, which is only being made, if its fields fit."""
        if self._lenient:
            _keep(operation, self._limits)
        forms.check(operation, self._limits)
        operation.check_together()
        return operation


def _keep(operation: Any, limits: Limits) -> None:
    """Have `operation`, which is only being made, hold what a model produced as it is kept."""
    # What replaces a message with attachments leaves them there, unless it has some itself.
    most_bytes = math.inf if isinstance(operation, operations.Replace) else limits.message_bytes
    for name in ("message", "messages", "value"):
        held = given = getattr(operation, name, None)
        if isinstance(given, ChatMessage):
            held = lenient.kept(given, most_bytes)
        elif isinstance(given, tuple):
            held = tuple(
                lenient.kept(each, most_bytes) if isinstance(each, ChatMessage) else each
                for each in given
            )
        elif given is not None:
            held = lenient.kept_value(given)
        if held is not given:
            object.__setattr__(operation, name, held)


def _now() -> int:
    return time.time_ns() // 1000


def _filter(kind: type[Filter], where: Filter | None, given: Mapping[str, Any]) -> Filter:
    """What a filter and single fields say together."""
    if where is not None and not isinstance(where, kind):
        raise InvalidInputError("where", f"must be a {kind.__name__}, not {shown(where)}")
    for name in given:
        if name not in kind.__slots__:
            raise InvalidInputError(name[:40], f"is not a field of {kind.__name__}")
    said: Any = {name: value for name, value in given.items() if value is not None}
    return replace(kind() if where is None else where, **said)
