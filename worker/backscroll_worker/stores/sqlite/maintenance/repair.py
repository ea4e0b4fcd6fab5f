"""Repair: rebuilds what can be rebuilt from intact rows. No message is discarded."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, Final

import apsw

from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import Progress
from backscroll_worker.stores.search.text import folded
from backscroll_worker.stores.sqlite.folding import is_folded_by_older_rules, write_folding
from backscroll_worker.stores.sqlite.fts_merge import configure
from backscroll_worker.stores.sqlite.maintenance.verify import ROWS_PER_STEP
from backscroll_worker.stores.sqlite.name_index import index_name

_REFILLED: Final = {"index": "message_index", "names": "name_index"}


def repair(
    connection: apsw.Connection, findings: Iterable[Finding], now: int, progress: Progress
) -> list[str]:
    """Repair what `findings` report, within the caller's transaction; returns a line per repair.

    If the rows themselves are damaged, nothing is changed: that could increase the damage.
    """
    found = list(findings)
    if not all(finding.repairable for finding in found):
        return []
    places = {finding.where for finding in found}
    if is_folded_by_older_rules(connection):
        places |= _REFILLED.keys()
    done = []
    if "table index" in places:
        connection.execute("REINDEX")
        done.append("rebuilt the tables' indexes")
    done += _adopt_orphans(connection, now)
    edits = len(
        connection.execute(
            "DELETE FROM edits WHERE message_id NOT IN (SELECT id FROM messages) RETURNING 1"
        ).fetchall()
    )
    if edits:
        done.append(f"removed {edits:,} earlier versions of messages that do not exist")
    done += _recount(connection)
    if "index" in places:
        done.append(_refill_message_index(connection, progress))
    if "names" in places:
        done.append(_refill_name_index(connection))
    if places >= _REFILLED.keys():
        write_folding(connection)
    return done


def _adopt_orphans(connection: apsw.Connection, now: int) -> list[str]:
    """Put messages without a session into new sessions, rather than delete them."""
    sessions: list[Any] = connection.execute(
        "SELECT session_id, min(created_at), count(*)"
        " FROM messages WHERE session_id NOT IN (SELECT id FROM sessions) GROUP BY session_id"
    ).fetchall()
    for session, created_at, count in sessions:
        connection.execute(
            "INSERT INTO sessions(id, key, state, pinned, created_at, last_activity, message_count)"
            " VALUES (?, ?, 'idle', 0, ?, ?, ?)",
            (session, _free_key(connection, f"recovered/{session}"), created_at, now, count),
        )
    messages = sum(count for *_, count in sessions)
    if not sessions:
        return []
    return [
        f"put {messages:,} messages without a session into {len(sessions):,} new ones, recovered/…"
    ]


def _free_key(connection: apsw.Connection, wanted: str) -> str:
    """That key, or the first unused one derived from it."""
    for key in itertools.chain([wanted], (f"{wanted}-{number}" for number in itertools.count(2))):
        if not connection.execute("SELECT 1 FROM sessions WHERE key = ?", (key,)).fetchone():
            break
    return key


def _recount(connection: apsw.Connection) -> list[str]:
    count = "(SELECT count(*) FROM messages m WHERE m.session_id = sessions.id)"
    counted = connection.execute(
        f"UPDATE sessions SET message_count = {count}"  # noqa: S608
        f" WHERE message_count != {count} RETURNING 1"
    ).fetchall()
    return [f"corrected the message count of {len(counted):,} sessions"] if counted else []


def _refill_message_index(connection: apsw.Connection, progress: Progress) -> str:
    _recreate(connection, "message_index")
    total: Any = connection.execute("SELECT count(*) FROM messages").get
    last: Any = -1
    done = 0
    while rows := connection.execute(
        "SELECT id, content FROM messages WHERE id > ? ORDER BY id LIMIT ?", (last, ROWS_PER_STEP)
    ).fetchall():
        connection.executemany(
            "INSERT INTO message_index(rowid, text) VALUES (?, ?)",
            [(row, folded(str(content))) for row, content in rows],
        )
        last, done = rows[-1][0], done + len(rows)
        progress(done, total)
    return f"rebuilt the search index from {done:,} messages"


def _refill_name_index(connection: apsw.Connection) -> str:
    _recreate(connection, "name_index")
    named: list[Any] = connection.execute(
        "SELECT id, name FROM sessions WHERE name IS NOT NULL"
    ).fetchall()
    for session, name in named:
        index_name(connection, session, name)
    return f"rebuilt the index of names from {len(named):,} sessions"


def _recreate(connection: apsw.Connection, index: str) -> None:
    """Drop a full-text index, even a damaged one, and create it again."""
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (index,)).get
    connection.execute(f"DROP TABLE {index}")
    connection.execute(str(sql))
    configure(connection, index)
