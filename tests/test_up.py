"""`backscroll up`: everything in one terminal, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.ops.server import RunningServer
from backscroll_worker.ops.socket_place import socket_path
from backscroll_worker.ops.supervisor import Part, Supervisor
from backscroll_worker.ops.up import PROCESSES, environment
from backscroll_worker.settings import Settings
from tests.processes import wait_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_it_runs_what_the_procfile_names() -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()
    named = dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    assert named == PROCESSES


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def commands_under(directory: Path) -> dict[int, str]:
    """The other processes that `directory` was given to, or that are in it: their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_bytes()
            place = os.fsencode((process / "cwd").readlink())  # the server's, whose title is short
            if os.fsencode(directory) in command + (process / "environ").read_bytes() + place:
                found[int(process.name)] = command.decode(errors="replace")
    found.pop(os.getpid(), None)
    return found


def pid_of(directory: Path, word: str) -> int:
    """The process under `directory` whose command line has `word`."""
    return next(pid for pid, command in commands_under(directory).items() if word in command)


def read_until(process: subprocess.Popen[bytes], *words: bytes) -> bytes:
    """What it writes until all of `words` were in it."""
    assert process.stderr is not None
    seen = b""
    while not all(word in seen for word in words):
        line = process.stderr.readline()
        assert line, seen.decode()
        seen += line
    return seen


Up = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Starts `backscroll up`; it has a dashboard only where a test asks for one."""
    started: list[subprocess.Popen[bytes]] = []
    taken = socket.create_server(("127.0.0.1", 0))

    def start(*until: bytes, dashboard: bool = False) -> subprocess.Popen[bytes]:
        port = free_port() if dashboard else taken.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, "-m", "backscroll_worker.cli", "--data-dir", str(tmp_path), "up"],
            env={**os.environ, "BACKSCROLL_DASHBOARD_PORT": str(port)},
            stdout=(tmp_path / "said").open("wb"),
            stderr=subprocess.PIPE,
        )
        started.append(process)
        read_until(process, *(until or (b"storing queue",)))
        return process

    with taken:
        yield start
    for process in started:  # before its parts, which it would start again
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
    for pid in commands_under(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> str:
    """What it says once it is to end, which is that each of its parts has ended well."""
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said.decode()
    for name in ("worker", "scheduler"):
        assert f"{name:<9} | stopped (rc=0)" in said.decode()
    return str(said.decode())


def url_in(directory: Path) -> str:
    return f"unix://{socket_path(directory / 'server')}"


def test_ctrl_c_stops_every_part_and_each_is_said_to_have_ended_well(
    up: Up, tmp_path: Path
) -> None:
    process = up(b"storing queue", b"registering birth", b"dashboard: http", dashboard=True)
    with Producer(url_in(tmp_path), timeout_seconds=60) as producer:
        producer.append("k", ChatMessage.user("hi"), ack="stored")  # the worker is at work
    assert len(commands_under(tmp_path)) >= 5  # up, server, worker, scheduler, dashboard
    assert "dashboard | stopped (rc=0)" in end(process, signal.SIGINT)
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")


def test_when_nobody_reads_its_output_any_more_it_stops(up: Up, tmp_path: Path) -> None:
    process = up()
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 0
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")


def test_a_part_that_is_killed_starts_again_and_sigterm_stops_all(up: Up, tmp_path: Path) -> None:
    ready = {"worker": b"storing queue", "scheduler": b"registering birth"}
    process = up(*ready.values(), b"dashboard: http", dashboard=True)
    with Producer(url_in(tmp_path), timeout_seconds=60) as producer:
        for name in PROCESSES:
            words = [word for word in ("valkey-server", *PROCESSES) if word != name]
            others = [pid_of(tmp_path, word) for word in words]
            os.kill(pid_of(tmp_path, f"backscroll\0{name}"), signal.SIGKILL)
            said = read_until(process, ready.get(name, b"dashboard: http"))
            assert f"{name:<9} | stopped (rc=-9)" in said.decode()
            assert others == [pid_of(tmp_path, word) for word in words]
            assert producer.append("k", ChatMessage.user("hi"), ack="stored").affected == 1
    assert "dashboard | stopped (rc=0)" in end(process)
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")


def test_a_killed_server_starts_again_with_its_data_and_sighup_stops_all(
    up: Up, tmp_path: Path
) -> None:
    process = up(b"storing queue", b"registering birth")
    with Producer(url_in(tmp_path), timeout_seconds=30) as producer:
        producer.append("k", ChatMessage.user("hi"), ack="stored")
        os.kill(pid_of(tmp_path, "valkey-server"), signal.SIGKILL)
        read_until(process, b"server    | started")
        producer.append("k", ChatMessage.user("hi"), ack="stored")
        assert len(producer.load("k")) == 2
    end(process, signal.SIGHUP)
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")


def test_a_taken_port_is_reported_first_and_costs_only_the_dashboard(
    up: Up, tmp_path: Path
) -> None:
    process = up(b"storing queue", b"registering birth")
    said = (tmp_path / "said").read_text()
    assert re.search(r"not started: cannot listen on 127\.0\.0\.1:\d+: Address already in", said)
    with Producer(url_in(tmp_path), timeout_seconds=60) as producer:
        assert producer.append("k", ChatMessage.user("hi"), ack="stored").affected == 1
    assert "dashboard" not in end(process)


def test_settings_that_cannot_be_used_end_it_with_their_code(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    environ = environment(settings, settings.redis_url or "")
    parts = [Part("worker", "backscroll worker --no-such-option", is_essential=True)]
    assert Supervisor(parts, environ).run(RunningServer("unnamed")) == ExitCode.USAGE
    assert "not restarted" in capfd.readouterr().err


def test_a_program_that_is_missing_for_a_while_stops_no_other(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [
        Part("worker", "no-such-program", is_essential=True),
        Part("scheduler", "backscroll scheduler --no-such-option", is_essential=True),
    ]
    environ = environment(settings, settings.redis_url or "")
    assert Supervisor(parts, environ).run(RunningServer("unnamed")) == ExitCode.USAGE
    said = capfd.readouterr().err
    assert "cannot be started: [Errno 2] No such file or directory" in said
    assert "scheduler | started" in said


def test_one_whose_server_was_anothers_takes_it_over(up: Up, tmp_path: Path) -> None:
    first = up(b"storing queue", b"registering birth")
    second = up(b"waiting as its standby", b"registering birth")
    end(first)
    with Producer(url_in(tmp_path), timeout_seconds=30) as producer:
        assert producer.append("k", ChatMessage.user("hi"), ack="stored").affected == 1
    end(second)
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")


def test_a_server_whose_starter_was_killed_is_stopped_with_the_next_one(
    up: Up, tmp_path: Path
) -> None:
    first = up()
    parts = [pid_of(tmp_path, f"backscroll\0{name}") for name in ("worker", "scheduler")]
    for process in (first.pid, *parts):
        os.kill(process, signal.SIGKILL)
    first.wait()
    end(up(b"storing queue", b"registering birth"))
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")


@pytest.mark.parametrize(("command", "number"), [("up", signal.SIGTERM), ("worker", signal.SIGHUP)])
def test_a_signal_while_the_server_starts_leaves_none_behind(
    command: str, number: signal.Signals, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "backscroll_worker.cli", "--data-dir", str(tmp_path), command]
    with subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: "valkey-server" in str(commands_under(tmp_path)), "the server")
        process.send_signal(number)
        assert process.wait(60) == 0
    wait_for(lambda: not commands_under(tmp_path), "all processes to end")
