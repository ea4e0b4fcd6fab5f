"""`export`, `import` and `load --edits`, as somebody types them."""

from __future__ import annotations

import asyncio
from codecs import BOM_UTF8
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import orjson
import pytest
import redis

from backscroll import AsyncProducer, ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, done, in_terminal, options, run, without_styles
from tests.prepared import run_prepared
from tests.processes import running_worker
from tests.transfer.test_database import LATER_COLUMNS, describe, made, say


@pytest.fixture
def filled(settings: Settings) -> Settings:
    with open_tested(settings.store, keep_edits=True) as store:
        store.append("a", ChatMessage.user("first\x1b[2J"))
        store.replace("a", ChatMessage.user("second"))
        store.append("b", ChatMessage.user("other"))
        store.describe("b", channel="slack")
    return settings


@pytest.fixture
def empty(settings: Settings, tmp_path: Path) -> Settings:
    return replace(settings, store=f"jsonl://{tmp_path / 'other'}")


def test_an_export_is_imported_once(filled: Settings, empty: Settings, tmp_path: Path) -> None:
    path = tmp_path / "backup.jsonl"
    done(filled, "export", "--output", str(path))
    assert path.read_text() == done(filled, "export")
    shown = done(empty, "import", str(path))
    assert [line.split()[-1] for line in shown.splitlines()] == ["count", "2", "2", "0", "0", "0"]
    assert document(empty, "import", str(path)) == {
        "sessions": 0, "messages": 0, "extended": 0, "known": 2, "refused": [], "left_out": [],
        "not_kept": {}, "unlisted": {}, "assistants": 0,
    }  # fmt: skip
    assert done(empty, "export") == path.read_text()


def test_the_originals_database_is_imported_with_its_times_and_metadata(
    settings: Settings, tmp_path: Path
) -> None:
    path, moment = tmp_path / "sessions.db", datetime(2024, 5, 1, 12, tzinfo=UTC)
    at = moment.isoformat()
    with closing(made(path, len(LATER_COLUMNS))) as original:
        say(original, "k", ("user", "hello", at))
        describe(original, "k", created_at=at, last_activity=at, channel_id="irc")
        assert document(settings, "import", str(path))["sessions"] == 1
    with open_tested(settings.store, read_only=True) as store:
        session = store.session("k")
        assert session is not None
        assert (session.channel, session.last_activity) == ("irc", moment)
        assert [message.created_at for message in store.load("k")] == [moment]


def test_an_export_may_come_through_a_pipe(filled: Settings, empty: Settings) -> None:
    exported = done(filled, "export")
    assert "sessions                    2" in done(empty, "import", "-", given=exported)
    assert done(empty, "export") == exported


def test_sessions_are_chosen_by_name_and_filter(filled: Settings) -> None:
    assert done(filled, "export", "b", "--format", "openai") == (
        '{"messages":[{"role":"user","content":"other"}]}\n'
    )
    assert "other" in done(filled, "export", "--channel", "slack", "--format", "markdown")
    assert '"key"' not in done(filled, "export", "--until", "2020-01-01")
    result = run(filled, "export", "b", "nobody")
    assert result.exit_code == ExitCode.FAILED
    assert "no session 'nobody'\n" in result.stderr
    filtered = run(filled, "export", "nobody", "--until", "2020-01-01")
    assert "no session 'nobody' matches the filters" in filtered.stderr


_NEARLY_FULL: Final = """
import resource
from backscroll_worker.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
main()
"""


def test_an_output_that_cannot_be_written_leaves_what_was_there(
    filled: Settings, tmp_path: Path
) -> None:
    missing = run(filled, "export", "--output", str(tmp_path / "no" / "x"))
    assert missing.exit_code == ExitCode.FAILED
    assert "No such file or directory" in missing.stderr
    path = tmp_path / "full.html"
    path.write_text("before")
    with open_tested(filled.store) as store:
        store.append("large", ChatMessage.user("x" * 200_000))

    command = [*options(filled), "export", "--format", "html", "--output", str(path)]
    result = run_prepared("-c", _NEARLY_FULL, *command)
    assert result.returncode == ExitCode.FAILED, result.stderr
    assert "File too large" in result.stderr
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir() if "full" in each.name] == ["full.html"]


def test_a_bad_import_says_which_line_and_fails(empty: Settings, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"backscroll_export":1}\n{"session":{"key":"a"}}\n')
    result = run(empty, "import", str(path), str(tmp_path / "none"))
    assert result.exit_code == ExitCode.FAILED
    assert f"refused: {path}:2: created_at: is missing" in result.stderr
    assert f"{tmp_path / 'none'}: No such file" in result.stderr


def test_of_a_file_that_cannot_be_read_only_that_is_told(empty: Settings, tmp_path: Path) -> None:
    missing = run(empty, "import", str(tmp_path / "none"))
    assert (missing.exit_code, missing.stdout) == (ExitCode.FAILED, "")
    (line,) = missing.stderr.splitlines()
    assert line.endswith(f"{tmp_path / 'none'}: No such file or directory")
    nothing = tmp_path / "nothing.jsonl"
    nothing.write_text('{"backscroll_export":1}\n')
    assert "sessions" in done(empty, "import", str(nothing))
    other = run(empty, "import", str(nothing), str(tmp_path / "none"))
    assert (other.exit_code, "sessions refused" in other.stdout) == (ExitCode.FAILED, True)


def test_a_byte_order_mark_before_an_export_is_passed_over(
    filled: Settings, empty: Settings, tmp_path: Path
) -> None:
    exported = done(filled, "export").encode()
    path = tmp_path / "from-an-editor.jsonl"
    path.write_bytes(BOM_UTF8 + exported)
    assert document(empty, "import", str(path))["refused"] == []
    assert done(empty, "export").encode() == exported
    talk = b'{"messages":[{"role":"user","content":"hi"}]}\n'
    done(empty, "import", "--key-prefix", "p", "-", given=BOM_UTF8 + talk)
    assert document(empty, "load", "p1")[0]["content"] == "hi"


def test_an_import_does_not_go_past_a_worker(filled: Settings, tmp_path: Path) -> None:
    with open_tested(filled.store):
        result = run(filled, "import", str(tmp_path / "x"))
    assert result.exit_code == ExitCode.STORE
    assert "stop the worker, then import, or give --through-queue\n" in result.stderr


def test_long_work_has_a_bar_on_a_terminal(filled: Settings, tmp_path: Path) -> None:
    with open_tested(filled.store) as store:
        store.append("long", *(ChatMessage.user("x") for _ in range(5_000)))
    path = str(tmp_path / "backup.jsonl")
    code, shown = in_terminal(filled, "export", "--output", path)
    assert (code, "exporting" in without_styles(shown)) == (0, True)
    other = replace(filled, store=f"sqlite://{tmp_path / 'other.db'}")
    code, shown = in_terminal(other, "import", path)
    assert code == 0
    assert "importing" in without_styles(shown)
    assert "5,002" in shown


def test_where_the_store_is_elsewhere_the_worker_is_asked(
    filled: Settings, client: redis.Redis, tmp_path: Path
) -> None:
    with open_tested(filled.store) as store:
        store.append("long", *(ChatMessage.user(str(number)) for number in range(2_500)))
    with running_worker(filled, client, tmp_path / "worker.log"):
        away = replace(filled, store=f"sqlite://{tmp_path / 'nowhere.db'}")
        assert done(away, "export") == done(filled, "export")
        result = run(replace(away, queue="none"), "export")
        assert result.exit_code == ExitCode.NOT_CONFIRMED


async def loaded_async(settings: Settings) -> list[ChatMessage]:
    async with AsyncProducer(settings.redis_url) as history:
        return await history.load("k", include_edits=True)


def test_edits_are_kept_and_come_through_the_queue(
    settings: Settings,
    producer: Producer,
    client: redis.Redis,
    tmp_path: Path,
) -> None:
    settings = settings.with_options(keep_edits=True)
    with running_worker(settings, client, tmp_path / "worker.log"):
        producer.append("k", ChatMessage.user("a\x1b[2J"))
        producer.replace("k", ChatMessage.user("b"), ack="stored")
        (message,) = producer.load("k", include_edits=True)
        assert [edit.content for edit in message.edits] == ["a\x1b[2J"]
        assert producer.load("k")[0].edits == ()
        assert asyncio.run(loaded_async(settings)) == [message]
        shown = done(settings, "load", "k", "--edits")
        assert "until" in shown
        assert "a␛[2J" in shown
        (told,) = document(settings, "load", "k", "--edits")
        assert told["edits"][0]["content"] == "a\x1b[2J"
        assert "a␛" not in done(settings, "load", "k")


@pytest.fixture
def old_sessions(tmp_path: Path) -> Path:
    """What the original left: a session, one with a torn line, its database, and another's file."""
    directory = tmp_path / "old"
    directory.mkdir()
    line = b'{"role":"user","content":"hi"}\n'
    (directory / "a.jsonl").write_bytes(line)
    (directory / "b.jsonl").write_bytes(line + b'{"role":"us')
    (directory / "no key\x1b[2J\n.jsonl").write_bytes(line)
    (directory / "sessions.db").touch()
    return directory


def test_a_migration_says_what_it_took_and_what_it_left(
    settings: Settings, old_sessions: Path
) -> None:
    result = run(settings, "migrate", str(old_sessions))
    assert result.exit_code == ExitCode.FAILED
    assert result.stdout == "migrated 2 sessions with 2 messages\n"
    torn, report, refused, database = result.stderr.splitlines()
    assert torn == f"backscroll: skipped: {old_sessions}/b.jsonl:2"
    assert report.endswith(f"{old_sessions}/b.jsonl.migrated.report")
    assert "refused: " in refused
    assert "\x1b" not in refused
    assert "sessions.db was not read" in database
    assert "migrated 0 sessions" in run(settings, "migrate", str(old_sessions)).stdout


def test_a_migration_can_be_read_by_a_program(settings: Settings, old_sessions: Path) -> None:
    (old_sessions / "no key\x1b[2J\n.jsonl").unlink()
    result = run(settings, "migrate", str(old_sessions), "--json")
    assert result.exit_code == ExitCode.FAILED, "something was left out"
    assert orjson.loads(result.stdout) == {
        "sessions": 2, "messages": 2, "refused": [],
        "corrupt_lines": [f"{old_sessions}/b.jsonl:2"],
        "reports": [f"{old_sessions}/b.jsonl.migrated.report"],
    }  # fmt: skip
