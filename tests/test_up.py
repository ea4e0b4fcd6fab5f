"""`backscroll up`: everything in one terminal, and nothing left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from producer import ChatMessage, Producer
from tests.processes import wait_for
from worker.server import socket_path
from worker.up import PROCESSES

ROOT = Path(__file__).parent.parent


def test_it_runs_what_the_procfile_names() -> None:
    lines = (ROOT / "Procfile").read_text().splitlines()
    named = dict(line.split(": ", 1) for line in lines if line and not line.startswith("#"))
    assert named == PROCESSES


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def running_under(directory: Path) -> list[str]:
    """The command lines of processes whose environment or arguments name `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
        except OSError:
            continue
        if os.fsencode(directory) in told and int(process.name) != os.getpid():
            found.append(told[:80].decode(errors="replace"))
    return found


Up = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def up(tmp_path: Path) -> Up:
    def start(*until: bytes) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "--data-dir", str(tmp_path), "up"],
            env={**os.environ, "BACKSCROLL_DASHBOARD_PORT": str(free_port())},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        seen = b""
        while not all(line in seen for line in until or (b"storing queue",)):
            line = process.stderr.readline()
            assert line, seen.decode()
            seen += line
        return process

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_of_it(number: signal.Signals, up: Up, tmp_path: Path) -> None:
    process = up()
    assert len(running_under(tmp_path)) >= 5  # up, server, worker, scheduler, dashboard
    process.send_signal(number)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, rest.decode()
    wait_for(lambda: not running_under(tmp_path), "all processes to end")


def test_after_a_ctrl_c_each_part_is_said_to_have_ended_well(up: Up, tmp_path: Path) -> None:
    process = up(b"storing queue", b"registering birth", b"dashboard: http")
    with Producer(f"unix://{socket_path(tmp_path / 'server')}", timeout_seconds=20) as producer:
        producer.append("k", ChatMessage.user("hi"), ack="stored")  # the worker is at work
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=30)
    for name in PROCESSES:
        assert f"{name} stopped (rc=0)" in rest.decode()


def test_when_nobody_reads_its_output_any_more_it_stops(up: Up, tmp_path: Path) -> None:
    process = up()
    assert process.stderr is not None
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    wait_for(lambda: not running_under(tmp_path), "all processes to end")
