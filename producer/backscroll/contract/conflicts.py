"""What a `ConflictError` says: which condition of the write did not hold."""

from __future__ import annotations

from backscroll.contract.errors import ConflictError, carrying
from backscroll.contract.forks import Fork
from backscroll.contract.lifecycle import Merge, Rename
from backscroll.contract.operations import Append, Operation
from backscroll.contract.splicing import Splice
from backscroll.contract.states import SetState
from backscroll.contract.turns import BeginTurn

_RUNNING = "another turn is running in the session: wait until it ends, or supersede it"
_TAIL = "the session's last message is not `expect_tail`: load the session, and decide anew"
_EXPECTED = "the session does not end as `expect` says: load the session, and decide anew"
_TURN = "the turn is not running any more: it has ended, or another one has superseded it"
_CLOSED = "the session is closed: reopen it, or begin another one"


def conflict(operation: Operation, *, was_known: bool = False) -> ConflictError:
    """The error that the condition of `operation` did not hold, now or when it was applied."""
    problems = []
    if isinstance(operation, BeginTurn) and not operation.supersedes:
        problems.append(_RUNNING)
    if getattr(operation, "turn_id", None) is not None:
        problems.append(_TURN)
    if getattr(operation, "expect_tail", None) is not None:
        problems.append(_TAIL)
    if isinstance(operation, Splice) and operation.expect is not None:
        problems.append(_EXPECTED)
    if isinstance(operation, SetState):
        version = f"the state {operation.name!r} does not have version {operation.expect}"
        problems.append(f"{version}: get it, and decide anew")
    if isinstance(operation, Rename):
        there = f"there is a session {operation.new_key!r} already"
        problems.append(f"{there}, so {operation.key!r} keeps its key")
    if isinstance(operation, Fork):
        there = f"there is a session {operation.new_key!r} that has messages already or is closed"
        problems.append(f"{there}; fork to another key")
    if isinstance(operation, Merge):
        problems.append(
            f"a turn is running in one of the sessions, or {operation.into!r} is closed"
        )
    if isinstance(operation, Append) and operation.needs_open:
        problems.append(_CLOSED)
    return carrying(operation, ConflictError(", or ".join(problems), was_known=was_known))
