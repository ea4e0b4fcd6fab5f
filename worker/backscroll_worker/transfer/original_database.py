"""Reads the original program's database, `sessions.db`, whichever of its versions made it.

It is opened for reading only, in one transaction, so that the original may be running; what is
still in its write-ahead log is read, too. `sessions` has the messages (session_key, role, content,
created_at), `session_metadata` a row a session, to which later versions added columns. Times are
RFC 3339 text.

A row that is not a message is skipped and reported, the rest of its session is taken over. A time
that cannot be read is reported, and the time before it is used instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import apsw

from backscroll.contract.errors import InvalidInputError
from backscroll.contract.ids import derived_op_id
from backscroll.contract.messages import ChatMessage, check_key, from_micros, to_micros
from backscroll.contract.validation import check_attributes
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.contract.takeover import ImportSession
from backscroll_worker.stores.jsonl.fields import read_time
from backscroll_worker.transfer.source import Advance, Damage, Found, Incoming, Total, check_message

# The original's columns, and what they are here.
_ATTRIBUTES: Final = {
    "name": "name",
    "agent_alias": "agent",
    "channel_id": "channel",
    "room_id": "room",
    "sender_id": "sender",
    "state": "state",
    "turn_id": "turn_id",
}
_TIMES: Final = ("created_at", "last_activity", "turn_started_at")
_READ: Final = {
    "sessions": {"id", "session_key", "role", "content", "created_at"},
    "session_metadata": {"session_key", "message_count", *_ATTRIBUTES, *_TIMES},
}
# As blobs: text that is not UTF-8 is then one bad row, and not the end of reading.
_MESSAGES: Final = (
    "SELECT id, typeof(role), CAST(role AS BLOB), typeof(content), CAST(content AS BLOB),"
    " CAST(created_at AS BLOB) FROM sessions WHERE session_key = ? ORDER BY id"
)


def read_database(name: str, path: Path) -> Iterator[Found]:
    """The sessions in the database at `path`.

    Raises `InvalidInputError` when it cannot be read, or is not the original's.
    """
    with closing(open_database(path)) as connection:
        try:
            connection.execute("BEGIN")
            yield from read_original(name, path, connection)
        except apsw.Error as error:
            raise InvalidInputError("file", f"{path}: {error}") from None


def read_original(name: str, path: Path, connection: apsw.Connection) -> Iterator[Found]:
    """The same, through a connection that is in a transaction."""
    reader = _Reader(name, path, connection)
    keys = reader.keys()
    yield from reader.columns_left()
    yield Total(sum(count for _, count in keys))
    for raw, count in keys:
        yield from reader.session(raw)
        yield Advance(count)


def open_database(path: Path) -> apsw.Connection:
    """A connection for reading; raises `InvalidInputError` where the file cannot be opened.

    SQLite must be able to write beside a database that has a log, even to read it.
    """
    url = f"file:{quote(str(path.absolute()))}"
    log = path.with_name(f"{path.name}-wal")
    try:
        try:
            return _opened(f"{url}?mode=ro")
        except (apsw.CantOpenError, apsw.ReadOnlyError) as error:
            if log.exists() and log.stat().st_size:
                raise InvalidInputError(
                    "file",
                    f"{path}: {error}; copy it together with {log.name} to a place of your own",
                ) from None
            return _opened(f"{url}?immutable=1")
    except apsw.Error as error:
        raise InvalidInputError("file", f"{path}: {error}") from None


def _opened(url: str) -> apsw.Connection:
    """A connection for reading that has seen that it can."""
    connection = apsw.Connection(url, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.set_busy_timeout(5_000)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    return connection


class _Reader:
    def __init__(self, name: str, path: Path, connection: apsw.Connection) -> None:
        self._name = name
        self._connection = connection
        self._modified = path.stat().st_mtime_ns // 1000
        self._columns = self._columns_of("session_metadata")
        if not {"session_key", "role", "content"} <= self._columns_of("sessions"):
            raise InvalidInputError("file", f"{path} is a database, but not the original program's")

    def columns_left(self) -> Iterator[Damage]:
        """The columns of a version that this program does not know."""
        for table, read in _READ.items():
            for column in sorted(self._columns_of(table) - read):
                problem = "an unknown column, which is skipped"
                yield Damage(f"{self._name}: {table}.{column}", problem, is_session=False)

    def keys(self) -> list[tuple[bytes | None, int]]:
        """The sessions' keys as blobs, and how many rows each has."""
        described = "UNION SELECT session_key FROM session_metadata" if self._columns else ""
        rows: Any = self._connection.execute(
            "SELECT CAST(k.session_key AS BLOB),"  # noqa: S608
            " (SELECT count(*) FROM sessions s WHERE s.session_key = k.session_key)"
            f" FROM (SELECT session_key FROM sessions {described}) k"
        )
        return list(dict(rows).items())

    def session(self, raw: bytes | None) -> Iterator[Found]:
        """One session and what is wrong with it."""
        try:
            key = check_key("" if raw is None else raw.decode())
        except (InvalidInputError, UnicodeDecodeError) as error:
            yield Damage(f"{self._name}: session {raw!r}", str(error))
            return
        where = f"{self._name}: session {key!r}"
        problems: list[Damage] = []
        try:
            operation = self._take_over(key, where, problems)
        except apsw.Error as error:  # a page of it is damaged
            yield Damage(where, str(error))
            return
        yield from problems
        yield Incoming(where, operation)

    def _take_over(self, key: str, where: str, problems: list[Damage]) -> ImportSession:
        values = self._metadata(key)
        times = {name: self._time(values.get(name), where, problems) for name in _TIMES}
        attributes = self._attributes(values, where, problems)
        messages = tuple(self._messages(key, times["created_at"], problems))
        sent = [to_micros(message.created_at) for message in messages if message.created_at]
        created_at = times["created_at"] or min(sent, default=self._modified)
        last_activity = times["last_activity"] or max(sent, default=created_at)
        digest = hashlib.sha256(repr((messages, attributes, times)).encode()).hexdigest()
        return ImportSession(
            derived_op_id(key, f"import {digest}"),
            now_micros(),
            key,
            messages,
            attributes,
            created_at,
            last_activity,
            times["turn_started_at"],
        )

    def _messages(
        self, key: str, began: int | None, problems: list[Damage]
    ) -> Iterator[ChatMessage]:
        latest = began or self._modified
        rows: Any = self._connection.execute(_MESSAGES, (key,))
        for row, *columns, sent in rows:
            where = f"{self._name}: row {row} of {key!r}"
            latest = self._time(sent, where, problems) or latest
            message_id = derived_op_id(key, f"sessions.db {row}")
            try:
                role, content = _text("role", *columns[:2]), _text("content", *columns[2:])
                message = ChatMessage(role, content, None, message_id, from_micros(latest))
                yield check_message(message)
            except InvalidInputError as error:
                problems.append(Damage(where, str(error), is_session=False))

    def _metadata(self, key: str) -> dict[str, Any]:
        names = [name for name in (*_ATTRIBUTES, *_TIMES) if name in self._columns]
        if not names:
            return {}
        columns = ", ".join(f"CAST({name} AS BLOB)" for name in names)
        row: Any = self._connection.execute(
            f"SELECT {columns} FROM session_metadata WHERE session_key = ?",  # noqa: S608
            (key,),
        ).fetchone()
        return dict(zip(names, row or (), strict=False))

    def _attributes(
        self, values: dict[str, bytes | None], where: str, problems: list[Damage]
    ) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        for column, name in _ATTRIBUTES.items():
            if not values.get(column):
                continue
            try:
                attributes.update(check_attributes({name: (values[column] or b"").decode()}))
            except (InvalidInputError, UnicodeDecodeError) as error:
                problems.append(Damage(where, f"{column}: {error}", is_session=False))
        return attributes

    def _time(self, raw: bytes | None, where: str, problems: list[Damage]) -> int | None:
        """Microseconds since 1970 UTC; None when the time is missing or cannot be read."""
        if raw is None:
            return None
        micros = read_time(raw.decode(errors="replace"))
        if micros is not None:
            return micros
        problem = f"{raw[:40]!r} is not a time from 1970 to 9999"
        problems.append(Damage(where, problem, is_session=False))
        return None

    def _columns_of(self, table: str) -> set[str]:
        # Of a table: a view, or a virtual table, may run or hold anything.
        rows: Any = self._connection.execute(
            "SELECT CAST(name AS BLOB) FROM pragma_table_info(?1)"
            " WHERE EXISTS (SELECT 1 FROM sqlite_schema"
            " WHERE type = 'table' AND name = ?1 AND rootpage > 0)",
            (table,),
        )
        return {name.decode(errors="replace") for (name,) in rows}


def _text(name: str, kind: str, raw: bytes | None) -> str:
    if kind != "text" or raw is None:
        raise InvalidInputError(name, f"is not text but {kind}")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(name, "is not UTF-8") from None
