"""The commands in docs/operations.md for backing up and restoring, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.ops.up import environment
from backscroll_worker.settings import Settings
from tests.processes import burst, contents, running_worker
from tests.servers import OWN, ROOT, program, recommended, running

PLACES: Final = {
    "/var/lib/backscroll": "lib",
    "/var/backups": "backups",
    "/var/lib/valkey": "valkey",
}
REDIS_CLI: Final = """
import os, sys, redis
client = redis.Redis.from_url(os.environ["BACKSCROLL_REDIS_URL"], decode_responses=True)
client.response_callbacks.clear()
print(client.execute_command(*sys.argv[1:]))
"""


def documented(has: str) -> str:
    """The block of commands in the docs that has these words."""
    text = (ROOT / "docs" / "operations.md").read_text()
    (block,) = [
        each
        for each in re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if has in each
    ]
    return str(block)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory in which a host's places are, and the programs that the commands name."""
    for name in ("bin", *PLACES.values()):
        (tmp_path / name).mkdir()
    for name, call in {
        "backscroll": "-m backscroll_worker.cli",
        "redis-cli": f"-c '{REDIS_CLI}'",
    }.items():
        script = tmp_path / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {sys.executable} {call} "$@"\n')
        script.chmod(0o700)
    return tmp_path


def execute(commands: str, host: Path, settings: Settings) -> str:
    """What they print; all must succeed, but for a check without a worker."""
    for place, own in PLACES.items():
        commands = commands.replace(place, str(host / own))
    assert settings.redis_url is not None
    path = f"{host / 'bin'}:{os.environ['PATH']}"
    variables = {**environment(settings, settings.redis_url), "PATH": path}
    variables["PYTHONPATH"] = str(ROOT)
    commands = commands.replace("backscroll check", "backscroll check || test $? = 1")
    done = subprocess.run(
        ["sh", "-ec", commands], env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def say(settings: Settings, *texts: str) -> None:
    with Producer(settings.redis_url, timeout_seconds=60) as producer:
        for text in texts:
            producer.append("k", ChatMessage.user(text))


def work(settings: Settings, host: Path) -> None:
    assert burst(settings, host / "worker.log") == 0, (host / "worker.log").read_text()


@pytest.mark.parametrize(
    ("store", "steps"),
    [
        ("sqlite://{}/backscroll.db", "cp -R /var/backups/backscroll.db"),
        ("jsonl://{}/sessions", "cp -R /var/backups/sessions"),
    ],
)
def test_a_store_is_restored_by_the_documented_commands(
    store: str, steps: str, settings: Settings, client: redis.Redis, host: Path
) -> None:
    own = replace(settings, store=store.format(host / "lib"))
    log = host / "worker.log"
    with running_worker(own, client, log), Producer(own.redis_url, timeout_seconds=60) as producer:
        producer.append("k", ChatMessage.user("before"), ack="stored")
        place = f"/var/backups/{own.store.rpartition('/')[2]}"
        execute(f"backscroll backup --replace {place}", host, own)
        producer.append("k", ChatMessage.user("after the backup"), ack="stored")
    # The worker was killed: its log is beside the database, as after a crash.
    assert "no damage found" in " ".join(execute(documented(steps), host, own).split())
    assert contents(own, "k") == ["before"]
    with running_worker(own, client, log), Producer(own.redis_url, timeout_seconds=60) as producer:
        producer.append("k", ChatMessage.user("goes on"), ack="stored")
    assert contents(own, "k") == ["before", "goes on"]


def test_queue_and_store_are_restored_by_the_documented_commands(
    settings: Settings, host: Path
) -> None:
    server, directory = program(OWN), host / "valkey"
    url = f"unix://{directory / 'socket'}"
    own = replace(settings, redis_url=url, store=f"sqlite://{host / 'lib'}/backscroll.db")
    copying, last = documented("CONFIG SET").split("backscroll backup", 1)
    with running(server, directory, *recommended()) as client:
        say(own, "stored before")
        work(own, host)
        say(own, "in both")
        client.config_set("rdb-key-save-delay", 400_000)
        client.bgrewriteaof()
        for _ in range(2):  # the second copy takes the place of the first
            execute(copying, host, own)
            name = "appendonlydir/appendonly.aof.manifest"
            assert (host / "backups" / name).read_text() == (directory / name).read_text()
        work(own, host)
        execute(f"backscroll backup{last}", host, own)
        say(own, "after the backup")
        work(own, host)
    execute(
        documented("cp -R /var/backups/backscroll.db").rpartition("backscroll check")[0], host, own
    )
    execute(documented("mv appendonlydir"), host, own)
    with running(server, directory, *recommended()) as client:
        assert client.llen("rq:queue:backscroll") == 1
        say(own, "goes on")
        work(own, host)
    assert contents(own, "k") == ["stored before", "in both", "goes on"]
