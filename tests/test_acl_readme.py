"""deploy/redis/README.md: its commands, done as they stand there."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import redis
from redis.exceptions import NoPermissionError

from backscroll import ChatMessage, Producer
from backscroll.contract.errors import ServerRefusedError
from tests.cli.command import done
from tests.guarded import FILE, REDIS, ROLES, guarded_server, password
from tests.processes import running_worker, spawn, stop

README: Final = (REDIS / "README.md").read_text()
SHELL: Final = re.findall(r"^```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
HI: Final = ChatMessage.user("hi")
QUEUE: Final = "rq:queue:backscroll"


def follow(readme: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Do what a block of the README says, beside a copy of the file."""
    (directory / "users.acl").write_text(FILE)
    return subprocess.run(
        ["sh", "-ec", readme], cwd=directory, capture_output=True, text=True, check=True
    )


def test_the_readmes_commands_make_passwords_that_let_in(tmp_path: Path) -> None:
    chosen = dict(line.split() for line in follow(SHELL[0], tmp_path).stdout.splitlines())
    assert set(chosen) == {"admin", *ROLES}
    assert len(set(chosen.values())) == len(chosen)
    with guarded_server(tmp_path, (tmp_path / "users.acl").read_text()) as guarded:
        for user, word in chosen.items():
            url = guarded.url(user).replace(password(user), word)
            with redis.Redis.from_url(url) as client:
                assert client.ping()


def test_the_readmes_form_for_another_queue_is_for_that_one_only(tmp_path: Path, log: Path) -> None:
    follow(SHELL[1], tmp_path)
    with guarded_server(tmp_path, (tmp_path / "users-support.acl").read_text()) as guarded:
        settings = replace(guarded.settings("worker"), queue="support")
        with Producer(guarded.url("producer"), "support", timeout_seconds=60) as producer:
            producer.append("k", HI)
            assert spawn(settings, "worker", "--burst", log=log).wait(timeout=60) == 0
        assert guarded.refused() == []
        with (
            Producer(guarded.url("producer")) as producer,
            pytest.raises(ServerRefusedError),
        ):
            producer.append("k", HI)


def test_the_readmes_form_for_redis_6_2_does_the_same_work(tmp_path: Path, log: Path) -> None:
    follow(SHELL[3], tmp_path)
    made = (tmp_path / "users-6.2.acl").read_text()
    assert not re.search(r"[()%]", made)
    with guarded_server(tmp_path, made) as guarded, guarded.client("admin") as admin:
        with running_worker(guarded.settings("worker"), admin, log) as process:
            with Producer(guarded.url("producer"), timeout_seconds=60) as producer:
                assert producer.append("k", HI, ack="stored").affected == 1
            done(guarded.settings("dashboard"), "stats")
            assert stop(process) == 0
        assert guarded.refused() == []
        with guarded.client("producer") as client, pytest.raises(NoPermissionError):
            client.lpop(QUEUE)
