"""`backscroll import` of other programs' histories, as a user runs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis

from backscroll import ChatMessage, Producer, Receipt
from backscroll.contract.ids import new_op_id
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.transfer import joining
from backscroll_worker.transfer.chats.conversation import Options
from backscroll_worker.transfer.import_files import ImportReport
from backscroll_worker.transfer.queue_import import import_through_queue, look_through_queue
from backscroll_worker.transfer.source import Advance, Total
from tests.cli.command import document, done, run
from tests.processes import running_worker
from tests.transfer import chat_samples as samples


@pytest.fixture
def worker(settings: Settings, client: redis.Redis, tmp_path: Path) -> Iterator[None]:
    with running_worker(settings, client, tmp_path / "worker.log"):
        yield


def test_a_dry_run_needs_no_store_and_says_what_is_lost(settings: Settings, tmp_path: Path) -> None:
    path = samples.document(samples.TELEGRAM)(tmp_path)
    result = run(settings, "import", "--dry-run", "--me", "Fares", str(path))
    assert result.exit_code == 0
    assert "would be imported" in result.stdout
    assert "not kept: events, such as who joined (1)" in result.stderr
    assert "not kept: what an edited message said before (1)" in result.stderr
    assert not list(tmp_path.glob("*.db"))
    assert "nobody" not in result.stderr
    result = run(settings, "import", "--dry-run", "--me", "fares", str(path))
    assert "nobody wrote as 'fares'" in result.stderr


def test_a_zone_that_is_none_is_refused(settings: Settings, tmp_path: Path) -> None:
    path = samples.chat_text(tmp_path)
    result = run(settings, "import", "--zone", "Mars/Olympus", str(path))
    assert result.exit_code == ExitCode.USAGE
    assert "not a valid time zone" in result.output


def test_an_import_shows_who_said_what(settings: Settings, tmp_path: Path) -> None:
    path = samples.document(samples.TELEGRAM)(tmp_path)
    done(settings, "import", "--me", "Fares", str(path))
    first, second = document(settings, "load", "telegram_-10077")
    assert (first["author_name"], first["content"]) == ("Ada", "How much?")
    assert (second["role"], second["reply_to"], second["platform_id"]) == ("assistant", "2", "3")
    (hit,) = document(settings, "search", "much", "--author", "42")["hits"]
    assert hit["key"] == "telegram_-10077"


@pytest.mark.usefixtures("worker")
def test_through_the_queue_beside_a_worker(settings: Settings, tmp_path: Path) -> None:
    path = samples.slack_folder(tmp_path)
    ordered = ("import", "--through-queue", str(path))
    assert "2" in done(settings, *ordered)
    said = [each["content"] for each in document(settings, "load", "slack_C5")]
    assert said == ["How much?", "39 EUR."]
    again = document(settings, *ordered)
    assert (again["sessions"], again["known"], again["refused"]) == (0, 2, [])
    assert run(settings, "import", str(path)).exit_code == ExitCode.STORE


AT = 1767225600


def export(folder: Path, key: str, count: int) -> Path:
    """An export of Backscroll with so many messages."""
    at = AT * 1_000_000
    lines: list[Any] = [
        {"backscroll_export": 1},
        {"session": {"key": key, "created_at": at, "last_activity": at}},
        *({"role": "user", "content": f"{n}", "message_id": f"{key}{n}", "created_at": at}
          for n in range(count)),
        {"end": count},
    ]  # fmt: skip
    return samples.log(lines)(folder)


def nanobot(folder: Path, key: str, count: int) -> Path:
    """A log of nanobot with so many messages."""
    entries: list[Any] = [
        {"_type": "metadata", "key": key},
        *({"role": "user", "content": f"{n}", "timestamp": AT + n} for n in range(count)),
    ]
    return samples.log(entries)(folder)


def watch(each: Total | Advance) -> None:
    pass


class Breaks(Producer):
    """Is interrupted at its third write."""

    writes = 0

    def append(self, *given: Any, **options: Any) -> Receipt:
        self._write_on()
        return super().append(*given, **options)

    def backfill(self, *given: Any, **options: Any) -> Receipt:
        self._write_on()
        return super().backfill(*given, **options)

    def _write_on(self) -> None:
        self.writes += 1
        if self.writes == 3:
            raise KeyboardInterrupt


@pytest.mark.usefixtures("worker")
def test_an_export_that_broke_off_goes_on_and_joins_no_other(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    path, options = export(tmp_path, "long", 1_200), Options()
    with Breaks(server_url, settings.queue) as broken, pytest.raises(KeyboardInterrupt):
        import_through_queue([path], broken, options, watch)
    with Producer(server_url, settings.queue) as producer:
        report = import_through_queue([path], producer, options, watch)
        assert (report.sessions, report.messages) == (1, 200)
        said = [each.content for each in producer.load("long", 2_000)]
        assert said == [str(number) for number in range(1_200)]

        producer.append("other", ChatMessage.user("I was here."), ack="stored")
        report = import_through_queue([export(tmp_path, "other", 3)], producer, options, watch)
        assert report == ImportReport(refused=report.refused)
        assert "another history" in report.refused[0]
        assert len(producer.load("other")) == 1


@pytest.mark.usefixtures("worker")
def test_a_history_that_has_grown_is_not_put_behind_itself(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    """Its first batch is the same as before, and its second one would add some messages again."""
    with Producer(server_url, settings.queue) as producer:
        for count in (600, 700):
            path = export(tmp_path, "grown", count)
            report = import_through_queue([path], producer, Options(), watch)
        assert "another history" in report.refused[0]
        said = [each.content for each in producer.load("grown", 2_000)]
        assert said == [str(number) for number in range(600)]


@pytest.mark.usefixtures("worker")
def test_a_conversation_comes_before_what_is_said_meanwhile(
    settings: Settings, server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_BATCH_MESSAGES", 101)
    path, options, key = nanobot(tmp_path, "living", 350), Options(), "nanobot_living"
    numbers = [str(number) for number in range(350)]
    with Producer(server_url, settings.queue) as producer:
        producer.append(key, ChatMessage.user("now"), session={"name": "N"})
        with Breaks(server_url, settings.queue) as broken, pytest.raises(KeyboardInterrupt):
            import_through_queue([path], broken, options, watch)
        producer.append(key, ChatMessage.user("meanwhile"))
        assert len(producer.load(key, 1_000)) == 203
        report = import_through_queue([path], producer, options, watch)
        assert report == ImportReport(messages=149, extended=1)
        said = [each.content for each in producer.load(key, 1_000)]
        assert said == [*numbers, "now", "meanwhile"]
        info = producer.session(key)
        assert info is not None
        assert info.created_at.timestamp() == AT
        assert import_through_queue([path], producer, options, watch) == ImportReport(known=1)
        assert len(producer.load(key, 1_000)) == 352

        producer.describe(key, channel="telegram")
        producer.close_session(key, ack="stored")
        grown = nanobot(tmp_path, "living", 351)
        report = import_through_queue([grown], producer, options, watch)
        assert "is closed" in report.refused[0]
        path = samples.document({**samples.DISCORD, "channel": {"id": "living"}})(tmp_path)
        report = import_through_queue([path], producer, Options("nanobot_"), watch)
        assert "of telegram: give --key-prefix" in report.refused[0]


@pytest.mark.usefixtures("worker")
def test_an_export_goes_through_the_queue_with_what_an_append_can_give(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    at = 1767225600000000
    edit = {"role": "user", "content": "old", "replaced_at": at}
    begun = {"created_at": at, "last_activity": at}
    lines: list[Any] = [
        {"backscroll_export": 1},
        {
            "session": {"key": "own", **begun, "name": "N", "state": "running", "closed": True,
                        "forked_from": "other"},
            "states": {"default": {"value": 1, "version": 1}},
        },
        *({"role": "user", "content": f"{n}", "message_id": f"m{n}", "created_at": at,
           **({"edits": [edit]} if n == 0 else {})} for n in range(600)),
        {"end": 600},
        {"session": {"key": "empty", **begun}},
        {"end": 0},
    ]  # fmt: skip
    path = samples.log(lines)(tmp_path)
    said = look_through_queue([path], Options(), watch)
    with Producer(server_url, settings.queue) as producer:
        report = import_through_queue([path], producer, Options(), watch)
        info = producer.session("own")
    assert said == report
    assert (report.sessions, report.messages, report.known, report.refused) == (1, 600, 0, [])
    assert [line.partition(": ")[2] for line in report.left_out] == ["has no messages"]
    assert set(report.not_kept.values()) == {1}
    assert len(report.not_kept) == 3
    assert info is not None
    assert (info.message_count, info.name, info.closed, info.state) == (600, "N", True, "idle")


@pytest.mark.usefixtures("worker")
def test_what_is_too_large_for_the_queue_is_said_before_anything_is_sent(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    large = "x" * (1024 * 1024 + 1)
    chat, other = tmp_path / "chat.json", tmp_path / "other.jsonl"
    said = [{**each, "text": large} for each in samples.TELEGRAM["messages"][1:2]]
    messages = [*said, *samples.TELEGRAM["messages"][2:]]
    chat.write_bytes(orjson.dumps({**samples.TELEGRAM, "messages": messages}))
    lines = export(tmp_path, "large", 600).read_bytes()
    other.write_bytes(lines.replace(b'"599"', b'"' + large.encode() + b'"'))
    paths = [chat, other, chat]
    report = look_through_queue(paths, Options(), watch)
    with Producer(server_url, settings.queue) as producer:
        assert import_through_queue(paths, producer, Options(), watch) == report
        assert producer.session("large") is None
    assert (report.sessions, report.messages, report.known) == (1, 1, 1)
    assert len(report.left_out) == 2
    assert "the limit is 1,048,576" in report.refused[0]
    result = run(settings, "import", "--through-queue", "--dry-run", str(other))
    assert "the limit is 1,048,576" in result.stderr


@pytest.mark.usefixtures("worker")
def test_a_summary_goes_up_to_the_same_message_through_the_queue(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    at = 1767225600000000
    ids = [new_op_id() for _ in range(600)]
    said: list[Any] = [
        {"role": "user", "content": f"{number}", "message_id": id_, "created_at": at}
        for number, id_ in enumerate(ids)
    ]
    said[-2] |= {"content": "in short", "upto": ids[-4]}
    begun = {"created_at": at, "last_activity": at}
    lines = [{"backscroll_export": 1}, {"session": {"key": "long", **begun}}, *said, {"end": 600}]
    path = samples.log(lines)(tmp_path)
    with Producer(server_url, settings.queue) as producer:
        import_through_queue([path], producer, Options(), watch)
        active = producer.load("long", active=True)
        stored = producer.load("long")
    assert [each.content for each in active] == ["in short", "597", "599"]
    assert active[0].upto == stored[-4].message_id


def test_a_text_goes_through_the_queue_without_the_picture_that_is_too_large(
    tmp_path: Path,
) -> None:
    picture = {"type": "input_image", "image_url": f"data:{'x' * 2_000_000}"}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Look"}, picture]},
        {"role": "user", "content": [picture]},
    ]
    path = samples.database("agent_messages", "message_data", items, samples.TIME)(tmp_path)
    report = look_through_queue([path], Options(), watch)
    assert (report.messages, len(report.left_out)) == (1, 1)
    assert report.not_kept == {"what messages of more than 1 MiB have beside their text": 1}
