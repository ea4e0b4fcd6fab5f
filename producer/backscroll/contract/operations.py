"""The verbs of the contract: one class an operation, and everything else follows from its fields.

`@operation` makes a class one that a job can carry: `parse` reads it from a job's arguments,
`arguments` writes them, `Requests.new` makes it of a call, and the worker's `jobs` has a function
for it. What a field may hold and how it travels follows from its type, by `contract.forms`.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.forms import MICROS, TAIL
from backscroll.contract.ids import message_id
from backscroll.contract.messages import (
    ChatMessage,
    SessionAttributes,
    from_micros,
    to_micros,
)
from backscroll.contract.validation import (
    SUBJECTS,
    Arguments,
    check_one,
    check_subject,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing asked of the store. `at` is when, in microseconds since 1970 UTC.

    `was_spooled` says that it waited on the adapter's disk, or was sent again, so that what was
    asked for after it may have been carried out before it. It is not an argument, see
    `codec.mark_spooled`, and stays with what is made of the operation by `changed`.
    """

    kind: ClassVar[str]
    op_id: str
    at: Annotated[int, MICROS]
    was_spooled: bool = field(default=False, init=False)

    @classmethod
    def parse(cls, op_id: str, arguments: Arguments, was_spooled: bool = False) -> Self:
        """The operation with these arguments, which it takes out of `arguments`.

        Raises `InvalidInputError` for one that is missing or does not fit.
        """
        made = cls.__new__(cls)
        _put_op_id(made, op_id)
        _put_was_spooled(made, was_spooled)
        forms.read(made, arguments)
        made.check_together()
        return made

    def arguments(self) -> Arguments:
        """What the job carries: the set fields besides the op id, in JSON types."""
        return forms.written(self)

    def changed(self, **fields: Any) -> Self:
        """The operation with other values in these fields."""
        made = replace(self, **fields)
        _put_was_spooled(made, self.was_spooled)
        return made

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

    @property
    def changes(self) -> tuple[str, ...]:
        """The keys of the sessions that it may change, as far as it names them; "" for any."""
        return (getattr(self, "key", None) or "",)


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

    With `expect_tail` only if that is the id of the session's last message, or "" and there is
    none; with `turn_id` only while that turn runs. Otherwise it is a conflict, for good.

    `places` says which of the requested messages these are, after an erasure has removed some.
    """

    kind = "append"
    key: str
    messages: tuple[ChatMessage, ...]
    session: SessionAttributes | None = None
    expect_tail: Annotated[str, TAIL] | None = None
    turn_id: str | None = None
    places: tuple[int, ...] | None = None

    @property
    def message_ids(self) -> tuple[str, ...]:
        places = range(len(self.messages)) if self.places is None else self.places
        return tuple([message_id(self.op_id, place) for place in places])

    @property
    def tail(self) -> tuple[str, ...] | None:
        """The ids that the session's last messages must have: () for no message, None for any."""
        return None if self.expect_tail is None else (self.expect_tail,) * bool(self.expect_tail)

    @property
    def needs_open(self) -> bool:
        """Whether it is a conflict in a session that is closed."""
        return True

    def may_be_elsewhere(self, affected: int) -> bool:
        """Whether some of its messages, of which it stored so many, may have another id: that of
        the message with the same platform id.
        """
        return 0 <= affected < len(self.messages)

    def only(self, indexes: Sequence[int]) -> Self:
        """The append of only these of its messages, each with the id that it has in this one."""
        places = range(len(self.messages)) if self.places is None else self.places
        kept = tuple([self.messages[index] for index in indexes])
        return self.changed(messages=kept, places=tuple([places[index] for index in indexes]))

    def check_together(self) -> None:
        if self.places is not None and len(self.places) != len(self.messages):
            raise InvalidInputError("places", "must be as many as the messages")

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
class Backfill(Append):
    """Add messages of earlier that were said elsewhere, at their places; creates the session.

    Each has a platform id and a time of its own. Those that the session has, or had, are skipped,
    and say where the others belong: between them as they are here. Otherwise each goes before the
    first message of the session that is later.
    """

    kind = "backfill"

    def check_together(self) -> None:
        Append.check_together(self)  # `super()` does not work in a dataclass with slots
        if self.expect_tail is not None or self.turn_id is not None:
            raise InvalidInputError("backfill", "has no condition")
        for name in ("platform_id", "created_at"):
            if any(getattr(message, name) is None for message in self.messages):
                raise InvalidInputError("messages", f"each needs a {name}")

    def said_at(self, message: ChatMessage) -> int:
        """When it was said, in microseconds: before the operation was requested."""
        return min(self.at, to_micros(message.created_at or from_micros(self.at)))

    def describe(self) -> str:
        return f"backfill {len(self.messages)} of a session's messages"


_MESSAGE_IDS: Final = ("message_id", "platform_id")


@operation
class Rollback(Write):
    """Drop the last message, or exactly the one named; nothing if it is not there."""

    kind = "rollback"
    key: str
    message_id: str | None = None
    platform_id: str | None = None

    def check_together(self) -> None:
        check_one(self, _MESSAGE_IDS)


@operation
class Replace(Write):
    """New role, content and extra for the last message or the one named, in its place.

    With `turn_id` only while that turn runs; otherwise it is a conflict.
    """

    kind = "replace"
    key: str
    message: ChatMessage
    message_id: str | None = None
    turn_id: str | None = None
    platform_id: str | None = None
    tail: ClassVar[None] = None

    def check_together(self) -> None:
        check_one(self, _MESSAGE_IDS)


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


def described_attributes(operation: Operation) -> SessionAttributes:
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
    """Remove every trace of a session, of a sender's or a room's sessions, or an author's messages.

    One of the four is given. As a write it takes its place in the order, once: sessions are hidden
    at once. As maintenance it then removes all from disk and server, a slice at a time.
    """

    kind = "erase"
    key: str | None = None
    sender: str | None = None
    room: str | None = None
    author: str | None = None

    @property
    def subject(self) -> tuple[str, str]:
        """Which of the four, and its value."""
        given = ((name, getattr(self, name)) for name in SUBJECTS)
        return next((name, value) for name, value in given if value is not None)

    def check_together(self) -> None:
        check_subject({name: getattr(self, name) for name in SUBJECTS})

    @property
    def changes(self) -> tuple[str, ...]:
        return ("",)
