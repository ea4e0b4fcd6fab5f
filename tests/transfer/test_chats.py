"""Histories of other programs: recognized by content, taken over as they were said."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from backscroll.channels import slack
from backscroll_worker.transfer.import_files import look_through
from tests.transfer import chat_samples as samples
from tests.transfer.taking import OPTIONS, changed, taken

Write = Callable[[Path], Path]
AGENTS = samples.database("agent_messages", "message_data", samples.AGENTS_ITEMS, samples.TIME)
LANGCHAIN = samples.database("message_store", "message", samples.LANGCHAIN_ITEMS)

FORMS: dict[str, tuple[Write, str]] = {
    "chatgpt": (samples.document(samples.CHATGPT), "chatgpt_c1"),
    "chatgpt.zip": (
        samples.zipped(samples.document(samples.CHATGPT), "conversations-001.json"),
        "chatgpt_c1",
    ),
    "claude": (samples.document(samples.CLAUDE), "claude_u1"),
    "open webui": (samples.document(samples.OPEN_WEBUI), "openwebui_w1"),
    "telegram": (samples.document(samples.TELEGRAM), "telegram_-10077"),
    "telegram account": (
        samples.document({"chats": {"list": [samples.TELEGRAM]}}),
        "telegram_-10077",
    ),
    "discord": (samples.document(samples.DISCORD), "discord_5"),
    "slack": (samples.slack_folder, "slack_C5"),
    "slack.zip": (samples.zipped(samples.slack_folder, ""), "slack_C5"),
    "whatsapp": (samples.chat_text, "whatsapp_Travellers"),
    "whatsapp.zip": (samples.zipped(samples.chat_text, "_chat.txt"), "whatsapp_export"),
    "claude code": (samples.log(samples.CLAUDE_CODE), "claude-code_log"),
    "codex": (samples.log(samples.CODEX), "codex_x1"),
    "openclaw": (samples.log(samples.OPENCLAW), "openclaw_o1"),
    "nanobot": (samples.log(samples.NANOBOT), "nanobot_telegram:42"),
    "openai agents": (AGENTS, "s1"),
    "langchain": (LANGCHAIN, "s1"),
}
WITH_PEOPLE = ("telegram", "telegram account", "discord", "slack", "slack.zip")
WITHOUT_TIMES = ("langchain",)


@pytest.mark.parametrize("form", FORMS)
def test_what_was_said_is_taken_over_in_order(form: str, tmp_path: Path) -> None:
    write, key = FORMS[form]
    path = write(tmp_path)
    report, sessions = taken(path, tmp_path)
    assert (report.refused, report.left_out) == ([], [])
    said = [each for each in sessions[key] if each.content and each.role != "tool"]
    first, *others = said
    assert (first.role, first.content.split("\n\n")[0].split()) == ("user", ["How", "much?"])
    assert others[0].role == "assistant"
    assert "39 EUR." in [each.content for each in others]
    times = [each.created_at for each in said]
    assert times == sorted(times, key=lambda at: at or datetime.now(UTC))
    if form not in WITHOUT_TIMES:
        assert first.created_at is not None
        assert first.created_at.astimezone(UTC).date().isoformat() in ("2025-12-31", "2026-01-01")
    if form in WITH_PEOPLE:
        assert (first.author_name, first.author) in (("Ada", "42"), ("Ada", "U42"))
        assert first.platform_id
    again, _ = taken(path, tmp_path)
    assert (again.sessions, again.known) == (0, report.sessions)


@pytest.mark.parametrize("form", FORMS)
def test_a_dry_run_says_what_an_import_does(form: str, tmp_path: Path) -> None:
    path = FORMS[form][0](tmp_path)
    told = look_through([path], OPTIONS, lambda _: None)
    assert told == taken(path, tmp_path)[0]


def test_each_branch_is_a_session_and_the_shown_one_is_the_main(tmp_path: Path) -> None:
    for form in ("chatgpt", "open webui", "openclaw"):
        folder = tmp_path / form
        folder.mkdir()
        write, key = FORMS[form]
        _, sessions = taken(write(folder), folder)
        assert sessions[key][-1].content == "39 EUR."
        (other,) = (name for name in sessions if name != key)
        assert other.startswith(f"{key}~")
        assert sessions[other][0].content == "How much?"


def test_calls_of_tools_are_kept_as_a_legal_history_knows_them(tmp_path: Path) -> None:
    for form in ("codex", "openclaw", "openai agents"):
        folder = tmp_path / form
        folder.mkdir()
        write, key = FORMS[form]
        _, sessions = taken(write(folder), folder)
        _, call, result, _ = sessions[key]
        assert call.extra is not None
        assert result.extra is not None
        assert call.extra["tool_calls"][0]["id"] == "t" == result.extra["tool_call_id"]


def test_what_is_not_kept_is_counted_by_name(tmp_path: Path) -> None:
    counts = {
        form: taken(FORMS[form][0](folder), folder)[0].not_kept
        for form in ("telegram", "discord", "slack", "claude")
        if not (folder := tmp_path / form).mkdir()  # type: ignore[func-returns-value]
    }
    assert counts["telegram"] == {
        "events, such as who joined": 1,
        "what an edited message said before": 1,
    }
    assert counts["discord"] == {"the bytes of files": 1, "reactions": 1}
    assert counts["slack"] == {"events, such as who joined": 1}
    assert counts["claude"] == {"reasoning": 1, "the bytes of files": 1}


def test_files_are_attachments_with_what_is_known_of_them(tmp_path: Path) -> None:
    chat = {**samples.TELEGRAM, "messages": [
        {**samples.TELEGRAM["messages"][1], "photo": "a/p.jpg", "photo_file_size": 9, "text": ""},
        {**samples.TELEGRAM["messages"][2], "file": "(File not included.)", "file_name": "a b.pdf",
         "mime_type": "application/pdf", "media_type": "voice_message"},
    ]}  # fmt: skip
    _, sessions = taken(samples.document(chat)(tmp_path), tmp_path)
    (first,), (second,) = (each.attachments for each in sessions["telegram_-10077"])
    assert (first.kind, first.name, first.size) == ("image", "p.jpg", 9)
    assert (second.kind, second.name, second.mime_type) == (
        "voice_message", "a b.pdf", "application/pdf",
    )  # fmt: skip


def test_a_dry_run_counts_a_conversation_that_is_there_twice_once(tmp_path: Path) -> None:
    other = changed(samples.CLAUDE, chat_messages=samples.CLAUDE[0]["chat_messages"][1:])
    path = samples.document([*samples.CLAUDE, *samples.CLAUDE, *other])(tmp_path)
    said = look_through([path], OPTIONS, lambda _: None)
    assert (said.sessions, said.messages, said.known, said.refused) == (1, 2, 2, [])
    assert said == taken(path, tmp_path)[0]


def test_sessions_in_a_database_keep_their_order_of_messages(tmp_path: Path) -> None:
    path = LANGCHAIN(tmp_path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE message_store SET session_id = 's' || (id % 2)")
        connection.execute(
            "INSERT INTO message_store(session_id, message) SELECT session_id, message"
            " FROM message_store ORDER BY id"
        )
        connection.execute("INSERT INTO message_store(message) VALUES ('{}')")
    report, sessions = taken(path, tmp_path)
    assert {key: len(said) for key, said in sessions.items()} == {"s0": 1, "s1": 2}
    (refused,) = report.refused
    assert refused.endswith("has no id")


def test_an_item_with_only_an_image_keeps_it(tmp_path: Path) -> None:
    item = {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]}
    path = samples.database("agent_messages", "message_data", [item], samples.TIME)(tmp_path)
    _, sessions = taken(path, tmp_path)
    (message,) = sessions["s1"]
    assert (message.role, message.extra) == ("user", {"openai_agents": item})


def test_slack_is_read_as_a_bot_reads_it(tmp_path: Path) -> None:
    place = samples.slack_folder(tmp_path)
    events = [
        {"type": "message", "user": "U42", "text": "&lt;@U9&gt; <@U9> &amp; all",
         "ts": "1767139201.000100"},
        {"type": "message", "subtype": "thread_broadcast", "user": "U9", "text": "Both",
         "ts": "1767139202.000100", "thread_ts": "1767139201.000100"},
    ]  # fmt: skip
    (place / "fares" / "2025-12-31.json").write_bytes(orjson.dumps(events))
    (place / "fares" / "2025-12-30.json").write_bytes(b"[{")
    report, sessions = taken(place, tmp_path)
    assert report.not_kept["days whose file cannot be read"] == 1
    contents = [each.content for each in sessions["slack_C5"]]
    assert contents[:2] == ["<@U9> @fares & all", "Both"]
    assert [each.content for each in sessions["slack_C5_1767139201.000100"]] == ["Both"]
    read = [change for each in events for change in slack.read({**each, "channel": "C5"})]
    assert {change.key for change in read} <= sessions.keys()
