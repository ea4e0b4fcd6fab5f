"""Renaming an agent's alias in all its sessions: the one operation that spans several.

`.renames.json` is its redo log. Once the file says what is to be renamed, the rename is decided
and carried to its end, by the next process if need be, before anything else happens; it also
keeps the op ids of those that were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from producer.operations import RenameAgent
from worker.backends.jsonl.files import Directory
from worker.backends.jsonl.lines import (
    Record,
    Records,
    drop_old,
    records_from_json,
    records_to_json,
)
from worker.backends.jsonl.names import SessionNames
from worker.backends.jsonl.sidecar import Sidecar

_NAME: Final = ".renames.json"  # no key's file begins with a dot


@dataclass(frozen=True, slots=True)
class _Pending:
    old: str
    new: str | None
    keys: Sequence[str]


class Renames:
    """The renames that were carried out, and the one that is being carried out."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._applied: Records = {}
        self._pending: _Pending | None = None

    def recover(self) -> None:
        """Start from what the disk says, and finish what was decided."""
        try:
            fields = orjson.loads(self._directory.read(_NAME) or b"{}")
        except ValueError:
            fields = {}
        self._applied = records_from_json(fields.get("applied")) or {}
        pending = fields.get("pending")
        self._pending = None if pending is None else _Pending(**pending)
        self._resume()

    def applied(self, op_id: str) -> int | None:
        record = self._applied.get(op_id)
        return None if record is None else record.affected

    def carry_out(self, operation: RenameAgent, keys: Sequence[str], now: int) -> int:
        """Rename in the sessions of `keys`, which have the old alias."""
        self._applied[operation.op_id] = Record(now, len(keys))
        self._pending = _Pending(operation.old, operation.new, keys) if keys else None
        self._save()
        self._resume()
        return len(keys)

    def compact(self, op_ids_before: int) -> int:
        """Forget op ids from before; how many there were."""
        purged = drop_old(self._applied, op_ids_before)
        if purged:
            self._save()
        return purged

    def _resume(self) -> None:
        """Finish the rename that was decided; nothing has come between, so it can be repeated."""
        if self._pending is None:
            return
        for key in self._pending.keys:
            name = SessionNames.of(key).sidecar
            content = self._directory.read(name)
            sidecar = None if content is None else Sidecar.loads(content, key, 0)
            if sidecar is not None and sidecar.attributes.get("agent") == self._pending.old:
                sidecar.attributes["agent"] = self._pending.new
                self._directory.replace(name, sidecar.dumps())
        self._directory.sync()
        self._pending = None
        self._save()

    def _save(self) -> None:
        fields: dict[str, Any] = {"version": 1, "applied": records_to_json(self._applied)}
        if self._pending is not None:
            fields["pending"] = self._pending
        self._directory.replace(_NAME, orjson.dumps(fields) + b"\n")
        self._directory.sync()
