"""The verbs of the contract: one class an operation, and everything else follows from its fields.

`@operation` makes a class one that a job can carry: `parse` reads it from a job's arguments,
`arguments` writes them, `Requests.new` makes it of a call, and the worker's `jobs` has a function
for it. What a field may hold and how it travels follows from its type, by `contract.forms`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import (
    Annotated,
    Any,
    ClassVar,
    Final,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
)

from backscroll.contract import forms
from backscroll.contract.filters import SearchFilter
from backscroll.contract.forms import MICROS, PAGE, QUERY
from backscroll.contract.ids import message_id
from backscroll.contract.messages import (
    ChatMessage,
    SessionAttributes,
    SessionFilter,
    from_micros,
)
from backscroll.contract.validation import (
    SUBJECTS,
    Arguments,
    check_one,
    check_subject,
)

T = TypeVar("T")

DEFAULT_AROUND: Final = 21
"""How many messages are shown around one by default: ten before it, and ten after it."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of the store. `at` is when, in microseconds since 1970 UTC.

    `was_spooled` says that it waited on the adapter's disk, so that what was asked for after it may
    have been carried out before it. It is not an argument; see `codec.mark_spooled`.
    """

    kind: ClassVar[str]
    op_id: str
    at: Annotated[int, MICROS]
    was_spooled: bool = field(default=False, init=False)

    @classmethod
    def parse(cls, op_id: str, arguments: Arguments) -> Self:
        """The operation with these arguments, which it takes out of `arguments`.

        Raises `InvalidInputError` for one that is missing or does not fit.
        """
        made = cls.__new__(cls)
        _put_op_id(made, op_id)
        _put_was_spooled(made, False)
        forms.read(made, arguments)
        made.check_together()
        return made

    def arguments(self) -> Arguments:
        """What the job carries: the set fields besides the op id, in JSON types."""
        return forms.written(self)

    def check_together(self) -> None:
        """Raise `InvalidInputError` where fields do not fit each other."""

    def describe(self) -> str:
        """The job's description: never any user text, because dashboards show it unescaped."""
        return self.kind.replace("_", " ")


_put_op_id, _put_was_spooled = forms.setters(Operation, "op_id", "was_spooled")

OPERATIONS: Final[dict[str, type[Operation]]] = {}
"""By its kind, each operation that a job can carry."""


@dataclass_transform(frozen_default=True)
def operation(declared: type[T]) -> type[T]:
    """Make `declared` an operation that a job can carry: a frozen dataclass, known by its kind."""
    made: Any = dataclass(frozen=True, slots=True)(declared)
    OPERATIONS[made.kind] = made
    return cast(type[T], made)


class Write(Operation):
    """An operation that changes one session or more; applied once by its op id."""

    __slots__ = ()


class Read(Operation):
    """An operation that answers from the store and changes nothing."""

    __slots__ = ()


class Maintenance(Operation):
    """Maintenance: it may take long, and runs in slices between groups of other operations."""

    __slots__ = ()


@operation
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
            replace(message, message_id=id_, created_at=message.created_at or at, edits=())
            for message, id_ in zip(self.messages, self.message_ids, strict=True)
        )

    def describe(self) -> str:
        count = len(self.messages)
        return f"append {count} message{'s' if count != 1 else ''}"


@operation
class Rollback(Write):
    """Drop the last message, or exactly the one named; nothing if it is not there."""

    kind = "rollback"
    key: str
    message_id: str | None = None
    platform_id: str | None = None

    def check_together(self) -> None:
        check_one("message_id", self.message_id, "platform_id", self.platform_id)


@operation
class Replace(Write):
    """New role, content and extra for the last message or the one named, in its place."""

    kind = "replace"
    key: str
    message: ChatMessage
    message_id: str | None = None
    platform_id: str | None = None

    def check_together(self) -> None:
        check_one("message_id", self.message_id, "platform_id", self.platform_id)


@operation
class Clear(Write):
    """Drop a session's messages, keep the session and its attributes."""

    kind = "clear"
    key: str


@operation
class Delete(Write):
    """Drop a session with everything in it."""

    kind = "delete"
    key: str


@operation
class Describe(Write):
    """Set the given attributes of a session (None clears one); creates the session.

    `state="running"` also stamps when the turn began; any other state ends the turn.
    """

    kind = "describe"
    key: str
    attributes: SessionAttributes


def told_attributes(operation: Operation) -> SessionAttributes:
    """What the operation says about its session, besides the messages."""
    if isinstance(operation, Append):
        return operation.session or {}
    return operation.attributes if isinstance(operation, Describe) else {}


@operation
class RenameAgent(Write):
    """Give every session of one agent alias another alias, or none (`new` is None)."""

    kind = "rename_agent"
    old: str
    new: str | None = None


_PLACES: Final = ("before", "around", "before_platform_id", "around_platform_id")


@operation
class Load(Read):
    """The newest `limit` messages in order, those just before one, or those around one."""

    kind = "load"
    key: str
    limit: int | None = None
    before: str | None = None
    include_edits: bool = False
    around: str | None = None
    before_platform_id: str | None = None
    around_platform_id: str | None = None

    @property
    def place(self) -> tuple[str, str] | None:
        """The argument that names a message, and the id in it."""
        given = ((name, getattr(self, name)) for name in _PLACES)
        return next(((name, id_) for name, id_ in given if id_ is not None), None)

    @property
    def sides(self) -> tuple[int, int]:
        """How many messages are wanted before `around`, and how many from it on."""
        limit = self.limit or DEFAULT_AROUND
        return limit // 2, limit - limit // 2

    def check_together(self) -> None:
        given = [name for name in _PLACES if getattr(self, name) is not None]
        for other in given[1:]:
            check_one(given[0], True, other, True)


@operation
class GetSession(Read):
    """What is known of one session; None if there is no such session."""

    kind = "session"
    key: str


@operation
class ListSessions(Read):
    """Sessions that pass the filter, newest activity first, a page at a time."""

    kind = "sessions"
    where: SessionFilter
    limit: Annotated[int, PAGE]
    cursor: str | None = None


@operation
class Search(Read):
    """Messages that match the query, best first, a page at a time; or each session's best."""

    kind = "search"
    query: Annotated[str, QUERY]
    where: SearchFilter
    limit: Annotated[int, PAGE]
    by_session: bool = False
    cursor: str | None = None


@operation
class Cleanup(Maintenance):
    """Delete what the worker's retention rules say.

    `ttl_hours` is the age, in hours, at which a session is removed that no rule matches; None
    means the worker's setting.
    """

    kind = "cleanup"
    ttl_hours: float | None = None
    dry_run: bool = False


@operation
class Restore(Maintenance):
    """Bring back from the archive what cleanup took of a session, before what it has by now.

    `into` is another key for it, `file` the only file to take it from, `pin` keeps the next
    cleanup from taking it again.
    """

    kind = "restore"
    key: str
    into: str | None = None
    file: str | None = None
    pin: bool = False


@operation
class Compact(Maintenance):
    """Merge the index, give free space back, purge old op ids; drop corrupt JSONL lines."""

    kind = "compact"


@operation
class Erase(Write, Maintenance):
    """Remove every trace of one session, of a sender's sessions, or of a room's; one of the three.

    As a write it hides them, once, in its place in the order. As maintenance it then removes them
    from disk and server, a slice at a time.
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

    def check_together(self) -> None:
        check_subject({name: getattr(self, name) for name in SUBJECTS})
