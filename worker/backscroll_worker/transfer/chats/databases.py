"""SQLite databases of other libraries: the sessions of the OpenAI Agents SDK, LangChain's history.

    agent_messages(id, session_id, message_data, created_at)    SQLiteSession of openai-agents
    message_store(id, session_id, message)                      SQLChatMessageHistory of LangChain

Both keep a message as JSON. They are read in one transaction, so that the program may be running.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import apsw

from backscroll.contract.errors import InvalidInputError
from backscroll_worker.stores.jsonl.fields import text_of
from backscroll_worker.transfer.chats.conversation import (
    ASSISTANT,
    USER,
    Conversation,
    Options,
    items,
    mapping,
    moment,
    object_in,
    text,
)
from backscroll_worker.transfer.original_database import open_database, read_original
from backscroll_worker.transfer.source import Advance, Found, Total

_TABLES: Final = {
    "agent_messages": ("id", "session_id", "message_data", "created_at"),
    "message_store": ("id", "session_id", "message"),
}
_ROLES: Final = {"human": USER, "ai": ASSISTANT, "system": "system", "tool": "tool"}


def read(name: str, path: Path, options: Options) -> Iterator[Found]:
    """The sessions in a database of one of these, or of the original program.

    Raises `InvalidInputError` when it cannot be read, or is nobody's.
    """
    with closing(open_database(path)) as connection:
        try:
            connection.execute("BEGIN")
            for table, columns in _TABLES.items():
                if set(columns) <= _columns(connection, table):
                    break
            else:
                yield from read_original(name, path, connection)
                return
            yield Total(int(connection.execute(f"SELECT count(*) FROM {table}").get))  # noqa: S608
            for made in _conversations(connection, table, columns, options):
                yield from made.found(f"{name}: {made.key}", options)
                yield Advance(len(made.messages))
        except apsw.Error as error:
            raise InvalidInputError("file", f"{path}: {error}") from None


def _columns(connection: apsw.Connection, table: str) -> set[str]:
    rows: Any = connection.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return {name for (name,) in rows}


def _conversations(
    connection: apsw.Connection, table: str, columns: tuple[str, ...], options: Options
) -> Iterator[Conversation]:
    _, session, *said = columns
    keys: Any = connection.execute(
        f"SELECT {session} FROM {table} GROUP BY {session} ORDER BY min(id)"  # noqa: S608
    ).fetchall()
    for (key,) in keys:
        made = Conversation(f"{options.key_prefix or ''}{key}")
        rows: Any = connection.execute(
            f"SELECT {', '.join(said)} FROM {table} WHERE {session} = ? ORDER BY id",  # noqa: S608
            (key,),
        )
        for raw, *at in rows:
            fields = object_in(raw if isinstance(raw, bytes) else str(raw).encode())
            if not fields:
                made.not_kept["rows that are not JSON"] += 1
            elif table == "agent_messages":
                _add_item(made, fields, *at)
            else:
                _add_langchain(made, fields)
        yield made


def _add_item(made: Conversation, item: Mapping[str, Any], at: object) -> None:
    """An item of the Responses API: a message, a call, a result, or another kind as it is."""
    kind, when = item.get("type", "message"), moment(at)
    if kind == "message":
        content = item.get("content")
        said = content if isinstance(content, str) else text_of(_texts(content))
        made.add(item.get("role") or ASSISTANT, said, when)
    elif kind == "function_call":
        function = {"name": item.get("name"), "arguments": item.get("arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        made.add(ASSISTANT, "", when, extra={"tool_calls": [call]})
    elif kind == "function_call_output":
        output = item.get("output")
        said = output if isinstance(output, str) else text_of(output)
        made.add("tool", said, when, extra={"tool_call_id": item.get("call_id")})
    elif kind == "reasoning":
        made.not_kept["reasoning"] += 1
    else:
        made.add(ASSISTANT, "", when, extra=dict(item))


def _texts(content: object) -> list[object]:
    return [part for part in items(content) if isinstance(mapping(part).get("text"), str)]


def _add_langchain(made: Conversation, message: Mapping[str, Any]) -> None:
    data = mapping(message.get("data"))
    kind, content = text(message.get("type")), data.get("content")
    extra = dict(mapping(data.get("additional_kwargs")))
    calls = [
        {
            "id": call.get("id"),
            "type": "function",
            "function": {"name": call.get("name"), "arguments": call.get("args")},
        }
        for call in map(mapping, items(data.get("tool_calls")))
    ]
    if calls:
        extra["tool_calls"] = calls
    if data.get("tool_call_id"):
        extra["tool_call_id"] = data["tool_call_id"]
    if not isinstance(content, str):
        extra["content"] = content
    said = content if isinstance(content, str) else text_of(content)
    role = _ROLES.get(kind) or text(data.get("role")) or kind or USER
    made.add(role, said, None, platform_id=text(data.get("id")), extra=extra)
