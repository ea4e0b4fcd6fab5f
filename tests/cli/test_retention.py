"""Cleanup by rules, the archive and restoring, through a worker and the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from rq.registry import FailedJobRegistry

from backscroll import ChatMessage, OperationRefusedError, Producer
from backscroll_worker.archive.directory import Archive
from backscroll_worker.contract.pacing import now_micros
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.health import check
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, done, in_terminal, run, without_styles
from tests.processes import contents, running_worker, spawn

RULES = """
[default]
ttl = "30d"
[[rule]]
room = "legal-*"
ttl = "forever"
keep_messages = 3
"""
DAY = 24 * 3_600_000_000


@pytest.fixture
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "retention.toml"
    path.write_text(RULES)
    monkeypatch.setenv("BACKSCROLL_RETENTION", str(path))
    return path


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    path = tmp_path / "archive"
    monkeypatch.setenv("BACKSCROLL_ARCHIVE", str(path))
    return Archive(path)


@pytest.fixture
def aged(settings: Settings) -> Settings:
    """A store with sessions that were active forty days ago, and now."""
    past = now_micros() - 40 * DAY
    for moment, keys in ((past, ("old", "legal", "older")), (now_micros(), ("fresh",))):
        with open_tested(settings.store, clock=lambda moment=moment: moment) as store:  # type: ignore[misc]
            for key in keys:
                store.append(key, *(ChatMessage.user(f"{key} {number}") for number in range(5)))
    with open_tested(settings.store) as store:
        store.describe("legal", room="legal-7")
    return settings


@pytest.fixture
def worker(
    aged: Settings, rules: Path, archive: Archive, client: redis.Redis, log: Path
) -> Iterator[Settings]:
    with running_worker(aged, client, log):
        yield aged


def failed(client: redis.Redis) -> list[Any]:
    return FailedJobRegistry("backscroll", connection=client).get_job_ids(cleanup=False)


def test_a_dry_run_shows_what_would_go_and_why(worker: Settings) -> None:
    code, shown = in_terminal(worker, "cleanup", "--dry-run", columns=100)
    lines = [line.split() for line in without_styles(shown).splitlines()]
    assert code == ExitCode.OK
    assert ["rule", "sessions", "messages", "capped"] in lines
    assert ["default", "2", "10", "0"] in lines
    assert ["room=legal-*", "0", "0", "2"] in lines
    assert ["old", "default", "40", "d", "5"] in lines
    assert ["legal", "room=legal-*", "40", "d", "2", "the", "oldest", "only"] in lines
    assert "would delete 2 sessions with 10 messages, and 2 messages of other sessions" in shown
    report = document(worker, "cleanup", "--dry-run")
    assert {
        "key": "old", "rule": "default", "messages": 5, "is_whole": True,
    }.items() <= report["details"][0].items()  # fmt: skip
    assert report["details"][0]["idle_hours"] == pytest.approx(960, abs=0.1)
    assert {"rule": "room=legal-*", "sessions": 0, "messages": 0, "capped": 2} in report["rules"]
    assert len(contents(worker, "old")) == 5


def test_what_cleanup_took_is_listed_and_comes_back(worker: Settings, archive: Archive) -> None:
    assert "deleted 2 sessions with 10 messages" in done(worker, "cleanup")
    assert contents(worker, "old") == []
    listed = document(worker, "restore", "--list")
    assert [(entry["sessions"], entry["messages"], entry["damage"]) for entry in listed] == [
        (3, 12, None)
    ]
    assert listed[0]["keys"] == {"old": 5, "older": 5, "legal": 2}
    assert listed[0]["file"] == archive.files()[0].name
    shown = done(worker, "restore", "--list", "legal")
    assert [line.split() for line in shown.splitlines()][-1][:2] == ["legal", "2"]
    said = run(worker, "restore", "old", "legal", "--from", listed[0]["file"])
    assert said.stdout == "restored 5 messages to old\nrestored 2 messages to legal\n"
    assert "--pin" in said.stderr
    assert contents(worker, "old") == [f"old {number}" for number in range(5)]
    assert contents(worker, "legal") == [f"legal {number}" for number in range(5)]


def test_what_is_there_already_is_not_restored_to_an_empty_session(worker: Settings) -> None:
    done(worker, "cleanup")
    done(worker, "restore", "old")
    again = run(worker, "restore", "old", "--as", "old/copy")
    said = "restored nothing of old: its 5 messages are already in the store\n"
    assert (again.stdout, again.stderr) == (said, "")
    again = run(worker, "restore", "old", "--as", "old/copy", "--pin", "--json")
    (report,) = orjson.loads(again.stdout)
    assert (report["messages"], report["present"]) == (0, 5)
    keys = {info["key"] for info in document(worker, "sessions")["sessions"]}
    assert keys == {"old", "legal", "fresh"}
    done(worker, "rollback", "old", "--wait")
    partly = done(worker, "restore", "old")
    assert partly == "restored 1 message to old; 4 messages were already in the store\n"


def test_what_is_refused_while_somebody_waits_is_not_left_to_be_looked_at(
    worker: Settings, rules: Path, client: redis.Redis
) -> None:
    refused = run(worker, "restore", "nobody")
    assert refused.exit_code == ExitCode.REFUSED
    assert "the archive has no session 'nobody'" in refused.stderr
    rules.write_text(RULES.replace('"forever"', '"for ever"'))
    refused = run(worker, "cleanup", "--dry-run")
    assert refused.exit_code == ExitCode.REFUSED
    assert "rule 1, ttl: 'for ever'" in refused.stderr
    assert failed(client) == client.keys("rq:job:*") == []
    assert run(worker, "cleanup").exit_code == ExitCode.REFUSED
    assert len(failed(client)) == 1


def test_a_ttl_given_by_hand_is_asked_about_first(aged: Settings, client: redis.Redis) -> None:
    for hours in ("0", "0.01", "720"):
        unasked = run(aged, "cleanup", "--ttl-hours", hours)
        assert unasked.exit_code == ExitCode.USAGE
        assert "--yes" in unasked.stderr
    code, shown = in_terminal(aged, "cleanup", "--ttl-hours", "0.01", typed=b"n\n")
    question = " ".join(shown.split())
    assert code == ExitCode.FAILED
    assert "idle for over 0.01 hours" in question
    assert "BACKSCROLL_ARCHIVE is not set here" in question
    assert client.keys("rq:job:*") == []


@pytest.mark.usefixtures("archive")
def test_the_question_about_a_ttl_knows_of_the_archive(worker: Settings) -> None:
    code, shown = in_terminal(worker, "cleanup", "--ttl-hours", "900", typed=b"y\n")
    assert code == ExitCode.OK
    assert "BACKSCROLL_ARCHIVE is set here" in " ".join(shown.split())
    assert "deleted 2 sessions with 10 messages" in shown


def test_a_cleanup_that_has_no_rule_names_the_setting(
    aged: Settings, client: redis.Redis, log: Path
) -> None:
    with running_worker(aged, client, log):
        result = run(aged, "cleanup")
    assert result.exit_code == ExitCode.OK
    assert "deleted 0 sessions" in result.stdout
    assert "see BACKSCROLL_TTL_HOURS" in result.stderr


def test_an_adapter_can_restore_too(worker: Settings) -> None:
    done(worker, "cleanup")
    with Producer(worker.redis_url, timeout_seconds=60) as producer:
        report = producer.restore("old", pin=True)
        assert (report.key, report.messages, report.present) == ("old", 5, 0)
        session = producer.session("old")
        assert session is not None
        assert session.pinned
        assert producer.cleanup().sessions == 0


def test_wrong_use_of_restore_is_told_before_anything_is_sent(settings: Settings) -> None:
    for arguments in (("restore",), ("restore", "a", "b", "--as", "c"), ("restore", "--list")):
        assert run(settings, *arguments).exit_code == ExitCode.USAGE


def test_a_damaged_archive_is_found_by_check_and_list_and_not_restored(
    worker: Settings, archive: Archive
) -> None:
    done(worker, "cleanup")
    (file,) = archive.files()
    content = file.data.read_bytes()
    file.data.write_bytes(content[:-20])
    listing = run(worker, "restore", "--list")
    assert listing.exit_code == ExitCode.FAILED
    assert "damaged" in listing.stdout
    assert "its SHA-256 is not the manifest's" in listing.stderr
    restoring = run(worker, "restore", "old")
    assert restoring.exit_code == ExitCode.REFUSED
    assert "is damaged" in restoring.stderr
    assert worker.redis_url is not None
    known = replace(worker, archive=archive.directory)
    problems = [one for one in check(known, worker.redis_url) if one.name == "archive"]
    assert [one.level for one in problems] == ["problem"]
    file.data.write_bytes(content)
    problems = [one for one in check(known, worker.redis_url) if one.name == "archive"]
    assert [(one.level, one.detail) for one in problems] == [("ok", "1 checked, none is damaged")]


def test_rules_that_went_wrong_fail_the_cleanup_and_delete_nothing(
    worker: Settings, rules: Path, client: redis.Redis
) -> None:
    rules.write_text(RULES.replace('"forever"', '"for ever"'))
    with Producer(worker.redis_url, timeout_seconds=60) as producer:
        for ttl_hours in (None, 1):
            with pytest.raises(OperationRefusedError, match="rule 1, ttl: 'for ever'"):
                producer.cleanup(ttl_hours)
        assert len(failed(client)) == 2
        assert len(contents(worker, "old")) == 5
        assert producer.append("fresh", ChatMessage.user("goes on"), ack="stored").affected == 1
        rules.write_text(RULES)
        assert producer.cleanup(0, dry_run=True).keys == ("old", "older", "fresh")
        assert producer.cleanup().sessions == 2
    assert worker.redis_url is not None
    rules.write_text("[[rule]]")
    known = replace(worker, retention=rules)
    (found,) = [one for one in check(known, worker.redis_url) if one.name == "rules"]
    assert found.level == "problem"
    assert str(rules) in found.detail


def test_a_worker_does_not_begin_with_wrong_rules(
    settings: Settings, rules: Path, log: Path
) -> None:
    rules.write_text("[[rule]]\nttl = 7")
    assert spawn(settings, "worker", log=log).wait(timeout=60) == ExitCode.USAGE
    assert f"BACKSCROLL_RETENTION: {rules}: rule 1" in log.read_text()


def test_an_unwritable_archive_fails_the_cleanup_but_not_the_worker(
    worker: Settings, archive: Archive, client: redis.Redis, log: Path
) -> None:
    archive.directory.parent.mkdir(exist_ok=True)
    archive.directory.write_text("not a directory")
    with Producer(worker.redis_url, timeout_seconds=60) as producer:
        with pytest.raises(OperationRefusedError, match=r"the archive's .*Not a directory"):
            producer.cleanup()
        assert producer.append("old", ChatMessage.user("goes on"), ack="stored").affected == 1
        assert "the store fails" not in log.read_text(), "the worker did not pause for it"
        assert len(failed(client)) == 1
        assert len(contents(worker, "old")) == 6
        archive.directory.unlink()
        assert producer.cleanup().keys == ("older",)
