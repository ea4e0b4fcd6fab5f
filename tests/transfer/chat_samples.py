"""One small history in the form of each program that `backscroll import` reads."""

from __future__ import annotations

import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

CHATGPT: Any = [
    {
        "title": "Fares",
        "create_time": 1767225600.0,
        "conversation_id": "c1",
        "current_node": "d",
        "mapping": {
            "r": {"id": "r", "message": None, "parent": None, "children": ["s"]},
            "s": {
                "parent": "r",
                "message": {
                    "id": "s",
                    "author": {"role": "system"},
                    "content": {"content_type": "text", "parts": [""]},
                },
            },
            "a": {
                "parent": "s",
                "message": {
                    "id": "a",
                    "author": {"role": "user"},
                    "create_time": 1767225601.5,
                    "content": {
                        "content_type": "multimodal_text",
                        "parts": [{"asset_pointer": "x"}, "How much?"],
                    },
                },
            },
            "b": {
                "parent": "a",
                "message": {
                    "id": "b",
                    "author": {"role": "assistant"},
                    "create_time": 1767225602.0,
                    "content": {"content_type": "text", "parts": ["38 EUR."]},
                },
            },
            "c": {
                "parent": "a",
                "message": {
                    "id": "c",
                    "author": {"role": "assistant"},
                    "create_time": 1767225603.0,
                    "content": {"content_type": "thoughts", "thoughts": []},
                },
            },
            "d": {
                "parent": "c",
                "message": {
                    "id": "d",
                    "author": {"role": "assistant"},
                    "create_time": 1767225604.0,
                    "content": {"content_type": "text", "parts": ["39 EUR."]},
                    "metadata": {"model_slug": "m1"},
                },
            },
        },
    }
]
CLAUDE: Any = [
    {
        "uuid": "u1",
        "name": "Fares",
        "chat_messages": [
            {
                "uuid": "a",
                "sender": "human",
                "text": "How much?",
                "created_at": "2026-01-01T00:00:01Z",
                "attachments": [{"file_name": "map.txt", "extracted_content": "A to B"}],
            },
            {
                "uuid": "b",
                "sender": "assistant",
                "created_at": "2026-01-01T00:00:02Z",
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "39 EUR."},
                ],
            },
        ],
    }
]
OPEN_WEBUI: Any = [
    {
        "id": "w1",
        "user_id": "x",
        "title": "Fares",
        "chat": {
            "history": {
                "currentId": "b",
                "messages": {
                    "a": {
                        "id": "a",
                        "parentId": None,
                        "role": "user",
                        "content": "How much?",
                        "timestamp": 1767225601,
                    },
                    "b": {
                        "id": "b",
                        "parentId": "a",
                        "role": "assistant",
                        "content": "39 EUR.",
                        "timestamp": 1767225602,
                        "model": "m1",
                    },
                    "z": {
                        "id": "z",
                        "parentId": "a",
                        "role": "assistant",
                        "content": "No idea.",
                        "timestamp": 1767225603,
                    },
                },
            }
        },
    }
]
TELEGRAM: Any = {
    "name": "Travellers",
    "type": "private_supergroup",
    "id": 77,
    "messages": [
        {"id": 1, "type": "service", "action": "invite_members"},
        {
            "id": 2,
            "type": "message",
            "date_unixtime": "1767225601",
            "from": "Ada",
            "from_id": "user42",
            "text": ["How ", {"type": "bold", "text": "much"}, "?"],
        },
        {
            "id": 3,
            "type": "message",
            "date_unixtime": "1767225602",
            "from": "Fares",
            "from_id": "user9",
            "reply_to_message_id": 2,
            "text": "39 EUR.",
            "edited": "2026-01-01T00:01:00",
        },
    ],
}
DISCORD: Any = {
    "guild": {"id": "1", "name": "Trips"},
    "channel": {"id": "5", "name": "fares"},
    "messages": [
        {
            "id": "10",
            "type": "Default",
            "timestamp": "2026-01-01T00:00:01+00:00",
            "content": "How much?",
            "author": {"id": "42", "name": "ada", "nickname": "Ada"},
            "attachments": [{"fileName": "map.png", "url": "https://example.org/map.png"}],
        },
        {
            "id": "11",
            "type": "Reply",
            "timestamp": "2026-01-01T00:00:02+00:00",
            "content": "39 EUR.",
            "author": {"id": "9", "name": "Fares"},
            "reference": {"messageId": "10"},
            "reactions": [{"emoji": {"name": "x"}, "count": 1}],
        },
    ],
}
CLAUDE_CODE: Any = [
    {"type": "summary", "summary": "Fares", "leafUuid": "b"},
    {
        "type": "user",
        "sessionId": "s",
        "uuid": "a",
        "timestamp": "2026-01-01T00:00:01Z",
        "message": {"role": "user", "content": "How much?"},
    },
    {
        "type": "assistant",
        "sessionId": "s",
        "uuid": "b",
        "timestamp": "2026-01-01T00:00:02Z",
        "message": {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "39 EUR."},
                {"type": "tool_use", "id": "t", "name": "book", "input": {}},
            ],
            "usage": {"output_tokens": 7},
        },
    },
]
CODEX: Any = [
    {"timestamp": "2026-01-01T00:00:00Z", "type": "session_meta", "payload": {"id": "x1"}},
    {
        "timestamp": "2026-01-01T00:00:01Z",
        "type": "response_item",
        "payload": {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "How much?"}],
        },
    },
    {
        "timestamp": "2026-01-01T00:00:02Z",
        "type": "response_item",
        "payload": {"type": "function_call", "name": "f", "call_id": "t", "arguments": "{}"},
    },
    {
        "timestamp": "2026-01-01T00:00:02Z",
        "type": "response_item",
        "payload": {"type": "function_call_output", "call_id": "t", "output": "39"},
    },
    {"timestamp": "2026-01-01T00:00:02Z", "type": "event_msg", "payload": {"type": "x"}},
    {
        "timestamp": "2026-01-01T00:00:03Z",
        "type": "response_item",
        "payload": {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "39 EUR."}],
        },
    },
]
OPENCLAW: Any = [
    {"type": "session", "version": 3, "id": "o1", "timestamp": "2026-01-01T00:00:00Z"},
    {
        "type": "message",
        "id": "a",
        "parentId": None,
        "timestamp": "2026-01-01T00:00:01Z",
        "message": {"role": "user", "content": [{"type": "text", "text": "How much?"}]},
    },
    {
        "type": "message",
        "id": "z",
        "parentId": "a",
        "message": {"role": "assistant", "content": "No."},
    },
    {"type": "model_change", "id": "m", "parentId": "a"},
    {
        "type": "message",
        "id": "b",
        "parentId": "m",
        "timestamp": "2026-01-01T00:00:02Z",
        "message": {
            "role": "assistant",
            "content": [{"type": "toolCall", "id": "t", "name": "f", "arguments": {}}],
        },
    },
    {
        "type": "message",
        "id": "c",
        "parentId": "b",
        "timestamp": "2026-01-01T00:00:02Z",
        "message": {
            "role": "toolResult",
            "toolCallId": "t",
            "toolName": "f",
            "content": [{"type": "text", "text": "39"}],
        },
    },
    {
        "type": "message",
        "id": "d",
        "parentId": "c",
        "timestamp": "2026-01-01T00:00:03Z",
        "message": {"role": "assistant", "content": [{"type": "text", "text": "39 EUR."}]},
    },
]
NANOBOT: Any = [
    {"_type": "metadata", "key": "telegram:42", "created_at": "2026-01-01T00:00:00"},
    {"role": "user", "content": "How much?", "timestamp": "2026-01-01T00:00:01"},
    {"role": "assistant", "content": "39 EUR.", "timestamp": "2026-01-01T00:00:02"},
]
WHATSAPP = (
    "\u200e[31.12.25, 23:59:58] Travellers: \u200eMessages are end-to-end encrypted.\r\n"
    "[31.12.25, 23:59:59] Ada: How\r\nmuch?\r\n"
    "[01.01.26, 00:00:02] Fares: 39 EUR.\r\n"
)
AGENTS_ITEMS: Any = [
    {"role": "user", "content": "How much?"},
    {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "t", "output": "39"},
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "39 EUR."}],
    },
]
LANGCHAIN_ITEMS: Any = [
    {"type": "human", "data": {"content": "How much?", "type": "human"}},
    {"type": "ai", "data": {"content": "39 EUR.", "type": "ai", "id": "run-1"}},
]


def document(value: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "export.json"
        path.write_bytes(orjson.dumps(value, option=orjson.OPT_INDENT_2))
        return path

    return write


def log(entries: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "log.jsonl"
        path.write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in entries))
        return path

    return write


def chat_text(folder: Path) -> Path:
    path = folder / "WhatsApp Chat with Travellers.txt"
    path.write_text(WHATSAPP, newline="")
    return path


def slack_folder(folder: Path) -> Path:
    """The folder of an export; a thread, and a day for each message."""
    place = folder / "workspace"
    (place / "fares").mkdir(parents=True)
    users = [{"id": "U42", "profile": {"display_name": "Ada"}}, {"id": "U9", "name": "fares"}]
    (place / "users.json").write_bytes(orjson.dumps(users))
    (place / "channels.json").write_bytes(orjson.dumps([{"id": "C5", "name": "fares"}]))
    days: Any = {
        "2026-01-01": [
            {"type": "message", "subtype": "channel_join", "user": "U42", "ts": "1767225600.1"},
            {"type": "message", "user": "U42", "text": "How much?", "ts": "1767225601.000100"},
        ],
        "2026-01-02": [
            {"type": "message", "user": "U9", "text": "39 EUR.", "ts": "1767312001.000200"},
            {
                "type": "message",
                "user": "U42",
                "text": "Thanks",
                "ts": "1767312002.000300",
                "thread_ts": "1767312001.000200",
            },
        ],
    }
    for day, said in days.items():
        (place / "fares" / f"{day}.json").write_bytes(orjson.dumps(said))
    return place


def zipped(write: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    """A ZIP file with that sample under `name`, or with all in its folder."""

    def write_zip(folder: Path) -> Path:
        source, packed = write(folder), folder / "export.zip"
        with zipfile.ZipFile(packed, "w") as file:
            if source.is_file():
                file.write(source, name)
            else:
                for each in sorted(source.rglob("*")):
                    file.write(each, each.relative_to(source))
        return packed

    return write_zip


def database(table: str, message: str, entries: Any, extra: str = "") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "history.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, session_id TEXT, {message} TEXT"
                f"{extra})"
            )
            connection.executemany(
                f"INSERT INTO {table}(session_id, {message}) VALUES ('s1', ?)",  # noqa: S608
                [(orjson.dumps(entry).decode(),) for entry in entries],
            )
        return path

    return write


TIME = ", created_at TIMESTAMP DEFAULT '2026-01-01 00:00:01'"
