"""What is nearly an export: a field that a form needs is missing, renamed or of another kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from backscroll_worker.transfer.import_files import import_files, look_through
from tests.transfer import chat_samples as samples
from tests.transfer.sessions import everything
from tests.transfer.taking import OPTIONS, looked

NEEDED: list[tuple[str, Any, str]] = [
    ("ChatGPT", samples.CHATGPT[0], "mapping"),
    ("Claude", samples.CLAUDE[0], "chat_messages"),
    ("Claude", samples.CLAUDE[0], "uuid"),
    ("Open WebUI", samples.OPEN_WEBUI[0], "chat"),
    ("Open WebUI", samples.OPEN_WEBUI[0], "id"),
    ("Telegram", samples.TELEGRAM, "messages"),
    ("Telegram", samples.TELEGRAM, "type"),
    ("Telegram", samples.TELEGRAM, "id"),
    ("DiscordChatExporter", {**samples.DISCORD, "messageCount": 2}, "guild"),
    ("DiscordChatExporter", {**samples.DISCORD, "messageCount": 2}, "channel"),
    ("DiscordChatExporter", {**samples.DISCORD, "messageCount": 2}, "messages"),
]
BY_LIST = ("ChatGPT", "Claude", "Open WebUI")


@pytest.mark.parametrize("change", ["missing", "renamed", "null", "another kind"])
@pytest.mark.parametrize(("form", "sample", "field"), NEEDED)
def test_what_a_document_lacks_is_named(
    tmp_path: Path, form: str, sample: dict[str, Any], field: str, change: str
) -> None:
    bad = {name: value for name, value in sample.items() if name != field}
    if change == "renamed":
        bad[f"{field}s"] = sample[field]
    elif change == "null":
        bad[field] = None
    elif change == "another kind":
        bad[field] = 1.5
    for value in [[bad], bad] if form in BY_LIST else [bad]:
        (line,) = looked(samples.document(value)(tmp_path)).refused
        assert f"looks like a{'n'[: form[0] == 'O']} {form}" in line
        wanted = f"a field {field} that is not" if change == "another kind" else f"no {field}"
        assert wanted in line
    if form in BY_LIST:  # the second of two
        report = looked(samples.document([sample, bad])(tmp_path))
        assert report.sessions
        assert f"conversation 2: has {wanted}" in report.refused[0]


@pytest.mark.parametrize("chats", [None, [], "x"])
def test_an_account_without_chats_is_named(tmp_path: Path, chats: Any) -> None:
    value = {"personal_information": {}, "chats": chats}
    (line,) = looked(samples.document(value)(tmp_path)).refused
    assert "looks like a Telegram export of an account" in line
    assert "chats" in line


def test_a_bad_chat_of_an_account_costs_only_itself(tmp_path: Path) -> None:
    chats: list[Any] = [None, 5, {}, {**samples.TELEGRAM, "id": None}, samples.TELEGRAM]
    report = looked(samples.document({"chats": {"list": chats}})(tmp_path))
    assert (report.sessions, len(report.refused)) == (1, 4)
    assert "chat 4: looks like a Telegram export, but has no id" in report.refused[3]


@pytest.mark.parametrize("missing", ["users.json", "channels.json"])
def test_what_a_slack_export_lacks_is_named(tmp_path: Path, missing: str) -> None:
    place = samples.slack_folder(tmp_path)
    (place / missing).unlink()
    (line,) = looked(place).refused
    assert f"looks like a Slack export, but has no {missing}" in line


@pytest.mark.parametrize("content", [b"{", b"{}", b"[null]", b"\xff"])
def test_a_slack_export_with_a_bad_list_says_which(tmp_path: Path, content: bytes) -> None:
    place = samples.slack_folder(tmp_path)
    (place / "users.json").write_bytes(content)
    report = looked(place)
    if content == b"[null]":
        assert report.sessions == 2
    else:
        assert "users.json" in report.refused[0]


@pytest.mark.parametrize(
    ("write", "columns"),
    [
        (
            samples.database("agent_messages", "message_data", samples.AGENTS_ITEMS, samples.TIME),
            ("session_id", "message_data", "created_at"),
        ),
        (
            samples.database("message_store", "message", samples.LANGCHAIN_ITEMS),
            ("session_id", "message"),
        ),
    ],
)
def test_what_a_database_lacks_is_named(
    tmp_path: Path, write: Callable[[Path], Path], columns: tuple[str, ...]
) -> None:
    for column in columns:
        path = write(tmp_path)
        with closing(sqlite3.connect(path)) as connection, connection:
            (table,) = connection.execute("SELECT name FROM sqlite_schema").fetchone()
            connection.execute(f"ALTER TABLE {table} RENAME {column} TO other")
        (line,) = looked(path).refused
        assert f"has a table {table}, but it has no column {column}" in line
        path.unlink()


def test_rows_of_any_kind_cost_no_other_row(tmp_path: Path) -> None:
    write = samples.database("agent_messages", "message_data", samples.AGENTS_ITEMS, samples.TIME)
    path = write(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        item = b'{"role":"user","content":"\xff"}'
        for session, said in (
            ("s1", "x"), ("s1", b"\xff\0"), ("s1", None), ("s1", 5), ("s1", "[" * 5000),
            (5, '{"role":"user","content":"a"}'), (b"\xff", '{"role":"user","content":"b"}'),
        ):  # fmt: skip
            row = "INSERT INTO agent_messages(session_id, message_data) VALUES (?, ?)"
            connection.execute(row, (session, said))
        for text in (item, b'{"role":"user","content":"large' + b"x" * 2**25 + b'"}'):
            connection.execute(
                "INSERT INTO agent_messages(session_id, message_data)"
                " VALUES (CAST(? AS TEXT), CAST(? AS TEXT))", (b"\xfe", text)
            )  # fmt: skip
        connection.execute("UPDATE agent_messages SET created_at = x'ff' WHERE session_id = 's1'")
    store = f"sqlite://{tmp_path / 'store.db'}"
    report = import_files([path], store, OPTIONS, lambda _: None)
    assert report.refused == []
    assert set(everything(store)) == {"s1", "5", "\\xff", "\\xfe"}
    assert (report.messages, report.not_kept["rows that are not JSON"]) == (7, 5)
    assert report.not_kept["text that is not Unicode"] == 1
    assert report.not_kept["rows that are too large"] == 1


@pytest.mark.parametrize("table", ["agent_messages", "sessions"])
def test_a_view_that_never_ends_is_not_read(tmp_path: Path, table: str) -> None:
    path = tmp_path / "x.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            f"CREATE VIEW {table} AS WITH RECURSIVE each(id) AS"  # noqa: S608
            " (SELECT 1 UNION ALL SELECT id + 1 FROM each)"
            " SELECT id, id AS session_id, id AS session_key, 'user' AS role, 'x' AS content,"
            " '{}' AS message_data, 0 AS created_at FROM each"
        )
    (line,) = looked(path).refused
    assert "is a database, but not the original program's" in line


LOGS = {
    "claude code": (samples.CLAUDE_CODE, "claude-code_log"),
    "codex": (samples.CODEX, "codex_x1"),
    "openclaw": (samples.OPENCLAW, "openclaw_o1"),
    "nanobot": (samples.NANOBOT, "nanobot_telegram:42"),
}


@pytest.mark.parametrize("form", LOGS)
def test_a_line_that_is_no_message_is_counted(tmp_path: Path, form: str) -> None:
    entries, _ = LOGS[form]
    path = samples.log(entries)(tmp_path)
    whole = looked(path)
    with path.open("ab") as file:
        file.write(b'null\n[]\n{"cut')
    report = looked(path)
    assert (report.sessions, report.messages) == (whole.sessions, whole.messages)
    assert report.not_kept["lines that are not JSON"] == 3


@pytest.mark.parametrize("form", LOGS)
def test_a_line_that_is_not_unicode_costs_no_message(tmp_path: Path, form: str) -> None:
    path = samples.log(LOGS[form][0])(tmp_path)
    whole, raw = looked(path), path.read_bytes()
    for odd in (b"39 \\ud83d EUR.", b"39 \xff EUR.", b"39 \0 EUR."):
        path.write_bytes(raw.replace(b"39 EUR.", odd))
        report = looked(path)
        assert (report.sessions, report.messages) == (whole.sessions, whole.messages)
        assert report.not_kept.get("text that is not Unicode", 0) == (b"\0" not in odd)


def test_a_log_may_begin_with_something_else(tmp_path: Path) -> None:
    snapshot = {"type": "file-history-snapshot", "messageId": "m", "snapshot": {}}
    path = samples.log([snapshot, *samples.CLAUDE_CODE[1:]])(tmp_path)
    report = looked(path)
    assert (report.sessions, report.messages) == (1, 2)


def test_a_log_of_codex_goes_under_its_own_id(tmp_path: Path) -> None:
    """One that goes on from another session has that one's first entry behind its own."""
    other = {**samples.CODEX[0], "payload": {"id": "before"}}
    store = f"sqlite://{tmp_path / 'store.db'}"
    path = samples.log([samples.CODEX[0], other, *samples.CODEX[1:]])(tmp_path)
    import_files([path], store, OPTIONS, lambda _: None)
    assert set(everything(store)) == {"codex_x1"}


def test_a_log_of_codex_of_2025_is_read(tmp_path: Path) -> None:
    first = {"id": "old", "timestamp": "2025-05-01T00:00:00Z", "instructions": None}
    state = {"record_type": "state"}
    items = [each["payload"] for each in samples.CODEX if each["type"] == "response_item"]
    path = samples.log([first, state, *items])(tmp_path)
    store = f"sqlite://{tmp_path / 'store.db'}"
    report = import_files([path], store, OPTIONS, lambda _: None)
    assert (report.messages, set(everything(store))) == (4, {"codex_old"})


def test_what_codex_told_its_model_is_no_message_of_a_user(tmp_path: Path) -> None:
    told = {"type": "input_text", "text": "<environment_context>\n<cwd>/x</cwd>"}
    item = {"type": "message", "role": "user", "content": [told]}
    entry = {**samples.CODEX[1], "payload": item}
    report = looked(samples.log([samples.CODEX[0], entry, *samples.CODEX[1:]])(tmp_path))
    assert report.messages == 4
    assert report.not_kept["what the program told the model by itself"] == 1


def test_what_was_said_aloud_is_text(tmp_path: Path) -> None:
    spoken = {"content_type": "audio_transcription", "text": "Aloud", "direction": "in"}
    sound = {"content_type": "audio_asset_pointer", "asset_pointer": "sediment://x"}
    content = {"content_type": "multimodal_text", "parts": [spoken, sound]}
    shown = {"content_type": "tether_browsing_display", "result": "A page"}
    other = {"content_type": "user_editable_context", "user_profile": "I live there"}
    nodes = {
        id_: {"message": {"author": {"role": "user"}, "content": each}}
        for id_, each in (("a", content), ("b", shown), ("c", other))
    }
    path = samples.document([{"mapping": nodes, "id": "c"}])(tmp_path)
    store = f"sqlite://{tmp_path / 'store.db'}"
    report = import_files([path], store, OPTIONS, lambda _: None)
    assert report.not_kept == {"the bytes of files": 1, "content of other kinds": 1}
    (_, said) = everything(store)["chatgpt_c"]
    assert [(each.content, len(each.attachments)) for each in said] == [("Aloud", 1), ("A page", 0)]


def test_chatgpts_documents_are_kept_as_attachments(tmp_path: Path) -> None:
    said = {
        "content_type": "multimodal_text",
        "parts": [{"asset_pointer": "sediment://f1"}, "Read"],
    }
    attached = [
        {"id": "f1", "name": "a.png", "mime_type": "image/png", "size": 1},
        {"id": "f2", "name": "b.pdf", "mimeType": "application/pdf", "size": 2},
    ]
    message = {"author": {"role": "user"}, "content": said, "metadata": {"attachments": attached}}
    path = samples.document([{"mapping": {"a": {"message": message}}, "id": "c"}])(tmp_path)
    store = f"sqlite://{tmp_path / 'store.db'}"
    import_files([path], store, OPTIONS, lambda _: None)
    (_, (message_,)) = everything(store)["chatgpt_c"]
    files = [(each.platform_id, each.name, each.size) for each in message_.attachments]
    assert files == [("sediment://f1", None, None), ("f2", "b.pdf", 2)]


def test_discords_embeds_are_messages_and_its_own_texts_are_not(tmp_path: Path) -> None:
    first = samples.DISCORD["messages"][0]
    joined = {**first, "id": "9", "type": "GuildMemberJoin", "content": "Joined the server."}
    embed = {"title": "Build", "fields": [{"name": "tests", "value": "failed"}]}
    build = {**first, "id": "8", "content": "", "embeds": [embed]}
    path = samples.document({**samples.DISCORD, "messages": [first, joined, build]})(tmp_path)
    store = f"sqlite://{tmp_path / 'store.db'}"
    report = import_files([path], store, OPTIONS, lambda _: None)
    assert (report.messages, report.not_kept["events, such as who joined"]) == (2, 1)
    (_, said) = everything(store)["discord_5"]
    assert said[-1].content == "Build\ntests\nfailed"


def test_discords_stickers_and_forwarded_messages_are_kept(tmp_path: Path) -> None:
    first, second = samples.DISCORD["messages"]
    sticker = {**first, "content": "", "attachments": [], "stickers": [{"name": "Wave"}]}
    forwarded = {**second, "content": "", "forwardedMessage": {"content": "From there"}}
    empty = {**first, "id": "9", "content": "", "attachments": []}
    chat = {**samples.DISCORD, "messages": [sticker, forwarded, empty]}
    store = f"sqlite://{tmp_path / 'store.db'}"
    report = import_files([samples.document(chat)(tmp_path)], store, OPTIONS, lambda _: None)
    (_, said) = everything(store)["discord_5"]
    assert [(each.content, [a.name for a in each.attachments]) for each in said] == [
        ("", ["Wave"]),
        ("From there", []),
    ]
    assert report.not_kept["messages without text or files"] == 1


def test_what_is_exported_in_another_form_is_told_apart(tmp_path: Path) -> None:
    page, folder, several = tmp_path / "a.html", tmp_path / "html", tmp_path / "several"
    page.write_text("<!DOCTYPE html><html></html>")
    folder.mkdir()
    (folder / "messages.html").write_text("<html></html>")
    several.mkdir()
    samples.document(samples.DISCORD)(several)
    said = [looked(path).refused[0] for path in (page, folder, several)]
    assert [each.partition(": ")[2].partition(" ")[2] for each in said] == [
        "is HTML: export it as JSON, and import that",
        "is an export as HTML: export it as JSON, and import that",
        "is not an export by itself: give the files in it, as *.json; 'backscroll migrate' takes "
        "over a folder of the original's sessions",
    ]


def test_a_conversation_without_messages_is_counted(tmp_path: Path) -> None:
    value = [{**samples.CLAUDE[0], "chat_messages": []}]
    report = looked(samples.document(value)(tmp_path))
    assert report.not_kept == {"conversations without messages": 1}


@pytest.mark.parametrize("write", [samples.log(samples.CLAUDE_CODE[1:]), samples.chat_text])
def test_two_texts_from_standard_input_are_not_one_session(
    tmp_path: Path, write: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    with path.open("rb") as file:
        monkeypatch.setattr("sys.stdin", type("Input", (), {"buffer": file}))
        report = look_through([Path("-")], OPTIONS, lambda _: None)
    if path.suffix == ".txt":
        assert report.refused[0].endswith("has no id")
    else:
        assert report.sessions == 1
        assert orjson.dumps(report)
