"""Runs `backscroll` in this process, or in a terminal of its own."""

from __future__ import annotations

import os
import pty
import re
import struct
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Any

import orjson
import redis
from click.testing import CliRunner, Result

from backscroll_worker.cli import main
from backscroll_worker.settings import Settings
from tests.prepared import Prepared
from tests.processes import spawn


def options(settings: Settings) -> list[str]:
    """The settings as options of the command line."""
    url = [] if settings.redis_url is None else ["--redis-url", settings.redis_url]
    places = ["--data-dir", str(settings.data_dir), "--store", settings.store]
    return [*url, *places, "--queue", settings.queue]


def run(settings: Settings, *arguments: str, given: str | bytes | None = None) -> Result:
    """`backscroll ARGUMENTS` with `given` on its standard input."""
    runner = CliRunner(env={"BACKSCROLL_NICE": "0"})  # this process has to stay as it is
    return runner.invoke(main, [*options(settings), *arguments], input=given)


def done(settings: Settings, *arguments: str, given: str | bytes | None = None) -> str:
    """The standard output of a command that must succeed."""
    result = run(settings, *arguments, given=given)
    assert result.exit_code == 0, result.output
    return result.stdout


def document(settings: Settings, *arguments: str) -> Any:
    """The one JSON document of a reading command."""
    return orjson.loads(done(settings, *arguments, "--json"))


def work_off(settings: Settings, directory: Path) -> None:
    """Let a worker do all that waits."""
    log = directory / "burst.log"
    assert spawn(settings, "worker", "--burst", log=log).wait(timeout=60) == 0, log.read_text()


def queued(client: redis.Redis) -> int:
    """How many operations wait for a worker."""
    return int(client.llen("rq:queue:backscroll"))


def in_terminal(
    settings: Settings, *arguments: str, typed: bytes = b"", columns: int = 80
) -> tuple[int, str]:
    """The exit code of `backscroll ARGUMENTS`, and what it shows on a terminal."""
    terminal, inside = pty.openpty()
    ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = Prepared(
        [*options(settings), *arguments],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)},
    )
    os.close(inside)
    os.write(terminal, typed)
    shown = b""
    try:
        while chunk := os.read(terminal, 65_536):
            shown += chunk
    except OSError:  # how Linux says that nobody has the other end open any more
        pass
    os.close(terminal)
    return process.wait(timeout=60), shown.decode().replace("\r\n", "\n")


def without_styles(shown: str) -> str:
    """What a terminal shows, without the sequences that colour it."""
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)
