"""Verification: the file's integrity, and indexes and counts against the rows. Read-only."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import apsw

from backscroll_worker.contract.findings import Finding
from backscroll_worker.contract.pacing import Progress
from backscroll_worker.stores.blobs import Blobs
from backscroll_worker.stores.search.text import tokens
from backscroll_worker.stores.sqlite.attachments import used_blobs
from backscroll_worker.stores.sqlite.folding import is_folded_by_older_rules
from backscroll_worker.stores.sqlite.scrub.pages import varint

SAMPLED_ROWS: Final = 200
ROWS_PER_STEP: Final = 500
_SAMPLED_WORDS: Final = 30
_WORDS_PER_QUERY: Final = 30
_BUCKETS: Final = 1 << 16
_ALL_BITS: Final = (1 << 64) - 1

_REPAIR: Final = "stop the worker and run 'backscroll check --repair'"
_BROKEN: Final = (
    "stop the worker and restore the store from a backup; without one, "
    "'sqlite3 FILE .recover' saves what is still readable"
)
_REINDEXED: Final = re.compile(r"(row .+ missing from|wrong # of entries in) index (\w+)")
_FULL_TEXT: Final = re.compile(r"(message|name)_index")


class _Count(NamedTuple):
    """A query that counts inconsistent rows."""

    where: str
    problem: str
    sql: str


_COUNTS: Final = (
    _Count(
        "index",
        "messages cannot be found by search",
        "SELECT count(*) FROM messages WHERE id NOT IN (SELECT id FROM message_index_docsize)",
    ),
    _Count(
        "index",
        "entries refer to messages that do not exist",
        "SELECT count(*) FROM message_index_docsize WHERE id NOT IN (SELECT id FROM messages)",
    ),
    _Count(
        "names",
        "sessions are not found by their name, or are found by a former name",
        "SELECT (SELECT count(*) FROM sessions WHERE name IS NOT NULL"
        " AND id NOT IN (SELECT id FROM name_index_docsize)) + (SELECT count(*) FROM"
        " name_index_docsize WHERE id NOT IN (SELECT id FROM sessions WHERE name IS NOT NULL))",
    ),
    _Count(
        "sessions",
        "sessions have a wrong message count",
        "SELECT count(*) FROM sessions s WHERE key IS NOT NULL AND message_count !="
        " (SELECT count(*) FROM messages m WHERE m.session_id = s.id)",
    ),
    _Count(
        "messages",
        "messages belong to no session",
        "SELECT count(*) FROM messages WHERE session_id NOT IN (SELECT id FROM sessions)",
    ),
    _Count(
        "edits",
        "earlier versions belong to no message",
        "SELECT count(*) FROM edits WHERE message_id NOT IN (SELECT id FROM messages)",
    ),
)


# A damaged record may claim any size, for which there is no memory.
_DAMAGE: Final = (apsw.SQLError, apsw.CorruptError, apsw.NoMemError)


def verify(
    connection: apsw.Connection, blobs: Blobs, *, deep: bool, progress: Progress
) -> list[Finding]:
    """All findings; checks the words of each message if `deep`, else of a sample."""
    findings = list(_integrity(connection))
    for where, problem, sql in _COUNTS:
        try:
            count = connection.execute(sql).get
        except _DAMAGE as error:
            findings.append(_of_damage(where, str(error)))
            continue
        if count:
            findings.append(Finding(where, f"{count:,} {problem}", _REPAIR, True))
    if is_folded_by_older_rules(connection):
        problem = "it was built by older rules, so words of some scripts may not be found"
        advice = f"the worker rebuilds it while it is idle, and in a compaction; or {_REPAIR}"
        findings.append(Finding("index", problem, advice, True))
    if not any(finding.where == "database" for finding in findings):
        findings += blobs.verify(used_blobs(connection), deep=deep)
    if any(finding.where in ("database", "index") for finding in findings):
        return findings
    try:
        wrong = _wrongly_indexed(connection, deep=deep, progress=progress)
    except UnicodeDecodeError:
        findings.append(Finding("messages", "a message's text is not valid UTF-8", _BROKEN))
        return findings
    except apsw.NoMemError as error:
        findings.append(Finding("messages", str(error), _BROKEN))
        return findings
    if wrong:
        problem = f"{wrong:,} messages are indexed with wrong words"
        findings.append(Finding("index", problem, _REPAIR, True))
    return findings


def _integrity(connection: apsw.Connection) -> Iterator[Finding]:
    try:
        lines: list[Any] = connection.execute("PRAGMA integrity_check(20)").fetchall()
    except _DAMAGE as error:  # FTS5 reports damage as an SQLError
        lines = [(str(error),)]
    for (line,) in lines:
        if line != "ok":
            yield _of_damage("database", str(line))


def _of_damage(where: str, message: str) -> Finding:
    """The finding for SQLite's message: a damaged index, which can be rebuilt, or damaged rows."""
    if (full_text := _FULL_TEXT.search(message)) and "page" not in message:
        return Finding("names" if full_text[1] == "name" else "index", message, _REPAIR, True)
    if _REINDEXED.match(message):
        return Finding("table index", message, _REPAIR, True)
    return Finding(where, message, _BROKEN)


def _wrongly_indexed(connection: apsw.Connection, *, deep: bool, progress: Progress) -> int:
    """How many of the checked messages are indexed with wrong words."""
    total: Any = connection.execute("SELECT count(*) FROM messages").get
    total = total if deep else min(total, SAMPLED_ROWS)
    is_suspect = _differences(connection, total, progress) if deep else None
    rows = _all_rows(connection) if deep else _sample(connection)
    wrong = 0
    for row, content in rows:
        if is_suspect is not None and not is_suspect[row % _BUCKETS]:
            continue
        words = tokens(content)
        distinct = list(dict.fromkeys(words))
        looked_for = distinct if deep else distinct[:_SAMPLED_WORDS]
        wrong += not _is_indexed(connection, row, looked_for, len(words))
    progress(total, total)
    return wrong


def _differences(connection: apsw.Connection, total: int, progress: Progress) -> array[int]:
    """Sums by row number modulo `_BUCKETS`: not 0 where the index and the messages differ.

    Both are read once, in the order in which they are on the disk, and summed up; equal words
    cancel out, in any order. Words are then looked up one by one only in the few remaining buckets,
    which include those that were written to meanwhile.
    """
    sums = array("Q", bytes(8 * _BUCKETS))
    with _vocabulary(connection) as entries:
        for word, row, place in entries:
            bucket = row % _BUCKETS
            sums[bucket] = (sums[bucket] + hash((word, row, place))) & _ALL_BITS
    for number, (row, content) in enumerate(_all_rows(connection), start=1):
        found = sum(hash((word, row, place)) for place, word in enumerate(tokens(content)))
        bucket = row % _BUCKETS
        sums[bucket] = (sums[bucket] - found) & _ALL_BITS
        if number % ROWS_PER_STEP == 0:
            progress(number, total)
    return sums


@contextmanager
def _vocabulary(connection: apsw.Connection) -> Iterator[Iterable[Any]]:
    """Every indexed word of every message: the word, the row, and its position there.

    https://www.sqlite.org/fts5.html#the_fts5vocab_virtual_table_module
    """
    was_read_only = connection.pragma("query_only")
    connection.pragma("query_only", False)  # the table is in memory; the file is not changed
    try:
        connection.execute(
            "CREATE VIRTUAL TABLE temp.verified USING fts5vocab(main, message_index, instance)"
        )
        try:
            yield connection.execute('SELECT term, doc, "offset" FROM temp.verified')
        finally:
            connection.execute("DROP TABLE temp.verified")
    finally:
        connection.pragma("query_only", was_read_only)


def _all_rows(connection: apsw.Connection) -> Iterator[tuple[int, str]]:
    last = -1
    while True:
        rows: list[Any] = connection.execute(
            "SELECT id, content FROM messages WHERE id > ? ORDER BY id LIMIT ?",
            (last, ROWS_PER_STEP),
        ).fetchall()
        if not rows:
            return
        yield from rows
        last = rows[-1][0]


def _sample(connection: apsw.Connection) -> Iterator[tuple[int, str]]:
    """Messages spread over the whole table, including the newest."""
    bounds: Any = connection.execute("SELECT ifnull(min(id), 0), max(id) FROM messages").fetchone()
    first, last = bounds
    if last is None:
        return
    step, seen = max((last - first) / (SAMPLED_ROWS - 1), 1.0), -1
    for number in range(SAMPLED_ROWS):
        row: Any = connection.execute(
            "SELECT id, content FROM messages WHERE id >= ? AND id > ? ORDER BY id LIMIT 1",
            (first + int(number * step), seen),
        ).fetchone()
        if row is None:
            return
        seen = row[0]
        yield row


def _is_indexed(connection: apsw.Connection, row: int, words: list[str], count: int) -> bool:
    """Whether the index has exactly these words for the row."""
    size: Any = connection.execute("SELECT sz FROM message_index_docsize WHERE id = ?", (row,)).get
    if not isinstance(size, bytes) or varint(size, 0)[0] != count:
        return False
    return all(
        connection.execute(
            "SELECT 1 FROM message_index WHERE message_index MATCH ? AND rowid = ?",
            (" ".join(f'"{word}"' for word in words[start : start + _WORDS_PER_QUERY]), row),
        ).get
        for start in range(0, len(words), _WORDS_PER_QUERY)
    )
