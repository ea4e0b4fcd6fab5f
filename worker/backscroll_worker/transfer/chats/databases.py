"""SQLite databases of other libraries: the sessions of the OpenAI Agents SDK, LangChain's history.

    agent_messages(id, session_id, message_data, created_at)    SQLiteSession of openai-agents
    message_store(id, session_id, message)                      SQLChatMessageHistory of LangChain

Both keep a message as JSON, and it is taken over as the integration for that library would store
it: a program that changes to that one goes on where it was. They are read in one transaction, so
that the program may be running.

The SDK's AdvancedSQLiteSession has the messages of each branch in a table `message_structure`
besides. Each branch but "main" becomes a session of its own, with the key `<key>~<branch>`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.channels.values import identifier, mapping
from backscroll.contract.errors import InvalidInputError
from backscroll.contract.message_checks import MAX_OPERATION_BYTES
from backscroll.contract.messages import ChatMessage
from backscroll.integrations import langchain_messages, openai_items
from backscroll_worker.transfer.chats.conversation import (
    NOT_UNICODE,
    Conversation,
    Options,
    moment,
    text,
    value_in,
)
from backscroll_worker.transfer.original_database import open_database, read_original
from backscroll_worker.transfer.source import Advance, Found, Total

_TABLES: Final = {
    "agent_messages": ("id", "session_id", "message_data", "created_at"),
    "message_store": ("id", "session_id", "message"),
}
_STRUCTURE: Final = {"session_id", "message_id", "branch_id", "sequence_number"}
_BRANCHES: Final = """(
    SELECT sequence_number AS id, message_data, m.created_at,
    m.session_id || CASE branch_id WHEN 'main' THEN '' ELSE '~' || branch_id END AS session_id
    FROM message_structure s JOIN agent_messages m ON m.id = message_id
    UNION ALL SELECT id, message_data, created_at, session_id FROM agent_messages m
    WHERE NOT EXISTS (SELECT 1 FROM message_structure s WHERE s.session_id = m.session_id)
)"""


def read(name: str, path: Path, options: Options) -> Iterator[Found]:
    """The sessions in a database of one of these, or of the original program.

    Raises `InvalidInputError` when it cannot be read, or is nobody's.
    """
    with closing(open_database(path)) as connection:
        try:
            connection.execute("BEGIN")
            named = [table for table in _TABLES if _columns(connection, table)]
            if not named:
                yield from read_original(name, path, connection)
                return
            table, columns = named[0], _TABLES[named[0]]
            if missing := [each for each in columns if each not in _columns(connection, table)]:
                lacking = " and no column ".join(missing)
                raise InvalidInputError(
                    "file", f"{path} has a table {table}, but it has no column {lacking}"
                )
            has_branches = (
                table == "agent_messages"
                and _columns(connection, "message_structure") >= _STRUCTURE
            )
            source = _BRANCHES if has_branches else table
            yield Total(int(connection.execute(f"SELECT count(*) FROM {source}").get))  # noqa: S608
            for made in _conversations(connection, source, columns, options):
                yield from made.found(f"{name}: {made.key}", options)
                yield Advance(len(made.messages))
        except apsw.Error as error:
            raise InvalidInputError("file", f"{path}: {error}") from None


def _columns(connection: apsw.Connection, table: str) -> set[str]:
    """The columns of a table; none of a view or virtual table, which may run or hold anything."""
    rows: Any = connection.execute(
        "SELECT CAST(name AS BLOB) FROM pragma_table_info(?1)"
        " WHERE EXISTS (SELECT 1 FROM sqlite_schema"
        " WHERE type = 'table' AND name = ?1 AND rootpage > 0)",
        (table,),
    )
    return {name.decode(errors="replace") for (name,) in rows}


def _conversations(
    connection: apsw.Connection, source: str, columns: tuple[str, ...], options: Options
) -> Iterator[Conversation]:
    _, session, said, *at = columns
    # As blobs: text that is not UTF-8 is then one bad row, and not the end of reading.
    # One pass in the order of the sessions: LangChain's table has no index of them.
    rows: Any = connection.execute(
        f"SELECT CAST({session} AS BLOB), length(CAST({said} AS BLOB)),"  # noqa: S608
        f" CASE WHEN length(CAST({said} AS BLOB)) <= {MAX_OPERATION_BYTES}"
        f" THEN CAST({said} AS BLOB) END{''.join(f', CAST({each} AS BLOB)' for each in at)}"
        f" FROM {source} ORDER BY {session}, id"
    )
    for key, its_rows in groupby(rows, itemgetter(0)):
        made = Conversation("")
        if key is not None:
            made.key = f"{options.key_prefix or ''}{key.decode(errors='backslashreplace')}"
        for _, size, raw, *sent in its_rows:
            found = None if raw is None else value_in(raw)
            fields = None if found is None else found.fields
            made.not_kept[NOT_UNICODE] += found is not None and found.is_altered
            when = moment(sent[0].decode(errors="replace")) if sent and sent[0] else None
            if size is not None and raw is None:
                made.not_kept["rows that are too large"] += 1
            elif not fields:
                made.not_kept["rows that are not JSON"] += 1
            elif source == "message_store":
                _add(made, _of_langchain(fields), when)
            else:
                _add(made, openai_items.message_of(fields), when)
        yield made


def _of_langchain(fields: Mapping[str, Any]) -> ChatMessage:
    data = mapping(fields.get("data"))
    raw = {"type": text(fields.get("type")) or "human", "data": data}
    return langchain_messages.message_of(raw, platform_id=identifier(data.get("id")))


def _add(made: Conversation, message: ChatMessage, when: datetime | None) -> None:
    """Add the message as the integration for that library keeps it, so that it reads it, too."""
    made.add(
        message.role,
        message.content,
        when,
        platform_id=message.platform_id,
        extra=dict(message.extra or {}),
    )
