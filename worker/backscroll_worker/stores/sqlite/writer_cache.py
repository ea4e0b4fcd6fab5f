"""What a store's only writer caches between groups."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import apsw

from backscroll_worker.stores.sqlite import fork_table
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.maintenance.erasure import load_tombstones
from backscroll_worker.stores.sqlite.session_renames import load_renames

_DAY: Final = 86_400_000_000  # microseconds


@dataclass(slots=True)
class KnownSession:
    """A session's row, as cached by the writer."""

    id: int
    message_count: int
    closed: int | None = None


class Memory:
    """What the writer need not query again, as other programs hardly ever write.

    New op ids begin with their time, so one that is larger than `newest` is not in the table. Those
    made from a dedup key may be anywhere, mostly far above; from `bound` on nothing is known.
    """

    def __init__(self, connection: apsw.Connection, now: int) -> None:
        self.sessions: dict[str, KnownSession] = {}
        self.tombstones = load_tombstones(connection)
        self.renames = load_renames(connection)
        self.erasing = author_erasure.load(connection)
        last: Any = connection.execute("SELECT ifnull(max(id), 0) FROM messages").get
        reserved = fork_table.last_reserved_row(connection)
        self.is_forking = reserved > 0
        """Whether there may be forks that are being copied."""
        # No row is used again as long as an erasure tells by them what was said before it.
        self.last_row: int = max([last, reserved, *(each.last_row for each in self.erasing)])
        self.best_before = now + _DAY // 2
        self._read_at = now
        self._version = _version(connection)
        self.bound = ((now + _DAY) // 1_000).to_bytes(6, "big")
        sql = "SELECT max(op_id) FROM applied WHERE op_id < ?"
        newest: Any = connection.execute(sql, (self.bound,)).get
        self.newest: bytes = newest if isinstance(newest, bytes) else b""  # text: not our id

    def is_stale(self, connection: apsw.Connection, now: int) -> bool:
        """Whether it has expired, the clock was set back, or another program has written."""
        is_good = self._read_at <= now <= self.best_before
        return not is_good or self._version != _version(connection)

    def maybe_applied(self, op_ids: Iterable[bytes | str]) -> list[bytes | str]:
        """The ids that may be in the table of applied ones."""
        newest, bound = self.newest, self.bound
        return [id_ for id_ in op_ids if isinstance(id_, str) or not newest < id_ < bound]

    def applied(
        self, connection: apsw.Connection, op_ids: Iterable[bytes | str]
    ) -> dict[bytes | str, int]:
        """Those of the ids that were applied, with how much each affected."""
        found: Iterable[Any] = connection.executemany(
            "SELECT op_id, affected FROM applied WHERE op_id = ?",
            [(op_id,) for op_id in self.maybe_applied(op_ids)],
        )
        return dict(found)

    def note_applied(self, op_ids: Iterable[bytes | str]) -> None:
        """Note that these ids are in the table now."""
        bound = self.bound
        ours = [id_ for id_ in op_ids if isinstance(id_, bytes) and id_ < bound]
        self.newest = max([self.newest, *ours])


def _version(connection: apsw.Connection) -> Any:
    """A number that another program's commit changes (https://www.sqlite.org/pragma.html)."""
    return connection.execute("PRAGMA data_version").get
