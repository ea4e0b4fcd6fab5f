"""Histories of other programs: recognized by content, taken over as they were said."""

from __future__ import annotations

import random
import sqlite3
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from backscroll import ChatMessage
from backscroll.channels import slack
from backscroll_worker.transfer.chats.conversation import Options, branches
from backscroll_worker.transfer.import_files import ImportReport, import_files, look_through
from tests.transfer import chat_samples as samples
from tests.transfer.sessions import everything

ME = frozenset({"Fares", "U9"})
OPTIONS = Options(me=ME, zone=ZoneInfo("Europe/Berlin"))

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


def taken(path: Path, folder: Path) -> tuple[ImportReport, dict[str, list[ChatMessage]]]:
    store = f"sqlite://{folder / 'store.db'}"
    report = import_files([path], store, OPTIONS, lambda _: None)
    return report, {key: said for key, (_, said) in everything(store).items()}


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
    for form in ("chatgpt", "open webui"):
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


@pytest.mark.parametrize(
    ("lines", "days"),
    [
        ("12/31/25, 6:05 PM - Ada: x\n1/1/26, 6:05 AM - Bo: y\n", ["12-31 18:05", "01-01 06:05"]),
        ("31/12/2025, 18:05 - Ada: x\n01/01/2026, 06:05 - Bo: y\n", ["12-31 18:05", "01-01 06:05"]),
        ("[2025-12-31, 18:05:01] Ada: x\n[2026-01-01, 6:05:01] Bo: y\n",
         ["12-31 18:05", "01-01 06:05"]),
        ("31.12.25, 18:05 - Ada: x\n", ["12-31 18:05"]),
        # Only the order tells: as months and days it would go back.
        ("05/06/25, 1:00 - Ada: x\n01/07/25, 1:00 - Bo: y\n", ["06-05 01:00", "07-01 01:00"]),
        ("5/6/25, 12:05\u202fAM - Ada: x\n13/6/25, 12:05\u202fpm - Ada: y\n",
         ["06-05 00:05", "06-13 12:05"]),
    ],
)  # fmt: skip
def test_dates_of_any_locale_are_read(tmp_path: Path, lines: str, days: list[str]) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text(lines)
    report, sessions = taken(path, tmp_path)
    assert report.refused == []
    ((said),) = sessions.values()
    zone = ZoneInfo("Europe/Berlin")
    times = [each.created_at.astimezone(zone) for each in said if each.created_at]
    assert [f"{at:%m-%d %H:%M}" for at in times] == days


def test_dates_that_do_not_tell_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("05/06/25, 18:05 - Ada: x\n")
    report, _ = taken(path, tmp_path)
    (refused,) = report.refused
    assert "--dates dmy or mdy" in refused
    told = look_through([path], Options(dates="mdy"), lambda _: None)
    assert (told.sessions, told.refused) == (1, [])


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([{"title": "x", "current_node": "a"}], "ChatGPT export, but has no mapping"),
        ({"guild": {}, "channel": {}, "dateRange": {}}, "but has no messages"),
        ({"type": "private_group", "messages": [], "name": "x"}, "Telegram export, but has no id"),
        ([], "is an empty list"),
        ([1, 2], "is not an export"),
        ({"something": 1}, "is not an export"),
    ],
)  # fmt: skip
def test_a_file_that_is_nearly_an_export_is_told_what_it_lacks(
    tmp_path: Path, value: Any, why: str
) -> None:
    path = samples.document(value)(tmp_path)
    (refused,) = look_through([path], OPTIONS, lambda _: None).refused
    assert why in refused


def test_a_folder_of_nobody_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (refused,) = look_through([tmp_path], OPTIONS, lambda _: None).refused
    assert "neither conversations.json" in refused
    packed = tmp_path / "x.zip"
    packed.write_bytes(b"PK\x03\x04 and no more")
    (refused,) = look_through([packed], OPTIONS, lambda _: None).refused
    assert str(packed) in refused


JUNK: list[Any] = [None, 0, -1.5, 10**30, "", "\x00", "x" * 600, [], [None], {}, {"a": 1}, True]


def spoiled(value: Any, draw: random.Random) -> Any:
    """`value` with one thing in it replaced by another, or left out."""
    places: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        each = todo.pop()
        keys = each.keys() if isinstance(each, dict) else range(len(each))
        for key in list(keys):
            places.append((each, key))
            if isinstance(each[key], dict | list):
                todo.append(each[key])
    holder, key = draw.choice(places)
    if isinstance(holder, dict) and draw.random() < 0.2:
        del holder[key]
    else:
        holder[key] = draw.choice(JUNK)
    return value


SPOILED = {
    "chatgpt": (samples.CHATGPT, samples.document),
    "claude": (samples.CLAUDE, samples.document),
    "open webui": (samples.OPEN_WEBUI, samples.document),
    "telegram": (samples.TELEGRAM, samples.document),
    "discord": (samples.DISCORD, samples.document),
    "claude code": (samples.CLAUDE_CODE, samples.log),
    "codex": (samples.CODEX, samples.log),
    "openclaw": (samples.OPENCLAW, samples.log),
    "nanobot": (samples.NANOBOT, samples.log),
    "openai agents": (
        samples.AGENTS_ITEMS,
        lambda entries: samples.database("agent_messages", "message_data", entries, samples.TIME),
    ),
    "langchain": (
        samples.LANGCHAIN_ITEMS,
        lambda entries: samples.database("message_store", "message", entries),
    ),
}


@pytest.mark.parametrize("form", SPOILED)
def test_a_spoiled_file_is_taken_over_as_far_as_it_goes(form: str, tmp_path: Path) -> None:
    sample, write = SPOILED[form]
    draw = random.Random(form)
    for number in range(60):
        folder = tmp_path / str(number)
        folder.mkdir()
        value = orjson.loads(orjson.dumps(sample))
        for _ in range(draw.randint(1, 3)):
            value = spoiled(value, draw)
            if not value:
                break
        try:
            raw = write(value)(folder)
        except TypeError:
            continue  # no JSON that orjson writes
        report = look_through([raw], OPTIONS, lambda _: None)
        assert (
            report.sessions
            or report.refused
            or report.left_out
            or report.not_kept
            or (report.messages == 0)
        )


def test_halves_of_characters_do_not_cost_a_file(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_bytes(orjson.dumps(samples.CHATGPT).replace(b"How much?", b"How much\\ud83d?"))
    report, sessions = taken(path, tmp_path)
    assert sessions["chatgpt_c1"][0].content == "How much??"
    assert report.not_kept["halves of characters"] >= 1


def changed(sample: Any, **fields: Any) -> list[Any]:
    """A list of one conversation, with other fields."""
    return [{**sample[0], **fields}]


def test_a_conversation_without_an_id_is_refused_and_others_are_not(tmp_path: Path) -> None:
    value = [*changed(samples.CHATGPT, conversation_id=None), *samples.CHATGPT]
    report, sessions = taken(samples.document(value)(tmp_path), tmp_path)
    (refused,) = report.refused
    assert refused.endswith("conversation 1: has no id")
    assert "chatgpt_c1" in sessions


def test_a_conversation_that_is_a_circle_is_taken_over(tmp_path: Path) -> None:
    nodes = samples.CHATGPT[0]["mapping"]
    circle = {"a": {**nodes["a"], "parent": "b"}, "b": nodes["b"]}
    value = changed(samples.CHATGPT, mapping=circle, current_node=None)
    _, sessions = taken(samples.document(value)(tmp_path), tmp_path)
    assert [each.content for each in sessions["chatgpt_c1"]] == ["How much?", "38 EUR."]


def test_a_message_that_a_log_has_twice_is_stored_once(tmp_path: Path) -> None:
    report, sessions = taken(samples.log(samples.CLAUDE_CODE * 2)(tmp_path), tmp_path)
    assert report.refused == []
    assert [each.content for each in sessions["claude-code_log"]] == ["How much?", "39 EUR."]
    assert report.not_kept["messages that were there already"] == 2


def test_many_branches_are_read_one_after_another() -> None:
    parents: dict[str, str | None] = {"0": None}
    for number in range(1, 20_000):
        parents[str(number)] = str(number - 1)
        parents[f"end {number}"] = str(number)
    shown = next(branches(parents, "5"))
    assert shown.nodes == ["0", "1", "2", "3", "4", "5"]


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
    assert (message.role, message.extra) == ("user", item)


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
    assert report.not_kept["days whose file is not JSON"] == 1
    contents = [each.content for each in sessions["slack_C5"]]
    assert contents[:2] == ["<@U9> @fares & all", "Both"]
    assert [each.content for each in sessions["slack_C5_1767139201.000100"]] == ["Both"]
    read = [change for each in events for change in slack.read({**each, "channel": "C5"})]
    assert {change.key for change in read} <= sessions.keys()


@pytest.mark.parametrize("spoil", ["damaged", "not JSON"])
def test_a_bad_document_in_a_zip_file_costs_only_itself(tmp_path: Path, spoil: str) -> None:
    packed = tmp_path / "export.zip"
    first = orjson.dumps(samples.CHATGPT)
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("conversations-001.json", b"[{" if spoil == "not JSON" else first)
        file.writestr("conversations-002.json", first)
    if spoil == "damaged":
        packed.write_bytes(packed.read_bytes().replace(b"EUR", b"USD", 1))
    report, sessions = taken(packed, tmp_path)
    (refused,) = report.refused
    assert "conversations-001.json" in refused
    assert sessions["chatgpt_c1"][-1].content == "39 EUR."


def test_dates_that_are_not_in_the_order_given_are_refused(tmp_path: Path) -> None:
    path = samples.chat_text(tmp_path)
    (refused,) = look_through([path], Options(dates="mdy"), lambda _: None).refused
    assert str(path) in refused
    assert "in the order mdy" in refused


def test_dates_of_which_only_the_first_is_clear_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    path.write_text("05/05/25, 18:05 - Ada: x\n05/06/25, 18:05 - Ada: y\n")
    (refused,) = look_through([path], OPTIONS, lambda _: None).refused
    assert "--dates dmy or mdy" in refused


def test_times_without_a_zone_are_in_the_one_of_their_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for zone in (None, ZoneInfo("Europe/Berlin")):
            options = Options(zone=zone)
            hours = [
                moment.astimezone(UTC).hour
                for day in ("2025-01-31", "2025-07-31")
                if (moment := options.moment(f"{day}T12:00:00"))
            ]
            assert hours == [11, 10]
        path = tmp_path / "_chat.txt"
        path.write_text("31/01/25, 12:00 - Ada: x\n31/07/25, 12:00 - Ada: y\n")
        store = f"sqlite://{tmp_path / 'store.db'}"
        import_files([path], store, Options(), lambda _: None)
        ((_, said),) = everything(store).values()
        assert [each.created_at.astimezone(UTC).hour for each in said if each.created_at] == [
            11,
            10,
        ]
    finally:
        monkeypatch.undo()
        time.tzset()


def test_an_hour_that_is_there_twice_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "_chat.txt"
    hours = ("01:50", "02:10", "02:50", "02:49", "02:05", "02:55", "03:01")
    path.write_text("".join(f"26/10/25, {hour} - Ada: {hour}\n" for hour in hours))
    _, sessions = taken(path, tmp_path)
    ((said),) = sessions.values()
    times = [each.created_at.astimezone(UTC) for each in said if each.created_at]
    shown = ["23:50", "00:10", "00:50", "00:49", "01:05", "01:55", "02:01"]
    assert [f"{at:%H:%M}" for at in times] == shown
