"""Which attributes sent with an append change the session: usually none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from backscroll.contract.messages import SessionAttributes

_DEFAULTS: Final[Mapping[str, Any]] = {"state": "idle", "pinned": False}


def differing(has: Mapping[str, Any], attributes: SessionAttributes) -> SessionAttributes:
    """The `attributes` that differ from those a session `has`.

    State and turn id belong together: a turn that is already running did not begin now.
    """
    wanted = dict(attributes)
    if "state" in wanted and wanted["state"] != "running":
        wanted["turn_id"] = None
    elif "state" in wanted:
        wanted.setdefault("turn_id", None)
    changed = {name for name, value in wanted.items() if value != _value(has, name)}
    if "state" in wanted and changed & {"state", "turn_id"}:
        changed |= {"state", "turn_id"}
    return {name: wanted[name] for name in wanted if name in changed}


def _value(has: Mapping[str, Any], name: str) -> Any:
    value = has.get(name)
    return _DEFAULTS.get(name) if value is None else value
