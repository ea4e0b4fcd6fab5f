"""What the one writer of a store remembers between groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import apsw

from backscroll_worker.stores.sqlite.maintenance.erasure import load_tombstones

_DAY: Final = 86_400_000_000  # microseconds


@dataclass(slots=True)
class KnownSession:
    """A session's row as the writer knows it."""

    id: int
    message_count: int


class Memory:
    """What the one writer need not ask of the tables again, as hardly anybody else changes them.

    Fresh op ids begin with their time, so one that is larger than `newest` is in no table. Those
    made of a dedup key may be anywhere, mostly far above; from `bound` on nothing is known.
    """

    def __init__(self, connection: apsw.Connection, now: int) -> None:
        self.sessions: dict[str, KnownSession] = {}
        self.tombstones = load_tombstones(connection)
        self.last_row: Any = connection.execute("SELECT ifnull(max(id), 0) FROM messages").get
        self.best_before = now + _DAY // 2
        self._read_at = now
        self._version = _version(connection)
        self.bound = ((now + _DAY) // 1_000).to_bytes(6, "big")
        sql = "SELECT max(op_id) FROM applied WHERE op_id < ?"
        newest: Any = connection.execute(sql, (self.bound,)).get
        self.newest: bytes = newest if isinstance(newest, bytes) else b""  # text is no id of ours

    def is_stale(self, connection: apsw.Connection, now: int) -> bool:
        """Whether its time has passed, the clock was set back, or another program has written."""
        is_good = self._read_at <= now <= self.best_before
        return not is_good or self._version != _version(connection)

    def maybe_applied(self, op_ids: Iterable[bytes | str]) -> list[bytes | str]:
        """Those of the ids that may be in the table of applied ones."""
        newest, bound = self.newest, self.bound
        return [id_ for id_ in op_ids if isinstance(id_, str) or not newest < id_ < bound]

    def note_applied(self, op_ids: Iterable[bytes | str]) -> None:
        """These are in the table now."""
        bound = self.bound
        ours = [id_ for id_ in op_ids if isinstance(id_, bytes) and id_ < bound]
        self.newest = max([self.newest, *ours])


def _version(connection: apsw.Connection) -> Any:
    """What changes when anybody else commits (https://www.sqlite.org/pragma.html, data_version)."""
    return connection.execute("PRAGMA data_version").get
