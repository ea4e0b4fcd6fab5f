"""The pending writes of a group of operations: collected, then written by a few statements.

FTS5 gets its rows last and together: it is fastest without other writes in between, and one
statement for all of them releases Python's lock.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apsw

from backscroll.contract.messages import ChatMessage
from backscroll_worker.stores.sqlite import edits
from backscroll_worker.stores.sqlite.writer_cache import KnownSession, Memory


class Pending:
    """Rows, index entries, counts and op ids not yet written to the open transaction."""

    def __init__(self, now: int, memory: Memory) -> None:
        self._now = now
        self._memory = memory
        self.rows: list[tuple[Any, ...]] = []
        """In the order of the columns in `put_messages`."""
        self.edited: list[tuple[int, ChatMessage]] = []
        """Imported messages that have earlier versions, by row."""
        self.index: dict[int, str] = {}
        """The folded text to index, by row."""
        self.touched: dict[int, KnownSession] = {}
        """Sessions that become active now, by id."""
        self.imported: dict[int, tuple[KnownSession, int, int]] = {}
        """Imported sessions, with their times of creation and last activity."""
        self.op_ids: list[tuple[bytes | str, int, int]] = []
        """In the order of the columns of `applied`."""
        self._unindex: list[tuple[int]] = []

    def forget(self, row: int) -> None:
        """Remove a row from the index, whether it is written yet or not."""
        if self.index.pop(row, None) is None:
            self._unindex.append((row,))

    def flush_rows(self, connection: apsw.Connection) -> None:
        """Write only the messages, so that they can be queried."""
        if self.rows:
            put_messages(connection, self.rows)
            self.rows = []
            if self.edited:
                edits.put(connection, self.edited)
                self.edited = []

    def flush_tables(self, connection: apsw.Connection) -> None:
        """Write all but the new index entries; `flush_index` has to follow."""
        now = self._now
        self.flush_rows(connection)
        if self.imported:  # a time in the future must not affect sessions written afterwards
            connection.executemany(
                "UPDATE sessions SET message_count = ?, created_at = ?, last_activity = ?"
                " WHERE id = ?",
                [
                    (known.message_count, min(created_at, now), min(last_activity, now), known.id)
                    for known, created_at, last_activity in self.imported.values()
                ],
            )
            self.imported = {}
        if self.touched:
            connection.executemany(
                "UPDATE sessions SET message_count = ?, last_activity = ? WHERE id = ?",
                [(known.message_count, now, known.id) for known in self.touched.values()],
            )
            self.touched = {}
        if self._unindex:
            connection.executemany("DELETE FROM message_index WHERE rowid = ?", self._unindex)
            self._unindex = []
        if self.op_ids:
            connection.executemany(
                "INSERT INTO applied(op_id, applied_at, affected) VALUES (?, ?, ?)", self.op_ids
            )
            self._memory.note_applied([op_id for op_id, _, _ in self.op_ids])
            self.op_ids = []

    def flush_index(self, connection: apsw.Connection) -> None:
        """Write the new index entries: one or two long SQLite calls."""
        put_index(connection, self.index)
        self.index = {}


def put_messages(connection: apsw.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
    """Insert rows of messages; their columns are in this order."""
    connection.executemany(
        "INSERT INTO messages(id, session_id, message_id, role, content, extra, created_at,"
        " author, author_name, platform_id, reply_to, tokens, upto)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def put_index(connection: apsw.Connection, index: Mapping[int, str]) -> None:
    """Index folded texts, by row."""
    for first, texts in _runs(index):
        connection.execute(
            "INSERT INTO message_index(rowid, text) SELECT ? + rowid - 1, value FROM carray(?)",
            (first, apsw.carray(texts)),
        )


def _runs(index: Mapping[int, str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The texts to index, as runs of consecutive rows: the first row, and the texts."""
    for _, run in itertools.groupby(
        enumerate(sorted(index.items())), key=lambda placed: placed[1][0] - placed[0]
    ):
        rows, texts = zip(*(item for _, item in run), strict=True)
        yield rows[0], texts
