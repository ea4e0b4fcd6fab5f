"""Renames: `.renames.json` has the op ids of those of agents, and the keys of renamed sessions.

An agent's is the only operation on many sessions. It is committed together with the files that the
operation changes.
"""

from __future__ import annotations

from typing import Final

import orjson

from backscroll_worker.contract.clock import Cutoff
from backscroll_worker.contract.session_renames import SessionRename, SessionRenames
from backscroll_worker.stores.jsonl.changes import Changes
from backscroll_worker.stores.jsonl.files import Directory
from backscroll_worker.stores.jsonl.lines import (
    Record,
    Records,
    drop_old,
    load_records,
    records_to_json,
)

_NAME: Final = ".renames.json"  # the file name of a key never begins with a dot


class Renames:
    """The renames that were applied."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._applied: Records = {}
        self.sessions = SessionRenames()
        self._is_changed = False

    def recover(self) -> None:
        """Read the file."""
        content = self._directory.read(_NAME)
        self._applied = load_records(content)
        self.sessions = SessionRenames(_load_sessions(content))
        self._is_changed = False

    def applied(self, op_id: str) -> int | None:
        """The number of sessions that the operation renamed; None if it was not applied."""
        record = self._applied.get(op_id)
        return None if record is None else record.affected

    def note(self, op_id: str, affected: int, now: int) -> None:
        self._applied[op_id] = Record(now, affected)
        self._is_changed = True

    def note_session(self, rename: SessionRename) -> None:
        self.sessions.add(rename)
        self._is_changed = True

    def forget(self, key: str) -> list[tuple[str, int]]:
        """Forget an erased session's key; returns its earlier keys, until when each."""
        count, earlier = len(self.sessions), self.sessions.forget(key)
        self._is_changed |= len(self.sessions) < count
        return earlier

    def compact(self, old: Cutoff) -> int:
        """Forget expired op ids; returns their number."""
        purged = drop_old(self._applied, old)
        fresh = [each for each in self.sessions if not old.is_past(each.noted_at)]
        self._is_changed |= purged > 0 or len(fresh) < len(self.sessions)
        self.sessions = SessionRenames(fresh)
        return purged

    def stage(self, changes: Changes) -> None:
        if self._is_changed:
            fields = {"version": 1, "applied": records_to_json(self._applied)}
            if self.sessions:
                fields["sessions"] = [list(each) for each in self.sessions]
            changes.put(_NAME, orjson.dumps(fields) + b"\n")

    def settle(self) -> None:
        """The staged content is committed."""
        self._is_changed = False


def _load_sessions(content: bytes | None) -> list[SessionRename]:
    """The renames of sessions in the file; those that are readable."""
    try:
        found = orjson.loads(content or b"{}").get("sessions")
    except (ValueError, AttributeError):
        return []
    renames = []
    for item in found if isinstance(found, list) else []:
        match item:
            case [str(old), str(new), int(asked_at), int(noted_at), bool(is_reset)]:
                renames.append(SessionRename(old, new, asked_at, noted_at, is_reset))
            case _:
                pass
    return renames
