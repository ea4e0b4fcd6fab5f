"""What a `ConflictError` says: which condition of the write did not hold."""

from __future__ import annotations

from backscroll.contract.errors import ConflictError, carrying
from backscroll.contract.operations import Operation
from backscroll.contract.states import SetState
from backscroll.contract.turns import BeginTurn

_RUNNING = "another turn is running in the session: wait until it ends, or supersede it"
_TAIL = "the session's last message is not `expect_tail`: load the session, and decide anew"
_TURN = "the turn is not running any more: it has ended, or another one has superseded it"


def conflict(operation: Operation) -> ConflictError:
    """The error that the condition of `operation` did not hold."""
    problems = []
    if isinstance(operation, BeginTurn) and not operation.supersedes:
        problems.append(_RUNNING)
    if getattr(operation, "turn_id", None) is not None:
        problems.append(_TURN)
    if getattr(operation, "expect_tail", None) is not None:
        problems.append(_TAIL)
    if isinstance(operation, SetState):
        version = f"the state {operation.name!r} does not have version {operation.expect}"
        problems.append(f"{version}: get it, and decide anew")
    return carrying(operation, ConflictError(", or ".join(problems)))
