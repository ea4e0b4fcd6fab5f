"""Forgetting, compacting and verifying, a slice at a time so that appends need not wait long."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Final

import apsw

from producer.answers import CleanupReport, CompactReport
from worker.backends.base import Finding, Slices

SESSIONS_A_SLICE: Final = 200
MESSAGES_A_SLICE: Final = 1_000
OP_IDS_A_SLICE: Final = 5_000
PAGES_A_SLICE: Final = 500
MAX_REPORTED_KEYS: Final = 1_000

_IDLE: Final = "last_activity < ? AND pinned = 0 AND key IS NOT NULL"

Transaction = Callable[[], AbstractContextManager[apsw.Connection]]


def cleanup(
    transaction: Transaction, idle_before: int, ttl_hours: float, *, dry_run: bool
) -> Slices[CleanupReport]:
    """Take idle sessions out of sight at once, and their messages off the disk in slices."""
    started = time.monotonic()
    sessions, messages, keys = 0, 0, list[str]()
    if dry_run:
        with transaction() as connection:
            row = connection.execute(
                f"SELECT count(*), ifnull(sum(message_count), 0) FROM sessions WHERE {_IDLE}",  # noqa: S608
                (idle_before,),
            ).fetchone()
            sessions, messages = row or (0, 0)
            keys = _idle_keys(connection, idle_before)
    else:
        # A cleanup that was killed half-way left sessions without a key: theirs go first.
        yield from _purge_detached(transaction)
        while detached := _detach(transaction, idle_before):
            sessions += len(detached)
            messages += sum(count for _, count in detached)
            keys += [key for key, _ in detached][: MAX_REPORTED_KEYS - len(keys)]
            yield
            yield from _purge_detached(transaction)
    seconds = time.monotonic() - started
    return CleanupReport(sessions, messages, tuple(keys), ttl_hours, dry_run, seconds)


def compact(
    transaction: Transaction,
    connection: apsw.Connection,
    size_bytes: Callable[[], int],
    op_ids_before: int,
) -> Slices[CompactReport]:
    """Purge old op ids, merge the index, give free pages back, shrink the log."""
    started, before = time.monotonic(), size_bytes()
    yield from _purge_detached(transaction)
    purged = yield from _purge_op_ids(transaction, op_ids_before)
    yield from _merge_index(transaction)
    yield from _give_pages_back(connection)
    connection.execute("PRAGMA optimize").fetchall()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return CompactReport(before, size_bytes(), purged, 0, time.monotonic() - started)


def _give_pages_back(connection: apsw.Connection) -> Generator[None]:
    free: Any = connection.pragma("freelist_count")
    while free:
        connection.execute(f"PRAGMA incremental_vacuum({PAGES_A_SLICE})").fetchall()
        left: Any = connection.pragma("freelist_count")
        if left >= free:  # somebody has rebuilt the file without incremental auto-vacuum
            return
        free = left
        yield


def verify(connection: apsw.Connection) -> list[Finding]:
    """The database against itself, the index and the counts against the messages."""
    findings = [
        Finding("database", line, "restore the store from a backup")
        for line in _integrity_check(connection)
    ]
    checks = (
        (
            "index",
            "messages cannot be found by search",
            "SELECT count(*) FROM messages WHERE id NOT IN (SELECT id FROM message_index_docsize)",
        ),
        (
            "index",
            "entries stand for messages that are gone",
            "SELECT count(*) FROM message_index_docsize WHERE id NOT IN (SELECT id FROM messages)",
        ),
        (
            "sessions",
            "sessions have a wrong message count",
            "SELECT count(*) FROM sessions s WHERE key IS NOT NULL AND message_count !="
            " (SELECT count(*) FROM messages m WHERE m.session_id = s.id)",
        ),
        (
            "messages",
            "messages belong to no session",
            "SELECT count(*) FROM messages WHERE session_id NOT IN (SELECT id FROM sessions)",
        ),
    )
    for where, problem, sql in checks:
        try:
            count = connection.execute(sql).get
        except apsw.SQLError as error:  # FTS5's way to say that its own tables are damaged
            findings.append(Finding(where, str(error), "restore the store from a backup"))
            continue
        if count:
            findings.append(
                Finding(where, f"{count:,} {problem}", "report this, and restore from a backup")
            )
    return findings


def _integrity_check(connection: apsw.Connection) -> list[str]:
    try:
        lines = connection.execute("PRAGMA integrity_check(20)").fetchall()
    except apsw.SQLError as error:  # as above
        return [str(error)]
    return [str(line) for (line,) in lines if line != "ok"]


def _idle_keys(connection: apsw.Connection, idle_before: int) -> list[str]:
    rows = connection.execute(
        f"SELECT key FROM sessions WHERE {_IDLE} ORDER BY last_activity LIMIT ?",  # noqa: S608
        (idle_before, MAX_REPORTED_KEYS),
    )
    return [str(key) for (key,) in rows]


def _detach(transaction: Transaction, idle_before: int) -> list[tuple[str, int]]:
    """Take the keys from some idle sessions; an append to one from now on begins a new session."""
    with transaction() as connection:
        rows: list[Any] = connection.execute(
            f"SELECT id, key, message_count FROM sessions WHERE {_IDLE}"  # noqa: S608
            " ORDER BY last_activity LIMIT ?",
            (idle_before, SESSIONS_A_SLICE),
        ).fetchall()
        connection.executemany(
            "UPDATE sessions SET key = NULL WHERE id = ?", [(row,) for row, _, _ in rows]
        )
    return [(key, count) for _, key, count in rows]


def _purge_detached(transaction: Transaction) -> Generator[None]:
    while True:
        with transaction() as connection:
            rows = connection.execute(
                "DELETE FROM messages WHERE id IN (SELECT m.id FROM messages m"
                " JOIN sessions s ON s.id = m.session_id WHERE s.key IS NULL LIMIT ?)"
                " RETURNING id",
                (MESSAGES_A_SLICE,),
            ).fetchall()
            connection.executemany("DELETE FROM message_index WHERE rowid = ?", rows)
            if not rows:
                connection.execute("DELETE FROM sessions WHERE key IS NULL")
        if not rows:
            return
        yield


def _purge_op_ids(transaction: Transaction, before: int) -> Generator[None, None, int]:
    """Go through the op ids in their order, a stretch at a time, and drop the old ones."""
    purged, start = 0, b""
    while True:
        with transaction() as connection:
            end = connection.execute(
                "SELECT op_id FROM applied WHERE op_id > ? ORDER BY op_id LIMIT 1 OFFSET ?",
                (start, OP_IDS_A_SLICE),
            ).get
            bound = "" if end is None else "AND op_id <= ?"
            purged += len(
                connection.execute(
                    f"DELETE FROM applied WHERE op_id > ? {bound} AND applied_at < ?"  # noqa: S608
                    " RETURNING 1",
                    (start, before) if end is None else (start, end, before),
                ).fetchall()
            )
        if end is None:
            return purged
        start = end
        yield


def _merge_index(transaction: Transaction) -> Generator[None]:
    """FTS5's 'merge' in small steps, which is what 'optimize' does in one.

    https://www.sqlite.org/fts5.html#the_merge_command: the first step is negative, and all is
    merged when a step changes fewer than two rows.
    """
    pages = -PAGES_A_SLICE
    while True:
        with transaction() as connection:
            changes = connection.total_changes()
            connection.execute(
                "INSERT INTO message_index(message_index, rank) VALUES ('merge', ?)", (pages,)
            )
            is_merged = connection.total_changes() - changes < 2
        if is_merged:
            return
        pages = PAGES_A_SLICE
        yield
