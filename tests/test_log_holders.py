"""Another program that keeps SQLite's log is reported, by `compact` and by `check`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import orjson
import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll.contract.answers import answered_compact
from backscroll.contract.results import CompactReport
from backscroll_worker.contract.pacing import finish
from backscroll_worker.ops.log_holders import held_log
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from backscroll_worker.stores import store_at
from backscroll_worker.stores.sqlite.maintenance import compaction
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import document, run
from tests.prepared import Prepared
from tests.processes import wait_for, workers

HOLDER: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute(sys.argv[2]) if sys.argv[2] else None
connection.execute("SELECT count(*) FROM messages").fetchall()
print("reads", flush=True)
sys.stdin.read()
"""
IMPATIENT_WORKER: Final = """
from backscroll_worker.stores.sqlite.maintenance import compaction
from backscroll_worker.cli import main
compaction.PATIENCE_SECONDS = 0.1
main()
"""


@contextmanager
def program(settings: Settings, statement: str) -> Iterator[int]:
    """Another program that has the store open, as Litestream or a shell does; its process."""
    path = str(store_at(settings.store).path)
    pipe = subprocess.PIPE
    with Prepared(["-c", HOLDER, path, statement], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"reads\n"
        try:
            yield process.pid
        finally:
            process.stdin.close()


@contextmanager
def impatient_worker(settings: Settings, client: redis.Redis, log: Path) -> Iterator[None]:
    assert settings.redis_url is not None
    with log.open("ab") as output:
        process = Prepared(
            ["-c", IMPATIENT_WORKER, "worker"],
            env=environment(settings, settings.redis_url),
            stdout=output,
            stderr=output,
        )
    try:
        wait_for(lambda: workers(client, settings.queue), "the worker")
        yield
    finally:
        process.kill()
        process.wait()


def fill(settings: Settings) -> None:
    with open_tested(settings.store) as store:
        for number in range(50):
            store.append("k", ChatMessage.user(f"{number} " * 1_000))


def log_check(settings: Settings) -> dict[str, str]:
    checks = orjson.loads(run(settings, "check", "--json").stdout)
    found = [one for one in checks if (one["area"], one["name"]) == ("store", "log")]
    return found[0] if found else {}


def test_compaction_reports_a_program_that_keeps_the_log_check_names_it(
    settings: Settings, client: redis.Redis, producer: Producer, log: Path
) -> None:
    fill(settings)
    with impatient_worker(settings, client, log):
        assert log_check(settings) == {}
        with program(settings, "BEGIN") as process:
            producer.delete("k", ack="stored")
            held = run(settings, "compact", "--json")
            found = log_check(settings)
        assert orjson.loads(held.stdout)["log_is_held"] is True
        assert "keeps SQLite's log" in held.stderr
        wait_for(lambda: "another program keeps SQLite's log" in log.read_text(), "its log's line")
        assert found["level"] == "warning"
        assert f"process {process} (" in found["detail"]
        assert "compact" in found["advice"]
        assert document(settings, "compact")["log_is_held"] is False


def test_what_a_held_log_kept_back_is_given_back_by_the_next_compaction(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "PATIENCE_SECONDS", 0.1)
    fill(settings)
    with open_tested(settings.store) as store:
        with program(settings, "BEGIN"):
            store.delete("k")
            held = finish(store.compact(168))
        freed = finish(store.compact(168))
    assert held.log_is_held
    assert held.bytes_after >= held.bytes_before
    assert not freed.log_is_held
    assert freed.bytes_after < held.bytes_before / 2


@pytest.mark.parametrize("statement", ["", "PRAGMA query_only = 1"])
def test_a_program_that_only_has_the_store_open_is_no_finding(
    settings: Settings, statement: str
) -> None:
    fill(settings)
    with program(settings, statement):
        assert held_log(settings.store) is None


def test_a_log_that_has_grown_long_is_a_finding_whoever_keeps_it(settings: Settings) -> None:
    fill(settings)
    path = Path(settings.store.removeprefix("sqlite://"))
    with path.with_name(f"{path.name}-wal").open("ab") as file:
        file.truncate(100 << 20)
    assert "grown to 100 MiB" in (held_log(settings.store) or "")


def test_a_jsonl_store_has_no_such_log(tmp_path: Path) -> None:
    assert held_log(f"jsonl://{tmp_path}") is None


def test_the_report_of_an_older_worker_is_still_read() -> None:
    report = CompactReport(9, 8, 7, 6, 5.0, log_is_held=True)
    sent = orjson.loads(orjson.dumps(report))
    assert answered_compact(sent) == report
    del sent["log_is_held"]
    assert answered_compact(sent) == CompactReport(9, 8, 7, 6, 5.0)
