"""What was said earlier gets its place among a session's messages, if it is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from backscroll.contract.messages import to_micros
from backscroll.contract.operations import Backfill, Operation
from backscroll_worker.contract.merging import Placed, with_backfilled
from backscroll_worker.contract.turns import CONFLICT
from backscroll_worker.stores.jsonl.lines import Line
from backscroll_worker.stores.jsonl.session import Session


def backfill(session: Session, operation: Backfill) -> int:
    """Append what is new, then put it in its place; returns how many messages that are."""
    first = session.message_id_of(operation.messages[0].platform_id or "")
    is_at_end = not session.exists or not session.count or first == session.tail
    affected = session.append(operation)
    if affected in (0, CONFLICT):
        return affected
    earliest = min(map(operation.said_at, operation.messages))
    if earliest < session.sidecar.created_at:
        session.sidecar.created_at, session._is_described = earliest, True
    if not is_at_end:
        lines = session._rewrite()
        placed = [Placed(line, _moment(line), line.message.platform_id) for line in lines]
        lines[:] = with_backfilled(operation, placed[:-affected], placed[-affected:])
    return affected


def _moment(line: Line) -> int:
    at = line.message.created_at
    return 0 if at is None else to_micros(at)


HANDLERS: Final[dict[type[Operation], Callable[[Session, Any], int]]] = {Backfill: backfill}
