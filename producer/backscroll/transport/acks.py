"""What a write may wait for (its `ack`), and the errors of a wait that ended without it."""

from __future__ import annotations

from typing import Any, Final, Literal

from backscroll.contract.errors import (
    InvalidInputError,
    NotConfirmedError,
    ServerUnavailableError,
)
from backscroll.contract.operations import Operation, Read
from backscroll.contract.validation import shown

Ack = Literal["queued", "fsynced", "stored"]
ACKS: Final[tuple[Ack, ...]] = ("queued", "fsynced", "stored")


def check_ack(ack: object) -> Ack:
    """`ack` if it is one of the three; raises `InvalidInputError`."""
    for known in ACKS:
        if isinstance(ack, str) and ack == known:
            return known
    raise InvalidInputError("ack", f"must be one of {', '.join(ACKS)}, not {shown(ack)}")


def check_fsynced(reply: Any, operation: Operation) -> None:
    """Raise `NotConfirmedError` unless WAITAOF's reply says that the operation is on disk."""
    if isinstance(reply, Exception):
        raise NotConfirmedError(
            f"ack='fsynced' needs Redis 7.2 or Valkey with appendonly on; the server says: {reply}",
            operation,
        )
    if reply[0] < 1:
        raise NotConfirmedError(
            "the server has the operation, and did not fsync it in time: its disk is slow or full",
            operation,
        )


def no_response(operation: Operation, timeout_seconds: float, queue: str) -> NotConfirmedError:
    """The error for an operation whose result did not come in time."""
    left = "can be repeated" if isinstance(operation, Read) else "may still be applied"
    return NotConfirmedError(
        f"no response from the worker within {timeout_seconds:g} s; the {operation.kind} {left}. "
        f"Does a worker run on queue {queue!r}? `backscroll check` shows it.",
        operation,
    )


def still_spooled(operation: Operation, count: int) -> NotConfirmedError:
    """The error for an operation that did not leave the spool in time."""
    return NotConfirmedError(
        f"the server does not accept operations, and {count:,} wait in the spool; "
        "they are sent when it does. `backscroll check` shows what is wrong",
        operation,
    )


def not_yet_sent(count: int) -> ServerUnavailableError:
    """The error for a read while writes before it have not reached the server."""
    return ServerUnavailableError(
        f"{count:,} earlier operations are still in the spool, as the server does not accept them; "
        "read again when they are sent. `backscroll check` shows what is wrong"
    )
