"""Edits and deletions that arrived before their message, in a table; see `contract.waiting`.

They belong to a key: there may be no such session yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from operator import itemgetter
from typing import Any

import apsw
import orjson

from backscroll.contract.messages import ChatMessage
from backscroll_worker.contract.waiting import (
    MOST_PER_SESSION,
    Change,
    change_of,
    message_of,
)
from backscroll_worker.stores.sqlite.key_prefix import begins_with


class WaitingChanges:
    """Those in the table, for one group of operations."""

    def __init__(self, connection: apsw.Connection, now: int) -> None:
        self._connection = connection
        self._now = now

    @cached_property
    def has_some(self) -> bool:
        """Whether any change waits, in any session."""
        return self._connection.execute("SELECT 1 FROM waiting_changes LIMIT 1").get is not None

    def has_for(self, key: str) -> bool:
        """Whether any change waits for a message of this session."""
        wanted = "SELECT 1 FROM waiting_changes WHERE key = ? LIMIT 1"
        return self.has_some and self._connection.execute(wanted, (key,)).get is not None

    def hold(self, change: Change) -> None:
        """Have a change wait for its message."""
        message = message_of(change)
        encoded = None if message is None else orjson.dumps(message).decode()
        author = None if message is None else message.get("author")
        self._connection.execute(  # of a group's changes the first is the oldest, too
            "INSERT INTO waiting_changes(key, platform_id, noted_at, message, author)"
            " SELECT ?1, ?2, max(?3, ifnull(max(noted_at) + 1, 0)), ?4, ?5 FROM waiting_changes"
            " WHERE key = ?1 ON CONFLICT(key, platform_id) DO UPDATE SET"
            " noted_at = excluded.noted_at, message = excluded.message, author = excluded.author"
            " WHERE message IS NOT NULL",
            (change.key, change.platform_id, self._now, encoded, author),
        )
        self._connection.execute(
            "DELETE FROM waiting_changes WHERE key = ?1 AND platform_id IN (SELECT platform_id"
            " FROM waiting_changes WHERE key = ?1 ORDER BY noted_at DESC"
            " LIMIT -1 OFFSET ?2)",
            (change.key, MOST_PER_SESSION),
        )
        self.has_some = True

    def take(self, key: str, messages: Iterable[ChatMessage]) -> list[Change]:
        """Take out what waits for these messages of a session."""
        ids = dict.fromkeys(each.platform_id for each in messages if each.platform_id)
        found: Iterable[Any] = self._connection.executemany(
            "DELETE FROM waiting_changes WHERE key = ? AND platform_id = ?"
            " RETURNING platform_id, message",
            [(key, id_) for id_ in ids],
        ).fetchall()
        return [
            change_of(key, id_, None if message is None else orjson.loads(message))
            for id_, message in found
        ]

    def moved(self, key: str, new_key: str) -> list[Change]:
        """Take out what waits for messages of both, under the new key and the oldest first."""
        found: list[Any] = self._connection.execute(
            "DELETE FROM waiting_changes WHERE key IN (?, ?)"
            " RETURNING noted_at, key = ?, platform_id, message",
            (key, new_key, new_key),
        ).fetchall()
        return [
            change_of(new_key, id_, None if message is None else orjson.loads(message))
            for noted_at, _, id_, message in sorted(found, key=itemgetter(0, 1))
        ]


def forget(connection: apsw.Connection, keys: Iterable[str]) -> None:
    """Delete what waits for messages of these sessions."""
    connection.executemany("DELETE FROM waiting_changes WHERE key = ?", [(key,) for key in keys])


def forget_prefix(connection: apsw.Connection, prefix: str) -> None:
    """Delete what waits for messages of sessions whose key begins so."""
    condition, values = begins_with(prefix)
    connection.execute(f"DELETE FROM waiting_changes WHERE {condition}", values)  # noqa: S608


def forget_author(connection: apsw.Connection, author: str) -> None:
    """Delete the edits that wait and are the author's, or may be."""
    connection.execute(
        "DELETE FROM waiting_changes WHERE message IS NOT NULL AND ifnull(author, ?1) = ?1",
        (author,),
    )
