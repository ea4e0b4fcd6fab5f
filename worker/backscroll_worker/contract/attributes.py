"""How attributes change a session: those sent with an append, `meta`, and a state, which sets its
turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backscroll.contract.errors import InvalidInputError, OperationRefusedError
from backscroll.contract.messages import SessionAttributes
from backscroll.contract.meta import check_meta_size
from backscroll.contract.validation import ORIGINS

_DEFAULTS: Final[Mapping[str, Any]] = {"state": "idle", "pinned": False, "closed": False}


def differing(has: Mapping[str, Any], attributes: SessionAttributes) -> SessionAttributes:
    """The `attributes` that differ from those a session `has`.

    State and turn id belong together: a turn that is already running did not begin now.
    """
    wanted = dict(with_meta(has, attributes))
    if "state" in wanted and wanted["state"] != "running":
        wanted["turn_id"] = None
    elif "state" in wanted:
        wanted.setdefault("turn_id", None)
    changed = {name for name, value in wanted.items() if value != _value(has, name)}
    if "state" in wanted and changed & {"state", "turn_id"}:
        changed |= {"state", "turn_id"}
    return {name: wanted[name] for name in wanted if name in changed}


def with_meta(has: Mapping[str, Any], attributes: SessionAttributes) -> SessionAttributes:
    """The attributes to set, in `meta` all that the session will have: None if that is nothing.

    What is given is set, None clears a key, the others that the session `has` stay. Raises
    `OperationRefusedError` if it would be too much.
    """
    if "meta" not in attributes:
        return attributes
    given: Any = attributes["meta"]
    both = {} if given is None else {**(has.get("meta") or {}), **given}
    left = {name: value for name, value in both.items() if value is not None}
    try:
        check_meta_size(left)
    except InvalidInputError as error:
        raise OperationRefusedError(str(error)) from None
    return {**attributes, "meta": left or None}


def with_turn(attributes: Mapping[str, Any], now: int) -> dict[str, Any]:
    """The attributes to set: with a state also its turn's id, beginning and lease, in microseconds.

    "running" begins a turn without a lease, and any other state ends it.
    """
    values = dict(attributes)
    if "state" in values:
        is_running = values["state"] == "running"
        values["turn_started_at"] = now if is_running else None
        values["turn_id"] = values.get("turn_id") if is_running else None
        values["turn_expires_at"] = values["turn_lease"] = None
    return values


def begun_anew(past_key: str) -> dict[str, Any]:
    """The attributes in which a conversation that was begun by a reset differs from the past one.

    All others are the same, as those of a session that is cleared.
    """
    others = {**dict.fromkeys(ORIGINS), "closed": False}
    return {"state": "idle", **others, "continued_from": past_key}


def _value(has: Mapping[str, Any], name: str) -> Any:
    value = has.get(name)
    return _DEFAULTS.get(name) if value is None else value
