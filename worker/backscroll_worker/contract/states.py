"""What a change of a session's state does: what both stores decide alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.messages import MAX_ATTRIBUTE_CHARS, check_text
from backscroll.contract.states import (
    MAX_STATES,
    NO_STATE,
    SessionState,
    SetState,
    check_state,
    check_version,
)

States = Mapping[str, SessionState]


def state_after(states: States, operation: SetState) -> SessionState | None:
    """The state after `operation`, which may be as it is; None for a conflict.

    Raises `OperationRefusedError` where the session has too many.
    """
    before = states.get(operation.name, NO_STATE)
    is_expected = operation.expect in (None, before.version)
    if not is_expected and not (operation.expect == 0 and before.value is None):
        return None
    if operation.value is None and before.value is None:
        return before
    if operation.name not in states and len(states) >= MAX_STATES:
        raise OperationRefusedError(
            f"name: a session has at most {MAX_STATES} states, those that were deleted included"
        )
    return SessionState(operation.value, before.version + 1)


def states_asked(states: States, name: str | None) -> dict[str, SessionState]:
    """All that were ever set, or only the one of that name, if it was."""
    return {known: state for known, state in states.items() if name in (None, known)}


def read_states(said: Any) -> dict[str, SessionState]:
    """The states in the JSON object of a file; raises `InvalidInputError` for anything else."""
    states = {} if said is None else said
    if not isinstance(states, dict) or not all(isinstance(each, dict) for each in states.values()):
        raise InvalidInputError("states", "must be JSON objects by name")
    return {
        check_text("states", name, MAX_ATTRIBUTE_CHARS): SessionState(
            check_state(each.get("value"), was_json=True),
            check_version("version", each.get("version")),
        )
        for name, each in states.items()
    }
