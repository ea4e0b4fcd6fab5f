"""The verbs of the contract: one class an operation, with its arguments in JSON and back.

Those that a job may carry have a `parse`, which takes the op id and a reader of the arguments and
raises `InvalidInputError` for what does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Final, Self

from backscroll.contract.filters import SearchFilter
from backscroll.contract.ids import message_id
from backscroll.contract.messages import (
    MAX_ATTRIBUTE_CHARS,
    MAX_OPERATION_BYTES,
    ChatMessage,
    Limits,
    SessionAttributes,
    SessionFilter,
    check_messages,
    check_text,
    from_micros,
)
from backscroll.contract.validation import (
    MAX_PAGE,
    SUBJECTS,
    ArgumentReader,
    Arguments,
    check_attributes,
    check_place,
    check_query,
    check_subject,
    filter_fields,
    message_fields,
    parse_message,
    parse_search_filter,
    parse_session_filter,
)

DEFAULT_AROUND: Final = 21
"""So many messages are shown around one unless said otherwise: ten before it and ten after it."""

# The producer has already held its own, perhaps smaller, limit; the worker only bounds memory.
_WORKER_LIMITS = Limits(message_bytes=MAX_OPERATION_BYTES, operation_bytes=MAX_OPERATION_BYTES)


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of the store. `at` is when, in microseconds since 1970 UTC.

    `was_spooled` says that it waited on the adapter's disk, so that what was asked for after it may
    have been carried out before it. It is no argument; see `contract.codec.mark_spooled`.
    """

    kind: ClassVar[str]
    op_id: str
    at: int
    was_spooled: bool = field(default=False, init=False)

    def arguments(self) -> Arguments:
        """What the job carries: the set fields besides the op id, in JSON types."""
        return {
            each.name: value
            for each in fields(self)
            if each.name not in ("op_id", "was_spooled")
            and (value := getattr(self, each.name)) is not None
        }

    def describe(self) -> str:
        """The job's description: never any user text, because dashboards show it unescaped."""
        return self.kind.replace("_", " ")


class Write(Operation):
    """An operation that changes one session or more; applied once by its op id."""

    __slots__ = ()


class Read(Operation):
    """An operation that answers from the store and changes nothing."""

    __slots__ = ()


class Upkeep(Operation):
    """An operation that may take long and runs in slices between groups of others."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Append(Write):
    """Add messages at the end of a session, all or none; creates the session.

    A message's id follows from the op id and its place; one without a time of its own is of `at`.
    Neither travels, and `stamped` puts them in where a whole message is wanted. `session` has
    attributes that the session is to have from then on; what it has already is left as it is.
    """

    kind = "append"
    key: str
    messages: tuple[ChatMessage, ...]
    session: SessionAttributes | None = None

    @property
    def message_ids(self) -> tuple[str, ...]:
        return tuple([message_id(self.op_id, index) for index in range(len(self.messages))])

    def stamped(self) -> tuple[ChatMessage, ...]:
        """The messages as readers get them, with their ids and times."""
        at = from_micros(self.at)
        return tuple(
            ChatMessage(message.role, message.content, message.extra, id_, message.created_at or at)
            for message, id_ in zip(self.messages, self.message_ids, strict=True)
        )

    def arguments(self) -> Arguments:
        values: Arguments = {
            "at": self.at,
            "key": self.key,
            "messages": [message_fields(message) for message in self.messages],
        }
        if self.session is not None:  # which older workers do not know
            values["session"] = self.session
        return values

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        at, key = arguments.at(), arguments.key()
        messages = tuple([parse_message(item) for item in arguments.take("messages", list)])
        check_messages(messages, _WORKER_LIMITS)
        session = arguments.take("session", dict, None)
        return cls(op_id, at, key, messages, None if session is None else check_attributes(session))

    def describe(self) -> str:
        count = len(self.messages)
        return f"append {count} message{'s' if count != 1 else ''}"


@dataclass(frozen=True, slots=True)
class Rollback(Write):
    """Drop the last message, or exactly the one named; nothing if it is not there."""

    kind = "rollback"
    key: str
    message_id: str | None = None

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        return cls(op_id, arguments.at(), arguments.key(), arguments.text("message_id"))


@dataclass(frozen=True, slots=True)
class Replace(Write):
    """New role, content and extra for the last message or the one named, in its place."""

    kind = "replace"
    key: str
    message: ChatMessage
    message_id: str | None = None

    def arguments(self) -> Arguments:
        return {
            **Operation.arguments(self),
            "message": message_fields(self.message),
        }

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        at, key = arguments.at(), arguments.key()
        message = parse_message(arguments.take("message", dict))
        check_messages([message], _WORKER_LIMITS)
        return cls(op_id, at, key, message, arguments.text("message_id"))


@dataclass(frozen=True, slots=True)
class Clear(Write):
    """Drop a session's messages, keep the session and its attributes."""

    kind = "clear"
    key: str

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        return cls(op_id, arguments.at(), arguments.key())


@dataclass(frozen=True, slots=True)
class Delete(Write):
    """Drop a session with everything in it."""

    kind = "delete"
    key: str

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        return cls(op_id, arguments.at(), arguments.key())


@dataclass(frozen=True, slots=True)
class Describe(Write):
    """Set the given attributes of a session (None clears one); creates the session.

    `state="running"` also stamps when the turn began; any other state ends the turn.
    """

    kind = "describe"
    key: str
    attributes: SessionAttributes

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        attributes = arguments.take("attributes", dict)
        return cls(op_id, arguments.at(), arguments.key(), check_attributes(attributes))


def told_attributes(operation: Operation) -> SessionAttributes:
    """What the operation says about its session, besides the messages."""
    if isinstance(operation, Append):
        return operation.session or {}
    return operation.attributes if isinstance(operation, Describe) else {}


@dataclass(frozen=True, slots=True)
class RenameAgent(Write):
    """Give every session of one agent alias another alias, or none (`new` is None)."""

    kind = "rename_agent"
    old: str
    new: str | None = None

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        old = check_text("old", arguments.take("old", str), MAX_ATTRIBUTE_CHARS)
        return cls(op_id, arguments.at(), old, arguments.text("new"))


@dataclass(frozen=True, slots=True)
class Load(Read):
    """The newest `limit` messages in order, those just before one, or those around one."""

    kind = "load"
    key: str
    limit: int | None = None
    before: str | None = None
    include_edits: bool = False
    around: str | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """How many messages are wanted before `around`, and how many from it on."""
        limit = self.limit or DEFAULT_AROUND
        return limit // 2, limit - limit // 2

    def arguments(self) -> Arguments:
        values = Operation.arguments(self)
        if not self.include_edits:  # which older workers do not know
            del values["include_edits"]
        return values

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        at, key, limit = arguments.at(), arguments.key(), arguments.positive("limit", None)
        before, around = arguments.text("before"), arguments.text("around")
        check_place(before, around)
        return cls(op_id, at, key, limit, before, arguments.flag("include_edits"), around)


@dataclass(frozen=True, slots=True)
class GetSession(Read):
    """What is known of one session; None if there is no such session."""

    kind = "session"
    key: str

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        return cls(op_id, arguments.at(), arguments.key())


@dataclass(frozen=True, slots=True)
class ListSessions(Read):
    """Sessions that pass the filter, newest activity first, a page at a time."""

    kind = "sessions"
    where: SessionFilter
    limit: int
    cursor: str | None = None

    def arguments(self) -> Arguments:
        return {**Operation.arguments(self), "where": filter_fields(self.where)}

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        where = parse_session_filter(arguments.take("where", dict))
        limit = arguments.positive("limit", MAX_PAGE) or MAX_PAGE
        return cls(op_id, arguments.at(), where, limit, arguments.text("cursor"))


@dataclass(frozen=True, slots=True)
class Search(Read):
    """Messages that match the query, best first, a page at a time; or each session's best."""

    kind = "search"
    query: str
    where: SearchFilter
    limit: int
    by_session: bool = False
    cursor: str | None = None

    def arguments(self) -> Arguments:
        values = {**Operation.arguments(self), "where": filter_fields(self.where)}
        if not self.by_session:  # which older workers do not know
            del values["by_session"]
        return values

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        where = parse_search_filter(arguments.take("where", dict))
        query = check_query(arguments.take("query", str))
        at, limit = arguments.at(), arguments.positive("limit", MAX_PAGE) or 1
        by_session, cursor = arguments.flag("by_session"), arguments.text("cursor")
        return cls(op_id, at, query, where, limit, by_session, cursor)


@dataclass(frozen=True, slots=True)
class Cleanup(Upkeep):
    """Delete what the worker's retention rules say.

    `ttl_hours` is the age, in hours, at which a session goes that no rule speaks of; None: the
    worker's setting.
    """

    kind = "cleanup"
    ttl_hours: float | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        ttl_hours = arguments.number("ttl_hours")
        return cls(op_id, arguments.at(), ttl_hours, arguments.flag("dry_run"))


@dataclass(frozen=True, slots=True)
class Restore(Upkeep):
    """Bring back from the archive what cleanup took of a session, before what it has by now.

    `into` is another key for it, `file` the only file to take it from, `pin` keeps the next
    cleanup from taking it again.
    """

    kind = "restore"
    key: str
    into: str | None = None
    file: str | None = None
    pin: bool = False

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        at, key, into = arguments.at(), arguments.key(), arguments.text("into")
        return cls(op_id, at, key, into, arguments.text("file"), arguments.flag("pin"))


@dataclass(frozen=True, slots=True)
class Compact(Upkeep):
    """Merge the index, give free space back, purge old op ids; drop corrupt JSONL lines."""

    kind = "compact"

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        return cls(op_id, arguments.at())


@dataclass(frozen=True, slots=True)
class Erase(Write, Upkeep):
    """Remove every trace of one session, of a sender's sessions, or of a room's; one of the three.

    As a write it takes them out of sight in its place in the order, once. As upkeep it then clears
    disk and server of them, a slice at a time.
    """

    kind = "erase"
    key: str | None = None
    sender: str | None = None
    room: str | None = None

    @property
    def subject(self) -> tuple[str, str]:
        """Which of the three, and its value."""
        given = ((name, getattr(self, name)) for name in SUBJECTS)
        return next((name, value) for name, value in given if value is not None)

    @classmethod
    def parse(cls, op_id: str, arguments: ArgumentReader) -> Self:
        at = arguments.at()
        return cls(op_id, at, **check_subject({name: arguments.text(name) for name in SUBJECTS}))
