"""What the readers of all formats yield: sessions to take over, and what cannot be."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Final

from backscroll.contract.message_checks import MAX_OPERATION_BYTES, Limits, check_messages
from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.takeover import ImportSession

STANDARD_INPUT_NAME: Final = "standard input"
LIMITS: Final = Limits(MAX_OPERATION_BYTES, MAX_OPERATION_BYTES)


@dataclass(frozen=True, slots=True)
class Incoming:
    """A session to take over, and where it was read, for errors.

    What `joins` may be added to the messages that the session has: each has a platform id.
    """

    where: str
    operation: ImportSession
    _: KW_ONLY
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that cannot be taken over, and why; with `is_session` a whole session."""

    where: str
    problem: str
    is_session: bool = True


@dataclass(frozen=True, slots=True)
class Total:
    """How much there is to read: bytes, or rows."""

    amount: int


@dataclass(frozen=True, slots=True)
class Advance:
    """How much of that was read since the last one."""

    amount: int


@dataclass(frozen=True, slots=True)
class NotKept:
    """Something that a session cannot hold, and how often it was there."""

    what: str
    count: int


Found = Incoming | Damage | NotKept | Total | Advance


def check_message(message: ChatMessage) -> ChatMessage:
    """`message` if a store can hold it; raises `InvalidInputError`."""
    check_messages([message], LIMITS)
    return message
