"""The op ids of renamed aliases: the one operation that spans sessions is recorded in no session.

`.renames.json` holds them. It is written with the sidecars that the operation changes.
"""

from __future__ import annotations

from typing import Final

import orjson

from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.lines import (
    Record,
    Records,
    drop_old,
    records_from_json,
    records_to_json,
)

_NAME: Final = ".renames.json"  # no key's file begins with a dot


class Renames:
    """The renames that were carried out."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._applied: Records = {}
        self._is_changed = False

    def recover(self) -> None:
        """Start from what the disk says."""
        try:
            fields = orjson.loads(self._directory.read(_NAME) or b"{}")
        except ValueError:
            fields = {}
        self._applied = records_from_json(fields.get("applied")) or {}
        self._is_changed = False

    def applied(self, op_id: str) -> int | None:
        """How many sessions the operation renamed; None if it was not applied."""
        record = self._applied.get(op_id)
        return None if record is None else record.affected

    def note(self, op_id: str, affected: int, now: int) -> None:
        self._applied[op_id] = Record(now, affected)
        self._is_changed = True

    def compact(self, old: Cutoff) -> int:
        """Forget old op ids; how many there were."""
        purged = drop_old(self._applied, old)
        self._is_changed |= purged > 0
        return purged

    def stage(self, changes: Changes) -> None:
        if self._is_changed:
            fields = {"version": 1, "applied": records_to_json(self._applied)}
            changes.put(_NAME, orjson.dumps(fields) + b"\n")

    def settle(self) -> None:
        """What was staged is committed."""
        self._is_changed = False
