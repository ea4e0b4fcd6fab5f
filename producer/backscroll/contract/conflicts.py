"""What a `ConflictError` says: which condition of the write did not hold."""

from __future__ import annotations

from backscroll.contract.errors import ConflictError, carrying
from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import Rename
from backscroll.contract.operations import Append, Operation
from backscroll.contract.states import SetState
from backscroll.contract.turns import BeginTurn

_RUNNING = "another turn is running in the session: wait until it ends, or supersede it"
_TAIL = "the session's last message is not `expect_tail`: load the session, and decide anew"
_TURN = "the turn is not running any more: it has ended, or another one has superseded it"
_CLOSED = "the session is closed: reopen it, or begin another one"


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
    if isinstance(operation, Rename):
        there = f"there is a session {operation.new_key!r} already"
        problems.append(f"{there}, so {operation.key!r} keeps its key")
    if isinstance(operation, Fork):
        there = f"there is a session {operation.new_key!r} with messages already"
        problems.append(f"{there}; fork to another key")
    if isinstance(operation, Append):
        problems.append(_CLOSED)
    return carrying(operation, ConflictError(", or ".join(problems)))
