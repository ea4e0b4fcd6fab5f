"""The limit: the same rows inserted directly into the same schema, in groups, and nothing else.

No queue, no jobs, no checks: rows, index entries and op ids are prepared. What remains is the work
of SQLite, which every worker with these guarantees needs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import apsw

from backscroll.contract.messages import to_micros
from backscroll_worker.stores.search.text import folded
from backscroll_worker.stores.sqlite.packed_ids import pack_id
from backscroll_worker.stores.sqlite.schema import open_database
from bench.arena import Arena
from bench.data import appends

GROUP = 500


@dataclass(slots=True)
class _Rows:
    """The rows of one group, by table."""

    sessions: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    messages: list[tuple[Any, ...]] = field(default_factory=list)
    index: list[tuple[int, str]] = field(default_factory=list)
    applied: list[tuple[bytes | str, int, int]] = field(default_factory=list)


def straight_into_sqlite(arena: Arena, count: int) -> float:
    """Appends per second, from the first group's commit to the last one's."""
    keys: dict[str, int] = {}
    groups = list(_groups(count, keys))
    with closing(open_database(arena.store_path, read_only=False)) as database:
        connection: apsw.Connection = database.connection()
        connection.executemany(
            "INSERT INTO sessions(id, key, state, pinned, created_at, last_activity, message_count)"
            " VALUES (?, ?, 'idle', 0, 0, 0, 0)",
            [(number, key) for key, number in keys.items()],
        )
        _write(connection, groups[0])
        began = time.monotonic()
        for rows in groups[1:]:
            _write(connection, rows)
        return (count - len(groups[0].messages)) / (time.monotonic() - began)


def _groups(count: int, keys: dict[str, int]) -> Iterator[_Rows]:
    counts: dict[int, int] = {}
    numbered = enumerate(appends(count), start=1)
    while operations := list(itertools.islice(numbered, GROUP)):
        rows = _Rows()
        for row, operation in operations:
            session = keys.setdefault(operation.key, len(keys) + 1)
            counts[session] = counts.get(session, 0) + 1
            op_id = pack_id(operation.op_id)
            message = operation.messages[0]
            at = operation.at if message.created_at is None else to_micros(message.created_at)
            rows.sessions[session] = (counts[session], at, session)
            rows.messages.append((row, session, op_id, message.role, message.content, None, at))
            rows.index.append((row, folded(message.content)))
            rows.applied.append((op_id, at, 1))
        yield rows


def _write(connection: apsw.Connection, rows: _Rows) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO messages(id, session_id, message_id, role, content, extra, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        rows.messages,
    )
    connection.executemany(
        "UPDATE sessions SET message_count = ?, last_activity = ? WHERE id = ?",
        rows.sessions.values(),
    )
    connection.executemany("INSERT INTO message_index(rowid, text) VALUES (?, ?)", rows.index)
    connection.executemany(
        "INSERT INTO applied(op_id, applied_at, affected) VALUES (?, ?, ?)", rows.applied
    )
    connection.execute("COMMIT")
