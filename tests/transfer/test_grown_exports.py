"""An export of a conversation that has grown since, or that goes on here: only what is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from backscroll import ChatMessage
from backscroll_worker.contract.history import History
from backscroll_worker.contract.pacing import finish
from backscroll_worker.stores import open_store
from backscroll_worker.testing.stores import open_tested
from backscroll_worker.transfer import joining
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport, import_files
from tests.transfer import chat_samples as samples

AT = 1767225600
OPTIONS = Options(zone=ZoneInfo("Europe/Berlin"))


@pytest.fixture(params=["sqlite", "jsonl"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}://{tmp_path / 'store'}"


def taken(url: str, path: Path, options: Options = OPTIONS) -> ImportReport:
    report = import_files([path], url, options, lambda _: None)
    assert (report.refused, report.left_out) == ([], [])
    return report


def said(url: str, key: str) -> list[str]:
    with History(open_store(url, read_only=True)) as store:
        return [each.content for each in store.load(key)]


def telegram(folder: Path, *numbers: int) -> Path:
    """A chat with messages of these numbers, each said as many seconds after another."""
    messages = [
        {"id": n, "type": "message", "date_unixtime": str(AT + n), "from_id": "user1",
         "text": f"{n}"}
        for n in numbers
    ]  # fmt: skip
    return samples.document({**samples.TELEGRAM, "messages": messages})(folder)


def test_only_what_is_new_is_added_and_what_was_changed_stays(url: str, tmp_path: Path) -> None:
    key = "telegram_-10077"
    first = taken(url, telegram(tmp_path, *range(5, 15)))
    assert (first.sessions, first.messages) == (1, 10)
    with open_tested(url) as store:
        for number in (7, 14):
            store.remove(key, platform_id=str(number))
        store.replace(key, ChatMessage.user("edited"), platform_id="8")
        store.append(key, ChatMessage.user("live", platform_id="20"))
        finish(store.compact(0))  # and the ids of what was removed are forgotten
    kept = ["5", "6", "edited", *map(str, range(9, 14)), "live"]
    again = taken(url, telegram(tmp_path, *range(5, 15)))
    assert again == ImportReport(known=1)
    assert said(url, key) == kept
    grown = taken(url, telegram(tmp_path, *range(1, 22)))
    assert grown == ImportReport(extended=1, messages=10)
    new = [*map(str, range(15, 20)), "live", "21"]
    assert said(url, key) == ["1", "2", "3", "4", *kept[:-1], *new]
    assert taken(url, telegram(tmp_path, *range(3, 22))) == ImportReport(known=1)
    with open_tested(url) as store:
        store.clear(key)
        finish(store.compact(0))
    assert taken(url, telegram(tmp_path, *range(1, 23))).messages == 1
    with open_tested(url) as store:
        store.delete(key)
    assert taken(url, telegram(tmp_path, *range(1, 23))).messages == 22


def test_messages_without_ids_are_known_wherever_the_file_begins(url: str, tmp_path: Path) -> None:
    def chat(*lines: str) -> Path:
        path = tmp_path / "WhatsApp Chat with Ada.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    lines = [f"31/12/2025, 18:{n // 2:02} - Ada: {'ok' if n % 3 else n}" for n in range(20)]
    lines[7] = lines[6]
    taken(url, chat(*lines))
    before = said(url, "whatsapp_Ada")
    assert before[6] == before[7]
    me = frozenset({"Ada"})
    path = chat(*lines[5:], "01/01/2026, 01:00 - Ada: new")
    report = taken(url, path, replace(OPTIONS, me=me))
    assert (report.extended, report.messages) == (1, 1)
    assert said(url, "whatsapp_Ada") == [*before, "new"]
    elsewhere = Options(me=me, zone=ZoneInfo("Asia/Tokyo"))
    assert taken(url, chat(*lines), elsewhere) == ImportReport(known=1)


def tree(folder: Path, nodes: dict[str, str | None], current: str) -> Path:
    made = {
        id_: {
            "parent": parent,
            "message": {"id": id_, "author": {"role": "user"}, "create_time": AT + place,
                        "content": {"content_type": "text", "parts": [id_]}},
        }
        for place, (id_, parent) in enumerate(nodes.items())
    }  # fmt: skip
    value = {**samples.CHATGPT[0], "mapping": made, "current_node": current}
    return samples.document([value])(folder)


def test_a_session_stays_on_its_branch_when_another_one_is_shown(url: str, tmp_path: Path) -> None:
    nodes: dict[str, str | None] = {"q": None, "a": "q"}
    taken(url, tree(tmp_path, nodes, "a"))
    nodes |= {"b": "q", "b2": "b"}
    report = taken(url, tree(tmp_path, nodes, "b2"))
    assert (report.sessions, report.known, report.extended) == (1, 1, 0)
    nodes |= {"b3": "b2", "a2": "a", "a3": "a"}
    report = taken(url, tree(tmp_path, nodes, "b3"))
    assert (report.sessions, report.known, report.extended) == (1, 0, 2)
    assert said(url, "chatgpt_c1~b") == ["q", "b", "b2", "b3"]
    assert sorted([said(url, "chatgpt_c1"), said(url, "chatgpt_c1~a3")]) == [
        ["q", "a", "a2"],
        ["q", "a", "a3"],
    ]
    assert taken(url, tree(tmp_path, nodes, "a3")) == ImportReport(known=3)


def test_an_erased_conversation_comes_back_with_what_is_later_only(
    url: str, tmp_path: Path
) -> None:
    key = "telegram_-10077"
    for subject in ({"key": key}, {"room": "-10077"}, {"author": "1"}):
        taken(url, telegram(tmp_path, 1, 2))
        with open_tested(url) as store:
            finish(store.erase(**subject))
        later = 4_000_000_000 - AT
        report = taken(url, telegram(tmp_path, 1, 2, later))
        assert (report.messages, said(url, key)) == (1, [str(later)])
        with open_tested(url) as store:
            store.delete(key)
            finish(store.compact(0))


@pytest.mark.parametrize("mark", [None, 1, [], {"first": 1}, {"first": "a", "last": "b"}])
def test_a_mark_that_somebody_else_has_set_is_none(url: str, tmp_path: Path, mark: Any) -> None:
    taken(url, telegram(tmp_path, 1, 2))
    with open_tested(url) as store:
        store.set_state("telegram_-10077", mark, joining.MARK)
    assert taken(url, telegram(tmp_path, 1, 2, 3)).messages == 1
    assert orjson.dumps(said(url, "telegram_-10077")) == b'["1","2","3"]'
