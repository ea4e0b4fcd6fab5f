"""The verbs that take messages out of a session, and add others or return what they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.forms import ANY_MESSAGES, Form
from backscroll.contract.messages import MAX_ATTRIBUTE_CHARS, ChatMessage, check_text
from backscroll.contract.operations import Append, Operation, Write, operation
from backscroll.contract.results import Outcome
from backscroll.contract.validation import MAX_LOAD, check_limit, shown

MOST_NAMED: Final = 5_000
"""Messages that a splice may name: each is looked up and removed by itself, in some 10 µs."""

MOST_POPPED: Final = 100
"""Messages that a pop may remove, as all of them are recorded with its op id."""

Removed = int | tuple[str, ...] | Literal["all"]
"""The newest so many messages, those with these ids, or all of a session."""


def _ids(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise InvalidInputError(name, f"must be ids of messages, not {shown(value)}")
    if len(value) > MOST_NAMED:
        problem = f"has {len(value):,} ids; the limit is {MOST_NAMED:,}"
        raise InvalidInputError(name, problem, MOST_NAMED)
    return tuple([check_text(name, each, MAX_ATTRIBUTE_CHARS) for each in value])


def _expected(name: str, value: Any) -> tuple[str, ...]:
    """`value`, one id, or "" for a session without messages, as the ids of the last messages."""
    return _ids(name, [value] * bool(value) if isinstance(value, str) else value)


def _removed(name: str, value: Any) -> Removed:
    if value == "all" and isinstance(value, str):
        return "all"
    if type(value) is int and 0 <= value < MAX_LOAD:
        return value
    if isinstance(value, bool | int | float | str) or value is None:
        problem = f'must be a whole number from 0, ids of messages, or "all", not {shown(value)}'
        raise InvalidInputError(name, problem)
    return _ids(name, value)


_EXPECTED: Final = Form(lambda name, value, _limits: _expected(name, value), _expected, list)
_REMOVED: Final = Form(
    lambda name, value, _limits: _removed(name, value),
    _removed,
    lambda value: list(value) if isinstance(value, tuple) else value,
)


_COUNT: Final = Form(
    lambda name, value, _limits: check_limit(value, MOST_POPPED, name),
    lambda name, value: check_limit(value, MOST_POPPED, name),
)


@operation
class Splice(Append):
    """Remove messages of a session, as by rollback, and add others at its end: both or neither.

    With `expect` only if these are the ids of the session's last messages, oldest first, or there
    are none and it has no message; otherwise it is a conflict, for good. What is not there is not
    removed. A message that comes back by its platform id is stored, but none that was gone before.

    The outcome's `affected` counts what was removed and what was added.
    """

    kind = "splice"
    messages: Annotated[tuple[ChatMessage, ...], ANY_MESSAGES]
    expect: Annotated[tuple[str, ...], _EXPECTED] | None = None
    remove: Annotated[Removed, _REMOVED] = 0

    def check_together(self) -> None:
        Append.check_together(self)
        if self.expect_tail is not None:
            raise InvalidInputError("expect_tail", "is not for a splice, which has `expect`")
        if not (self.messages or self.remove):
            raise InvalidInputError("messages", "give at least one, or what to remove")

    @property
    def tail(self) -> tuple[str, ...] | None:
        return self.expect

    @property
    def needs_open(self) -> bool:
        return bool(self.messages)

    def may_be_elsewhere(self, affected: int) -> bool:
        return affected >= 0  # it counts what was removed, too

    def describe(self) -> str:
        return f"splice {len(self.messages)} messages"


@operation
class Pop(Write):
    """Remove a session's last messages, as by rollback, and return them, oldest first.

    With `message_ids` exactly these, oldest first, as far as they are there: they were returned
    already. They are looked for in the session with that key, then in what that session became
    by renames, whenever it was requested.

    The outcome's `messages` are recorded with the op id, and returned again when it is sent again.
    """

    kind = "pop"
    key: str
    count: Annotated[int, _COUNT] = 1
    message_ids: Annotated[tuple[str, ...], _EXPECTED] | None = None

    @property
    def is_named(self) -> bool:
        """Whether it says itself what it removes."""
        return self.message_ids is not None

    def check_together(self) -> None:
        if self.message_ids is not None and len(self.message_ids) != self.count:
            raise InvalidInputError("message_ids", "must be as many as the count")


def popped(operation: Operation, outcome: Outcome) -> tuple[ChatMessage, ...]:
    """What an operation removed and returns.

    Raises `OperationRefusedError` where it was applied before and nothing is recorded of that.
    """
    if isinstance(operation, Pop) and outcome.affected and not outcome.messages:
        raise OperationRefusedError(
            f"pop {operation.op_id} was carried out, and what it removed is not recorded any more: "
            "that was more than a day ago, or it was erased, or many others followed"
        )
    return tuple(outcome.messages or ())


def with_summaries(messages: Sequence[ChatMessage], ids: Sequence[str]) -> tuple[ChatMessage, ...]:
    """Messages that were loaded, to be stored again under `ids`: summaries go up to these."""
    new = {each.message_id: id_ for each, id_ in zip(messages, ids, strict=True)}
    return tuple(
        replace(each, upto=new[each.upto]) if each.upto in new and each.upto else each
        for each in messages
    )
