"""How a command ends when something is wrong: one line, and the exit code that names it."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis
from click.testing import CliRunner

from backscroll_worker.cli import main
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import done, in_terminal, options, run, work_off
from tests.processes import running_worker, spawn, wait_for


def fails_with_one_line(settings: Settings, *arguments: str) -> tuple[int, str]:
    result = run(settings, *arguments)
    assert result.stdout == ""
    assert result.stderr.startswith("backscroll: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("append", "", "user", "a"), "key"),
        (("append", "k" * 513, "user", "a"), "512"),
        (("append", "a\nb", "user", "a"), "key"),
        (("append", "k", "", "a"), "role"),
        (("append", "k", "user", "a", "--extra", "{"), "extra"),
        (("append", "k", "user", "a", "--extra", "[]"), "extra"),
        (("append", "k", "user", "\udcff"), "content"),
        (("append", "k", "user", "x" * 1_100_000), "1,048,576"),
        (("describe", "k"), "attributes"),
        (("describe", "k", "--name", ""), "name"),
        (("failed", "requeue", "nothing"), "nothing"),
        (("failed", "discard", "nothing", "--yes"), "nothing"),
        (("migrate", "/nowhere/at/all"), "/nowhere/at/all"),
    ],
)
def test_bad_input_is_named_and_nothing_is_enqueued(
    settings: Settings, server_url: str, arguments: tuple[str, ...], named: str
) -> None:
    code, line = fails_with_one_line(settings, *arguments)
    assert (code, named in line) == (ExitCode.USAGE, True), line
    assert redis.Redis.from_url(server_url).keys("*") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("backup", "x" * 300),
        ("backup", "\udcff"),
        ("backup", "/dev/null/x"),
        ("migrate", "x" * 300),
        ("import", "x" * 300),
        ("export", "--output", "x" * 300),
        ("--store", "sqlite://" + "x" * 300, "sessions"),
        ("--store", "jsonl:///x/\udcff", "sessions"),
        ("--data-dir", "x" * 300, "sessions"),
        ("--data-dir", "/dev/null/x", "worker", "--burst"),
        ("--data-dir", "\udcff", "worker", "--burst"),
    ],
)
def test_a_path_that_can_be_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_tested("sqlite://b.db"):
        pass
    given = ["--data-dir", str(tmp_path), "--store", "sqlite://b.db"]
    result = CliRunner().invoke(main, [*given, *arguments])
    assert result.exit_code in (ExitCode.FAILED, ExitCode.USAGE, ExitCode.SERVER)
    assert result.stderr.count("\n") == 1, result.stderr
    assert "unexpected" not in result.stderr


def test_a_file_whose_name_is_not_text_can_be_named_in_json(settings: Settings) -> None:
    result = run(settings, "import", "\udcff", "--json")
    assert result.exit_code == ExitCode.FAILED
    assert "\\udcff" in orjson.loads(result.stdout)["refused"][0]


def test_standard_input_that_is_not_text_is_refused(settings: Settings) -> None:
    result = run(settings, "append", "k", "user", "-", given=b"a\xff")
    assert (result.exit_code, result.stderr) == (
        ExitCode.USAGE,
        "backscroll: content: standard input is not valid UTF-8 at byte 1\n",
    )


@pytest.mark.parametrize("command", ["append", "replace"])
def test_standard_input_that_is_empty_is_refused(
    settings: Settings, client: redis.Redis, command: str
) -> None:
    code, line = fails_with_one_line(settings, command, "k", "user", "-")
    assert (code, "content: standard input is empty" in line) == (ExitCode.USAGE, True)
    assert client.keys("*") == []
    done(settings, command, "k", "user", "")
    assert client.llen("rq:queue:backscroll") == 1


@pytest.mark.parametrize(
    "options",
    [
        ["--redis-url", "http://localhost"],
        ["--queue", "a b"],
        ["--store", "postgres://x"],
    ],
)
def test_a_wrong_setting_is_named(settings: Settings, options: list[str]) -> None:
    code, line = fails_with_one_line(settings, *options, "sessions")
    assert code == ExitCode.USAGE
    assert options[1] in line


def test_an_absent_server_is_named_without_its_password(settings: Settings) -> None:
    away = replace(settings, redis_url="redis://me:secret@127.0.0.1:1/0")
    for arguments in (("sessions",), ("stats",), ("failed", "list"), ("worker", "--burst")):
        code, line = fails_with_one_line(away, *arguments)
        assert code == ExitCode.SERVER
        assert "redis://me:***@127.0.0.1:1/0" in line
        assert "secret" not in line


def test_an_embedded_server_that_is_not_running_is_told_as_that(settings: Settings) -> None:
    code, line = fails_with_one_line(replace(settings, redis_url=None), "stats")
    assert code == ExitCode.SERVER
    assert "backscroll up" in line


def test_a_store_that_is_none_has_its_own_exit_code(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "backscroll.db").write_text("this is no database " * 100)
    result = run(settings, "sessions")
    assert result.exit_code == ExitCode.STORE
    assert "backscroll.db" in result.stderr


def test_a_full_queue_has_its_own_exit_code(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BACKSCROLL_MAX_QUEUE_DEPTH", "1")
    done(settings, "append", "k", "user", "a")
    code, line = fails_with_one_line(settings, "append", "k", "user", "b")
    assert code == ExitCode.QUEUE_FULL
    assert "full" in line


def test_what_the_worker_refuses_has_its_own_exit_code(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    with (
        redis.Redis.from_url(server_url) as client,
        running_worker(settings, client, tmp_path / "worker.log"),
    ):
        done(settings, "append", "k", "user", "a", "--wait")
        code, line = fails_with_one_line(settings, "load", "k", "--before", "unknown")
    assert code == ExitCode.REFUSED
    assert "unknown" in line


def test_debug_shows_the_traceback_and_keeps_the_exit_code(settings: Settings) -> None:
    result = run(settings, "--debug", "append", "", "user", "a")
    assert result.exit_code == ExitCode.USAGE
    assert "Traceback" in result.stderr


def test_an_unexpected_error_is_one_line_that_leads_to_debug(
    settings: Settings, server_url: str
) -> None:
    client = redis.Redis.from_url(server_url)
    client.sadd("rq:workers:backscroll", "rq:worker:w")
    heartbeat = "2026-01-01T00:00:00.000000Z"
    client.hset(
        "rq:worker:w", mapping={"last_heartbeat": heartbeat, "successful_job_count": "many"}
    )
    code, line = fails_with_one_line(settings, "stats")
    assert code == ExitCode.INTERNAL
    assert "many" in line
    assert "--debug" in line
    assert "Traceback" in run(settings, "--debug", "stats").stderr


@pytest.mark.parametrize("missing", ["apsw", "click", "peewee", "rich"])
def test_without_the_worker_extra_one_line_says_what_to_install(missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from backscroll_worker.cli import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert ended.returncode == ExitCode.USAGE
    assert ended.stderr.count("\n") == 1
    assert "pip install 'backscroll[worker]'" in ended.stderr


def test_without_the_ops_extra_dashboard_says_what_to_install(settings: Settings) -> None:
    code = (
        "import sys; sys.modules['waitress'] = None; from backscroll_worker.cli import main; main()"
    )
    command = [sys.executable, "-c", code, *options(settings), "dashboard"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == ExitCode.USAGE
    assert "pip install 'backscroll[ops]'" in ended.stderr


def test_ctrl_c_ends_a_wait_quietly(settings: Settings, server_url: str, tmp_path: Path) -> None:
    client = redis.Redis.from_url(server_url)
    with running_worker(settings, client, tmp_path / "worker.log") as worker:
        worker.send_signal(signal.SIGSTOP)
        command = [sys.executable, "-m", "backscroll_worker.cli", *options(settings), "compact"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # A frozen worker that was waiting for a job is handed it by the server.
        waiting = ("rq:queue:backscroll", "rq:queue:backscroll:intermediate")
        wait_for(lambda: client.exists(*waiting), "the operation on the queue")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (ExitCode.INTERRUPTED, b"")


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", ExitCode.FAILED), (b"y\n", ExitCode.OK)])
def test_a_terminal_is_asked_before_something_is_deleted(
    settings: Settings, server_url: str, answer: bytes, code: ExitCode
) -> None:
    ended, shown = in_terminal(settings, "delete", "k", typed=answer)
    assert ended == code
    assert "Delete 'k' with everything in it?" in shown
    depth: Any = redis.Redis.from_url(server_url).llen("rq:queue:backscroll")
    assert depth == (1 if code == ExitCode.OK else 0)


def test_a_worker_that_waits_as_standby_says_so_in_one_dated_line(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(server_url)
    log = tmp_path / "standby.log"
    with running_worker(settings, client, tmp_path / "worker.log") as first:
        standby = spawn(settings, "worker", log=log)
        wait_for(lambda: "standby" in log.read_text(), "the standby's line")
        standby.kill()
        standby.wait()
        (line,) = log.read_text().splitlines()
        assert str(first.pid) in line
        assert line[:4].isdigit()


def test_a_forged_log_line_stays_inside_its_own(
    settings: Settings, server_url: str, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(server_url)
    client.rpush("rq:queue:backscroll", "no-job\n2026 INFO forged\x1b[2J")
    work_off(settings, tmp_path)
    log = (tmp_path / "burst.log").read_text()
    assert "no-job 2026 INFO forged" in log
    assert "\x1b" not in log
