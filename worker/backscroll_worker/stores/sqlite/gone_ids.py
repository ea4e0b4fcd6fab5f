"""The platform ids of messages that are gone, by hash: the session is not to store them again.

They go with their session, and compaction deletes what is old.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from backscroll_worker.contract.platform_ids import platform_digest


def note_gone(
    connection: apsw.Connection, session: int, platform_ids: Iterable[str | None], now: int
) -> None:
    """Note that messages are gone which the session is not to store again."""
    connection.executemany(
        "INSERT OR REPLACE INTO gone_platform_ids(session_id, digest, noted_at) VALUES (?, ?, ?)",
        [(session, platform_digest(id_), now) for id_ in platform_ids if id_ is not None],
    )


def note_all_gone(connection: apsw.Connection, session: int, successor: int, now: int) -> None:
    """The same for all messages of a session whose place `successor` takes."""
    connection.execute(
        "UPDATE gone_platform_ids SET session_id = ? WHERE session_id = ?", (successor, session)
    )
    note_gone(connection, successor, _ids_after(connection, session, 0), now)


def note_also_gone(connection: apsw.Connection, session: int, other: int, now: int) -> None:
    """The same for another session, and all messages that this one has or had."""
    connection.execute(
        "INSERT INTO gone_platform_ids(session_id, digest, noted_at)"
        " SELECT ?, digest, noted_at FROM gone_platform_ids WHERE session_id = ?",
        (other, session),
    )
    note_gone(connection, other, _ids_after(connection, session, 0), now)


def note_later_gone(connection: apsw.Connection, session: int, row: int, now: int) -> None:
    """The same for a session's messages after that in `row`."""
    note_gone(connection, session, _ids_after(connection, session, row), now)


def bring_back(connection: apsw.Connection, session: int, platform_ids: Iterable[str]) -> None:
    """The opposite: such messages may be stored again."""
    connection.executemany(
        "DELETE FROM gone_platform_ids WHERE session_id = ? AND digest = ?",
        [(session, platform_digest(id_)) for id_ in platform_ids],
    )


def _ids_after(connection: apsw.Connection, session: int, row: int) -> list[str]:
    found: Iterable[Any] = connection.execute(
        "SELECT platform_id FROM messages INDEXED BY messagerow_session_id"
        " WHERE session_id = ? AND id > ? AND platform_id IS NOT NULL",
        (session, row),
    )
    return [id_ for (id_,) in found]
