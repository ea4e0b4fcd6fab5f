"""What was written in a block, for a caller who was not told what came of it.

A call that is cancelled, runs into a timeout of its caller's or is interrupted by a signal raises
somebody else's error, which carries no operation. Who has recorded the writes can send them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from backscroll.contract.errors import (
    BackscrollError,
    ConflictError,
    InvalidInputError,
    OperationRefusedError,
)
from backscroll.contract.operations import Operation
from backscroll.contract.results import Receipt

_FINAL: Final = (ConflictError, InvalidInputError, OperationRefusedError)


@dataclass(eq=False, slots=True)
class RecordedWrite:
    """One write: its `operation`, and the `receipt` or the `error` that came of it, if any did."""

    operation: Operation
    receipt: Receipt | None = None
    error: BackscrollError | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of it: there is a receipt, or it was refused for good.

        Otherwise it may have been carried out, be on its way, or be lost. After `send(operation,
        "stored")` it has been carried out, once, and the receipt says what came of it.
        """
        return self.receipt is not None or isinstance(self.error, _FINAL)


_recorders: ContextVar[tuple[list[RecordedWrite], ...]] = ContextVar("recorders", default=())


@contextmanager
def record_writes() -> Iterator[Sequence[RecordedWrite]]:
    """Record each write of every producer in this block, from before it is sent, in their order.

    What the block's tasks write counts, too, also after the block, and what it writes in threads of
    `asyncio.to_thread`; what other threads write does not. A write that is not here was not sent.
    The beginning of a `turn` is never here: a turn that breaks off ends by itself.

    The operations hold what was said, after redaction; they are let go of with what this yields.
    """
    writes: list[RecordedWrite] = []
    token = _recorders.set((*_recorders.get(), writes))
    try:
        yield writes
    finally:
        _recorders.reset(token)


@contextmanager
def recorded(operation: Operation) -> Iterator[RecordedWrite]:
    """Record a write that is about to be sent, and the error that it raises."""
    write = RecordedWrite(operation)
    for writes in _recorders.get():
        writes.append(write)
    try:
        yield write
    except BackscrollError as error:
        write.error = error
        raise


def is_recording() -> bool:
    """Whether anybody wants to know."""
    return bool(_recorders.get())


def forget(operation: Operation) -> None:
    """Of a write whose end does not matter any more."""
    for writes in _recorders.get():
        writes[:] = [each for each in writes if each.operation.op_id != operation.op_id]
