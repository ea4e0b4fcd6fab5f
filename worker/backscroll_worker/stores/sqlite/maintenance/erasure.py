"""Erasure: a subject's sessions become invisible in one step, and are deleted in slices.

`begin` is the write, in its order among the others. It removes the keys and sets tombstones.
`erase` then counts, saves the receipt and deletes, so that the receipt is complete even if it was
killed in between. At the end no index, free page or log contains erased text, as after a
compaction.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Container, Generator, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any, Final

import apsw
import orjson

from backscroll.contract.operations import Erase
from backscroll.contract.results import ErasureReceipt
from backscroll_worker.contract.pacing import Pace, Slices
from backscroll_worker.contract.tombstones import Tombstone, Tombstones, digest, erasure_receipt
from backscroll_worker.stores.sqlite import fork_table, popped
from backscroll_worker.stores.sqlite.access import Access
from backscroll_worker.stores.sqlite.emptied import ERASED_BYTES
from backscroll_worker.stores.sqlite.fts_merge import unindex
from backscroll_worker.stores.sqlite.maintenance import author_erasure
from backscroll_worker.stores.sqlite.maintenance.purge import purge_detached
from backscroll_worker.stores.sqlite.maintenance.space import (
    give_pages_back,
    merge_indexes,
    with_checkpoints,
)
from backscroll_worker.stores.sqlite.packed_ids import pack_id, unpack_id
from backscroll_worker.stores.sqlite.scrub import scrub
from backscroll_worker.stores.sqlite.waiting import forget, forget_author

PATIENCE_SECONDS: Final = 10.0
_HASHED_PER_SLICE: Final = 5_000
_UUID7: Final = 7


def load_tombstones(connection: apsw.Connection) -> Tombstones:
    """The store's tombstones."""
    rows: Iterable[Any] = connection.execute(
        "SELECT digest, erased_at, noted_at FROM erased WHERE length(digest) = ?", (ERASED_BYTES,)
    )
    return Tombstones({name: Tombstone(erased_at, noted_at) for name, erased_at, noted_at in rows})


def note(
    connection: apsw.Connection,
    tombstones: Tombstones,
    subjects: Iterable[tuple[str, str]],
    tombstone: Tombstone,
) -> None:
    """Set a tombstone for each, in memory and in the table."""
    digests = sorted(tombstones.add(*subject, tombstone) for subject in subjects)
    connection.executemany(
        "INSERT INTO erased(digest, erased_at, noted_at) VALUES (?, ?, ?) ON CONFLICT(digest)"
        " DO UPDATE SET erased_at = max(erased_at, excluded.erased_at),"
        " noted_at = max(noted_at, excluded.noted_at)",
        [(name, *tombstone) for name in digests],
    )


def begin(
    connection: apsw.Connection,
    now: int,
    latest: int,
    operation: Erase,
    tombstones: Tombstones,
) -> int:
    """Hide the subject's sessions, within the caller's transaction; returns their number.

    This includes sessions whose key was removed by a cleanup. An author's messages are hidden by
    the slices, and counted by none here. `now` is the store's time, `latest` the highest that it
    has ever been.
    """
    subject, value = operation.subject
    op_id, keys = pack_id(operation.op_id), list[str]()
    connection.execute(  # later than those before it, even if the clock went back
        "INSERT OR IGNORE INTO erasures(op_id, noted_at)"
        " SELECT ?, max(?, ifnull(max(noted_at) + 1, 0)) FROM erasures",
        (op_id, now),
    )
    if subject == "author":
        author_erasure.begin(connection, op_id, value, now)
        forget_author(connection, value)
        popped.forget_author(connection, value)
    else:
        keys = _hide_sessions(connection, op_id, subject, value)
        forget(connection, [*keys, value] if subject == "key" else keys)
    subjects = {(subject, value), *(("key", key) for key in keys)}
    # A requester's clock that is ahead of ours must not exclude later messages.
    erased_at = min(operation.at, latest)
    noted_at = tombstones.free_moment(max(erased_at, now))
    note(connection, tombstones, subjects, Tombstone(erased_at, noted_at))
    return len(keys)


def _hide_sessions(
    connection: apsw.Connection, op_id: bytes | str, subject: str, value: str
) -> list[str]:
    """Remove their keys, and return these."""
    fork_table.erase(connection, subject, value)
    found = f"FROM sessions WHERE {subject} = ?"
    keys: list[Any] = connection.execute(f"SELECT key {found}", (value,)).fetchall()
    connection.execute(
        f"INSERT OR IGNORE INTO erasing(session_id, op_id) SELECT id, ? {found}", (op_id, value)
    )
    connection.execute(f"UPDATE sessions SET key = NULL WHERE {subject} = ?", (value,))  # noqa: S608
    return [key for (key,) in keys if key is not None]


def delete_late(connection: apsw.Connection, session: int, erased_at: int) -> list[int]:
    """Delete the earlier messages of a session that turns out to be the subject's; their rows."""
    popped.forget_session(connection, session)
    rows: list[Any] = connection.execute(
        "DELETE FROM messages WHERE session_id = ? AND created_at <= ? RETURNING id",
        (session, erased_at),
    ).fetchall()
    return [row for (row,) in rows]


def erase(access: Access, operation: Erase, clock: Callable[[], int]) -> Slices[ErasureReceipt]:
    """Delete what `begin` hid, and all remains of it in the file."""
    receipt = yield from with_checkpoints(access, _count_and_delete(access, operation))
    is_empty = yield from scrub(access, PATIENCE_SECONDS)
    return replace(receipt, finished_at=clock(), log_is_held=not is_empty)


def _count_and_delete(access: Access, operation: Erase) -> Slices[ErasureReceipt]:
    op_id = pack_id(operation.op_id)
    with access.outside() as connection:
        written: Any = connection.execute(
            "SELECT receipt FROM erasures WHERE op_id = ?", (op_id,)
        ).get
    if written is None:
        receipt = yield from _write_receipt(access, operation)
    else:  # an earlier run was killed after it had counted
        receipt = ErasureReceipt(**orjson.loads(written))
    yield from _delete(access, operation)
    return receipt


def _write_receipt(access: Access, operation: Erase) -> Slices[ErasureReceipt]:
    op_id = pack_id(operation.op_id)
    with access.repeatable() as connection:
        _take_over(connection, op_id)
        sessions: list[Any] = connection.execute(
            "SELECT session_id FROM erasing WHERE op_id = ?", (op_id,)
        ).fetchall()
        erased_at = _erased_at(connection, operation)
    yield from author_erasure.move_messages(access, [session for (session,) in sessions])
    with access.outside() as connection:
        of_authors = author_erasure.sessions(connection)
    runs: list[list[str]] = []
    op_ids, pace, session, after = 0, Pace(500, most=5_000), 0, 0
    while session < len(sessions):
        with pace.slice() as most, access.outside() as connection:
            count = most
            while count > 0 and session < len(sessions):
                rows: list[Any] = connection.execute(
                    "SELECT id, message_id, session_id FROM messages"
                    " INDEXED BY messagerow_session_id"
                    " WHERE session_id = ? AND id > ?"
                    " ORDER BY id LIMIT ?",
                    (*sessions[session], after, count),
                ).fetchall()
                op_ids += len(_known(connection, rows, erased_at, of_authors))
                runs.append(sorted(unpack_id(message_id) for _, message_id, _ in rows))
                session, after = (session, rows[-1][0]) if len(rows) == count else (session + 1, 0)
                count -= len(rows) + 1
        yield
    messages_sha256 = yield from _hashed(runs)
    receipt = erasure_receipt(
        operation,
        sessions=sum(of_authors.get(session, 1) for (session,) in sessions),
        messages=sum(map(len, runs)),
        messages_sha256=messages_sha256,
        op_ids=op_ids,
    )
    with access.repeatable() as connection:
        connection.execute(
            "UPDATE erasures SET receipt = ? WHERE op_id = ?", (orjson.dumps(receipt), op_id)
        )
    return receipt


def _take_over(connection: apsw.Connection, op_id: bytes | str) -> None:
    """Take over what an earlier erasure left: erasures end in order, or never."""
    connection.execute(
        "UPDATE erasing SET op_id = ?1 WHERE op_id NOT IN (SELECT op_id FROM erasures"
        " WHERE noted_at >= (SELECT noted_at FROM erasures WHERE op_id = ?1))"
        " AND EXISTS (SELECT 1 FROM erasures WHERE op_id = ?1)",  # it may be forgotten by now
        (op_id,),
    )


def _erased_at(connection: apsw.Connection, operation: Erase) -> int:
    """The time up to which its tombstones exclude operations; not after the store's own time.

    The subject's tombstone may be that of a later erasure; those of the sessions' keys are not.
    """
    name = digest(*operation.subject)
    found: Any = connection.execute("SELECT erased_at FROM erased WHERE digest = ?", (name,)).get
    return 0 if found is None else min(operation.at, int(found))


def _known(
    connection: apsw.Connection, rows: Iterable[Any], erased_at: int, of_authors: Container[int]
) -> list[Any]:
    """The recorded op ids that are deleted with the messages.

    Op ids made from a dedup key (hashes) are kept until they expire: a platform may deliver a
    message again, and only they show that it is not new. Resends of others are excluded by a
    tombstone. Op ids of other programs are text and may contain the subject's name.

    An append may have brought messages of several authors, who need its op id: of an author's
    messages only those texts are deleted, where it brought no other message.
    """
    latest = (erased_at // 1000).to_bytes(6, "big") + b"\xff"
    fresh = [
        (id_,)
        for _, id_, session in rows
        if session not in of_authors
        and (isinstance(id_, str) or (id_ < latest and id_[6] >> 4 == _UUID7))
    ]
    texts = [(id_,) for _, id_, of in rows if of in of_authors and isinstance(id_, str)]
    sql = "SELECT op_id FROM applied WHERE op_id = ?"
    return [
        *connection.executemany(sql, fresh),
        *connection.executemany(f"{sql} AND affected = 1", texts),
    ]


def _hashed(runs: Iterable[list[str]]) -> Generator[None, None, str]:
    """The SHA-256 of all ids, sorted, one per line; each run is already sorted."""
    ids, sha256, separator = heapq.merge(*runs), hashlib.sha256(), ""
    while some := list(islice(ids, _HASHED_PER_SLICE)):
        sha256.update((separator + "\n".join(some)).encode())
        separator = "\n"
        yield
    return sha256.hexdigest()


def _delete(access: Access, operation: Erase) -> Generator[None]:
    op_id = pack_id(operation.op_id)
    with access.outside() as connection:
        erased_at = _erased_at(connection, operation)
        of_authors = author_erasure.sessions(connection)
    yield from _delete_messages(access, op_id, erased_at, of_authors)
    yield from _delete_sessions(access, op_id)
    yield from purge_detached(access.repeatable)
    yield from merge_indexes(access.repeatable)
    yield from give_pages_back(access.repeatable)
    with access.repeatable() as connection:
        if connection.table_exists("main", "sqlite_stat4"):  # samples of what is in the indexes
            connection.execute("DELETE FROM sqlite_stat4")


def _delete_messages(
    access: Access, op_id: Any, erased_at: int, of_authors: Container[int]
) -> Generator[None]:
    pace = Pace(50, most=2_000)
    rows: list[Any] = [()]
    while rows:
        with pace.slice() as count, access.repeatable() as connection:
            rows = connection.execute(
                "DELETE FROM messages WHERE id IN (SELECT m.id FROM erasing e"
                " CROSS JOIN messages m ON m.session_id = e.session_id WHERE e.op_id = ? LIMIT ?)"
                " RETURNING id, message_id, session_id",
                (op_id, count),
            ).fetchall()
            unindex(connection, "message_index", [(row,) for row, *_ in rows])
            known = _known(connection, rows, erased_at, of_authors)
            connection.executemany("DELETE FROM applied WHERE op_id = ?", known)
        yield


def _delete_sessions(access: Access, op_id: Any) -> Generator[None]:
    pace = Pace(25, most=500)
    rows: list[Any] = [()]
    while rows:
        with pace.slice() as count, access.repeatable() as connection:
            rows = connection.execute(
                "DELETE FROM erasing WHERE session_id IN"
                " (SELECT session_id FROM erasing WHERE op_id = ? LIMIT ?) RETURNING session_id",
                (op_id, count),
            ).fetchall()
            unindex(connection, "name_index", rows)
            connection.executemany("DELETE FROM erasing_authors WHERE session_id = ?", rows)
            connection.executemany("DELETE FROM sessions WHERE id = ?", rows)
        yield
