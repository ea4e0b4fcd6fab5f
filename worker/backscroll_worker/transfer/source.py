"""What the readers of the formats have in common: what they yield, and how lines are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final

import orjson

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.messages import MAX_OPERATION_BYTES, ChatMessage, Limits, check_messages
from backscroll_worker.contract.takeover import ImportSession

LIMITS: Final = Limits(MAX_OPERATION_BYTES, MAX_OPERATION_BYTES)
_MAX_LINE_BYTES: Final = 8 * MAX_OPERATION_BYTES


@dataclass(frozen=True, slots=True)
class Incoming:
    """A session to take over, and where it stands, for errors."""

    where: str
    operation: ImportSession


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that cannot be taken over, and why; `is_session`: because of it a whole session."""

    where: str
    problem: str
    is_session: bool = True


@dataclass(frozen=True, slots=True)
class Total:
    """How much there is to read: bytes, or rows."""

    amount: int


@dataclass(frozen=True, slots=True)
class Advance:
    """So much of that has been read."""

    amount: int


Found = Incoming | Damage | Total | Advance


class BadLineError(ValueError):
    """A line that cannot be taken over; the text says why."""


def numbered_lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, by their numbers from 1; one too long to hold is cut."""
    number = 0
    while line := file.readline(_MAX_LINE_BYTES):
        number += 1
        if line.strip():
            yield number, line


def parse_object(line: bytes) -> dict[str, Any]:
    """The JSON object in a line; raises `BadLineError`."""
    try:
        fields = orjson.loads(line)
    except ValueError:
        raise BadLineError("not JSON; perhaps the file is cut off") from None
    if not isinstance(fields, dict):
        raise BadLineError("not a JSON object")
    return fields


def checked(message: ChatMessage) -> ChatMessage:
    """`message` if a store can hold it; raises `BadLineError`."""
    try:
        check_messages([message], LIMITS)
    except InvalidInputError as error:
        raise BadLineError(str(error)) from None
    return message
