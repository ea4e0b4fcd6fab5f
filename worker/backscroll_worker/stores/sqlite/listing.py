"""Listing sessions: a page of those that pass a filter, newest activity first.

The way to find a page is chosen here, not by SQLite's planner, whose statistics may be missing or
old. An index on an attribute and the last activity would be simpler, but every append changes the
last activity, and would have to write to each such index. So:

1. A filter that few sessions pass: they are found by its own index and sorted.
2. Otherwise a page is searched for among the `FEW` sessions that were active last.
3. If it is not found there (a channel that is no longer used): as 1, with more to sort.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import apsw

from backscroll.contract.errors import OperationRefusedError
from backscroll.contract.messages import (
    SessionFilter,
    SessionInfo,
    SessionPage,
    from_micros,
    to_micros,
)
from backscroll.contract.reads import ListSessions
from backscroll.contract.validation import TEXT_ATTRIBUTES
from backscroll_worker.stores.search.query import name_query
from backscroll_worker.stores.sqlite import session_meta
from backscroll_worker.stores.sqlite.folding import query_of_index
from backscroll_worker.stores.sqlite.key_prefix import BY_KEY, begins_with

FEW: Final = 1_000
"""The number of sessions that are scanned or sorted in about a millisecond."""

_COLUMNS: Final = (
    "id, key, created_at, last_activity, message_count, name, agent, channel, room, sender, state,"
    " turn_id, turn_started_at, pinned, turn_expires_at, meta, closed, "
    "forked_from, forked_upto, continued_from, ttl_hours"
)
_NEWEST_FIRST: Final = "ORDER BY last_activity DESC, id DESC LIMIT ?"
_BY_ACTIVITY: Final = "sessions INDEXED BY sessionrow_last_activity"
_NAMED: Final = "SELECT rowid AS named FROM name_index WHERE name_index MATCH ?"
_SPOKEN_IN: Final = (
    "SELECT DISTINCT session_id FROM messages INDEXED BY messagerow_author_session_id"
    " WHERE author = ?"
)
_CURSOR: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class _Condition(NamedTuple):
    """A condition on a session: a term of a WHERE clause, and its values."""

    sql: str
    values: tuple[Any, ...] = ()


class _Lead(NamedTuple):
    """An index by which the sessions that meet a condition are found.

    `rows` selects them from the index alone, and `source` is a FROM clause with them; where
    `replaces` is set, the source includes the condition and its values.
    """

    condition: _Condition
    rows: str
    source: str
    replaces: bool = False


def get_session(connection: apsw.Connection, key: str) -> SessionInfo | None:
    """The session's row as `SessionInfo`; None if it does not exist."""
    sql = f"SELECT {_COLUMNS} FROM sessions WHERE key = ?"  # noqa: S608
    rows: list[Any] = connection.execute(sql, (key,)).fetchall()
    return _info(*rows[0][1:]) if rows else None


def list_sessions(connection: apsw.Connection, now: int, operation: ListSessions) -> SessionPage:
    """The page that `operation` asks for; raises `OperationRefusedError` for a wrong cursor."""
    active, where = _active(operation), operation.where
    words = None
    if where.name is not None:
        words = query_of_index(connection, name_query(where.name)).fts5
    leads = list(_leads(where, words))
    conditions = [*_other_conditions(where, words, now), *(lead.condition for lead in leads)]
    rows = _find(connection, active, leads, conditions, operation.limit + 1)
    page = rows[: operation.limit]
    cursor = f"{page[-1][3]}-{page[-1][0]}" if len(rows) > operation.limit else None
    return SessionPage(tuple(_info(*row[1:]) for row in page), cursor)


def _find(
    connection: apsw.Connection,
    active: _Condition,
    leads: list[_Lead],
    conditions: list[_Condition],
    limit: int,
) -> list[Any]:
    conditions = [active, *conditions]
    if not leads:
        return _select(connection, _BY_ACTIVITY, conditions, limit)
    by_activity = _Lead(active, f"SELECT 1 FROM {_BY_ACTIVITY} WHERE {active.sql}", _BY_ACTIVITY)  # noqa: S608
    counts = [(_count(connection, lead), lead) for lead in (by_activity, *leads)]
    count, lead = min(counts, key=lambda counted: counted[0])
    if count == FEW:
        newest = f"SELECT * FROM {_BY_ACTIVITY} WHERE {active.sql} {_NEWEST_FIRST}"  # noqa: S608
        rows = _select(connection, f"({newest})", conditions, limit, (*active.values, FEW + limit))
        if len(rows) == limit:
            return rows
        lead = leads[0]
    if lead.replaces:
        conditions = [condition for condition in conditions if condition is not lead.condition]
        return _select(connection, lead.source, conditions, limit, lead.condition.values)
    return _select(connection, lead.source, conditions, limit)


def _count(connection: apsw.Connection, lead: _Lead) -> int:
    """The number of sessions that the index finds, at most `FEW`."""
    sql = f"SELECT count(*) FROM ({lead.rows} LIMIT {FEW})"  # noqa: S608
    count: Any = connection.execute(sql, lead.condition.values).get
    return int(count)


def _select(
    connection: apsw.Connection,
    source: str,
    conditions: list[_Condition],
    limit: int,
    source_values: tuple[Any, ...] = (),
) -> list[Any]:
    where = " AND ".join(["key IS NOT NULL", *(condition.sql for condition in conditions)])
    values = [value for condition in conditions for value in condition.values]
    sql = f"SELECT {_COLUMNS} FROM {source} WHERE {where} {_NEWEST_FIRST}"  # noqa: S608
    return connection.execute(sql, (*source_values, *values, limit)).fetchall()


def _active(operation: ListSessions) -> _Condition:
    """The condition on the last activity, which is never below zero."""
    where, parts, values = operation.where, ["last_activity >= ?"], list[int]()
    values.append(0 if where.active_since is None else to_micros(where.active_since))
    if where.active_until is not None:
        parts.append("last_activity < ?")
        values.append(to_micros(where.active_until))
    if operation.cursor is not None:
        parts.append("(last_activity, id) < (?, ?)")
        values += _parse_cursor(operation.cursor)
    return _Condition(" AND ".join(parts), tuple(values))


def _leads(where: SessionFilter, words: str | None) -> Iterator[_Lead]:
    """The conditions with an index; usually more selective ones come first. `words` of the name are
    in FTS5's syntax.
    """
    if words is not None:
        condition = _Condition(f"id IN ({_NAMED})", (words,))
        source = f"({_NAMED}) CROSS JOIN sessions ON id = named"  # in this order
        yield _Lead(condition, _NAMED, source, replaces=True)
    if where.pinned:
        yield _by_index("pinned", "pinned = 1")
    asks_turns = where.stuck_seconds is not None or where.expired
    states = {where.state, "running" if asks_turns else None}
    for state in states - {None, "idle"}:
        yield _by_index("state", "state <> 'idle' AND state = ?", state)  # as the index has it
    if where.author is not None:
        condition = _Condition(f"id IN ({_SPOKEN_IN})", (where.author,))
        source = f"({_SPOKEN_IN}) CROSS JOIN sessions ON id = session_id"
        yield _Lead(condition, _SPOKEN_IN, source, replaces=True)
    for name, value in (where.meta or {}).items():
        found, *values = session_meta.sessions_with(name, value)
        source = f"({found}) CROSS JOIN sessions ON id = session_id"
        yield _Lead(_Condition(f"id IN ({found})", tuple(values)), found, source, replaces=True)
    for name in ("forked_from", "sender", "room", "agent", "channel"):
        value = getattr(where, name)
        if value is not None:
            yield _by_index(name, f"{name} = ?", value)
    if where.prefix is not None:
        sql, keys = begins_with(where.prefix)
        yield _Lead(_Condition(sql, keys), f"SELECT 1 FROM {BY_KEY} WHERE {sql}", BY_KEY)  # noqa: S608


def _by_index(column: str, sql: str, *values: Any) -> _Lead:
    source = f"sessions INDEXED BY sessionrow_{column}"
    return _Lead(_Condition(sql, values), f"SELECT 1 FROM {source} WHERE {sql}", source)  # noqa: S608


def _other_conditions(where: SessionFilter, words: str | None, now: int) -> Iterator[_Condition]:
    if where.name is not None and words is None:
        yield _Condition("0")  # an empty search finds nothing
    if where.pinned is False:
        yield _Condition("pinned = 0")
    if where.state == "idle":
        yield _Condition("state = 'idle'")
    if where.stuck_seconds is not None:
        yield _Condition("turn_started_at < ?", (now - int(where.stuck_seconds * 1e6),))
    if where.expired is not None:
        sql = "ifnull(turn_expires_at < ?, 0)"
        yield _Condition(sql if where.expired else f"NOT {sql}", (now,))


def _parse_cursor(cursor: str) -> tuple[int, int]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise OperationRefusedError(f"cursor: {cursor[:40]!r} is not a valid cursor of a listing")
    return int(match[1]), int(match[2])


def _info(
    key: str, created_at: int, last_activity: int, message_count: int, *attributes: Any
) -> SessionInfo:
    described = attributes[: len(TEXT_ATTRIBUTES) + 1]  # and the state
    turn_started_at, pinned, turn_expires_at, meta, closed, *others = attributes[len(described) :]
    values: list[Any] = [
        key,
        from_micros(created_at),
        from_micros(last_activity),
        message_count,
        *described,
        None if turn_started_at is None else from_micros(turn_started_at),
        bool(pinned),
        None if turn_expires_at is None else from_micros(turn_expires_at),
        session_meta.loads(meta),
        bool(closed),
        *others,
    ]
    return SessionInfo(*values)
