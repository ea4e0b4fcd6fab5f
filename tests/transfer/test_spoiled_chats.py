"""Exports with faults in them: each costs as little as it can."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pytest

from backscroll_worker.transfer.chats.conversation import branches
from backscroll_worker.transfer.import_files import look_through
from tests.transfer import chat_samples as samples
from tests.transfer.taking import OPTIONS, changed, taken


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
        assert report.sessions or report.refused or report.left_out or report.not_kept
        if number % 10 == 0:
            assert taken(raw, folder)[0] == report
            again, _ = taken(raw, folder)
            assert (again.sessions, again.messages) == (0, 0)


def test_halves_of_characters_do_not_cost_a_file(tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_bytes(orjson.dumps(samples.CHATGPT).replace(b"How much?", b"How much\\ud83d?"))
    report, sessions = taken(path, tmp_path)
    assert sessions["chatgpt_c1"][0].content == "How much\ufffd?"
    assert report.not_kept["text that is not Unicode, or numbers that JSON lacks"] == 1


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
