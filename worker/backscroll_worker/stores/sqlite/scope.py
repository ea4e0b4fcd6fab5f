"""The scope of a search: its filter as SQL conditions on a message `m` and its session `s`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

import apsw
import orjson

from backscroll.contract.filters import SearchFilter
from backscroll.contract.messages import to_micros
from backscroll_worker.stores.sqlite.bound import OUTSIDE, WITHIN, Bound, ExceededError

FEW_SESSIONS: Final = 10_000
FEW_MESSAGES: Final = 50_000

# CROSS JOIN fixes the order: FTS5 comes first, and each of its rows is looked up. Without it, rows
# are read in their own order: an index's would be sorted, after a `Bound` has counted them.
_MESSAGES: Final = "messages m NOT INDEXED CROSS JOIN sessions s ON s.id = m.session_id"
_INDEX: Final = f"message_index CROSS JOIN {_MESSAGES} AND m.id = message_index.rowid"
_IDS: Final = "SELECT id FROM messages INDEXED BY messagerow_session_id WHERE session_id IN"

_OF_AUTHOR: Final = (
    "SELECT id FROM messages INDEXED BY messagerow_author_session_id WHERE author = ?"
)

Condition = tuple[str, Any]
"""SQL with one value in it."""


class Scope(NamedTuple):
    """The conditions on a message and its session.

    `among`, if these are few, is a statement for the ids of all messages of the matching sessions:
    comparing FTS5's rows with them is ten times as fast as looking each up in the tables.
    `is_in_index` says that no lookup is needed, for that reason or because all sessions match.
    """

    sql: str
    values: tuple[Any, ...]
    is_in_index: bool
    among: str | None = None
    among_values: tuple[Any, ...] = ()

    @classmethod
    def of(cls, connection: apsw.Connection, where: SearchFilter) -> Scope:
        """The messages that pass the filter."""
        sessions, messages = _session_conditions(where), _message_conditions(where)
        sql, values = _joined([*sessions, *messages])
        if not sessions:
            return cls(sql, values, not messages)
        found, found_values = _joined(sessions)
        found = f"FROM sessions s WHERE {found}"
        if not _are_few(connection, found, found_values):
            return cls(sql, values, False)
        return cls(sql, values, not messages, f"{_IDS} (SELECT s.id {found})", found_values)

    @classmethod
    def of_rows(cls, connection: apsw.Connection, where: SearchFilter) -> Scope:
        """The same for a read without FTS5: an author's messages are found by their index if they
        are few.
        """
        scope = cls.of(connection, where)
        if scope.among is not None or where.author is None:
            return scope
        count: Any = connection.execute(
            f"SELECT count(*) FROM ({_OF_AUTHOR} LIMIT {FEW_MESSAGES})",  # noqa: S608
            (where.author,),
        ).get
        if count == FEW_MESSAGES:
            return scope
        return scope._replace(among=_OF_AUTHOR, among_values=(where.author,))

    def of_sessions(self, sessions: Iterable[int]) -> Scope:
        """The part of it in these sessions, by their row ids."""
        numbers = orjson.dumps(list(sessions)).decode()
        among = f"{_IDS} (SELECT value FROM json_each(?))"  # noqa: S608
        return self._replace(among=among, among_values=(numbers,))

    def without_sessions(self, sessions: set[int]) -> Scope:
        """The part of it outside of these sessions, by their row ids; the set may grow."""
        sql = f"{self.sql} AND {OUTSIDE.format('m.session_id')}"
        return self._replace(sql=sql, values=(*self.values, apsw.pyobject(sessions)))

    def select(
        self,
        connection: apsw.Connection,
        columns: str,
        match: str | None,
        rows: tuple[int, int],
        end: str,
        *,
        index_only: bool = False,
        bound: Bound | None = None,
    ) -> Iterator[Any]:
        """`columns` of messages in a range of rows that match `match`, or of all if it is None.

        `end` is the end of the statement; {row} in it and in `columns` is the message's row.
        `index_only`: the tables are not read, unless the filter needs it; some messages may then
        belong to sessions that are being deleted. `bound` counts the rows and ends the statement;
        with `among` they are few.
        """
        tables, row = (_MESSAGES, "m.id") if match is None else (_INDEX, "message_index.rowid")
        before, conditions = "", [f"{row} BETWEEN ? AND ?"]
        values: list[Any] = [*rows]
        if self.among is not None:
            before = f"WITH among(id) AS MATERIALIZED ({self.among})"
            first, last = "(SELECT min(id) FROM among)", "(SELECT max(id) FROM among)"
            conditions = [f"{row} BETWEEN max(?, {first}) AND min(?, {last})"]
            # The plus keeps SQLite from querying FTS5 for each id separately.
            conditions.append(f"{'' if match is None else '+'}{row} IN among")
        elif bound is not None:
            conditions.append(WITHIN.format(row))
            values.append(apsw.pyobject(bound))
        if match is not None:
            conditions.insert(0, "message_index MATCH ?")
            values.insert(0, match)
        if index_only and match is not None and self.is_in_index:
            tables = "message_index"
        else:
            conditions.append(self.sql)
            values += self.values
        sql = f"{before} SELECT {columns} FROM {tables} WHERE {' AND '.join(conditions)} {end}"  # noqa: S608
        with suppress(ExceededError):
            yield from connection.execute(sql.format(row=row), (*self.among_values, *values))


def _session_conditions(where: SearchFilter) -> list[Condition]:
    return [
        (f"s.{name} = ?", value)
        for name in ("key", "channel", "sender", "room", "agent")
        if (value := getattr(where, name)) is not None
    ]


def _message_conditions(where: SearchFilter) -> list[Condition]:
    conditions: list[Condition] = [
        (f"m.{name} = ?", value)
        for name in ("role", "author")
        if (value := getattr(where, name)) is not None
    ]
    if where.since is not None:
        conditions.append(("m.created_at >= ?", to_micros(where.since)))
    if where.until is not None:
        conditions.append(("m.created_at < ?", to_micros(where.until)))
    return conditions


def _joined(conditions: list[Condition]) -> tuple[str, tuple[Any, ...]]:
    """All conditions combined, for sessions that are not being deleted."""
    sql = " AND ".join(["s.key IS NOT NULL", *(sql for sql, _ in conditions)])
    return sql, tuple(value for _, value in conditions)


def _are_few(connection: apsw.Connection, sessions: str, values: tuple[Any, ...]) -> bool:
    """Whether listing the messages of these sessions is cheap."""
    ((count, messages),) = connection.execute(
        "SELECT count(*), total(message_count) FROM"  # noqa: S608
        f" (SELECT s.message_count {sessions} LIMIT {FEW_SESSIONS})",
        values,
    )
    return bool(count < FEW_SESSIONS and messages < FEW_MESSAGES)
