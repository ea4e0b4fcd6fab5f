"""What carries out each write that is about one session alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from backscroll.contract.lifecycle import Rewind
from backscroll.contract.operations import (
    Append,
    Clear,
    Delete,
    Describe,
    Operation,
    Replace,
    Rollback,
)
from backscroll.contract.states import SetState
from backscroll.contract.turns import BeginTurn, EndTurn
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.jsonl import backfilling, splicing
from backscroll_worker.stores.jsonl.session import Session

HANDLERS: Final[dict[type[Operation], Callable[[Session, Any], int]]] = {
    Append: Session.append,
    **backfilling.HANDLERS,
    **splicing.HANDLERS,
    BeginTurn: Session.begin_turn,
    EndTurn: Session.end_turn,
    Rollback: Session.rollback,
    Rewind: Session.rewind,
    Replace: Session.replace,
    Clear: Session.clear,
    Delete: Session.delete,
    Describe: Session.describe,
    SetState: Session.set_state,
    ImportSession: Session.take_over,
}
