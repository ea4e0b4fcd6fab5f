"""The op ids of agent renames, the only operation on many sessions: `.renames.json`.

It is committed together with the sidecars that the operation changes.
"""

from __future__ import annotations

from typing import Final

from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.lines import (
    Record,
    Records,
    drop_old,
    dump_records,
    load_records,
)

_NAME: Final = ".renames.json"  # the file name of a key never begins with a dot


class Renames:
    """The renames that were applied."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._applied: Records = {}
        self._is_changed = False

    def recover(self) -> None:
        """Read the file."""
        self._applied = load_records(self._directory.read(_NAME))
        self._is_changed = False

    def applied(self, op_id: str) -> int | None:
        """The number of sessions that the operation renamed; None if it was not applied."""
        record = self._applied.get(op_id)
        return None if record is None else record.affected

    def note(self, op_id: str, affected: int, now: int) -> None:
        self._applied[op_id] = Record(now, affected)
        self._is_changed = True

    def compact(self, old: Cutoff) -> int:
        """Forget expired op ids; returns their number."""
        purged = drop_old(self._applied, old)
        self._is_changed |= purged > 0
        return purged

    def stage(self, changes: Changes) -> None:
        if self._is_changed:
            changes.put(_NAME, dump_records(self._applied))

    def settle(self) -> None:
        """The staged content is committed."""
        self._is_changed = False
