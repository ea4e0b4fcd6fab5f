"""What deploy/ recommends for the server, run on every server that can be had."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Final

import orjson
import pytest
import redis
import yaml

from backscroll import ChatMessage, Producer
from backscroll.transport.rq_protocol import own_key
from backscroll_worker.ops.default_user import _written, missing_right
from backscroll_worker.ops.exit_codes import ExitCode
from tests.cli.command import run
from tests.guarded import FILE, Guarded
from tests.processes import contents, running_worker, spawn, stop, wait_for
from tests.servers import (
    OWN,
    ROOT,
    SYSTEM,
    as_readme_says,
    names,
    program,
    recommended,
    running,
    users,
    version,
)
from tests.test_acl import put_bad_jobs

AFFECTED: Final = SYSTEM
FIXED: Final = OWN
QUEUE: Final = "rq:queue:backscroll"
SAID: Final = [f"message {number}" for number in range(10)]


def say(url: str) -> None:
    """Ten messages that wait for a worker, each of them acknowledged."""
    with Producer(url, timeout_seconds=60) as producer:
        for text in SAID:
            producer.append("k", ChatMessage.user(text))


def stored(directory: Path) -> list[str]:
    """What a worker makes of what waits on the server in `directory`."""
    guarded = Guarded(directory)
    log = directory / "worker.log"
    code = spawn(guarded.settings("worker"), "worker", "--burst", log=log).wait(timeout=60)
    assert code == 0, log.read_text()
    return contents(guarded.settings("worker"), "k")


@pytest.mark.parametrize("name", names())
def test_a_restart_under_the_recommended_users_loses_no_operation(
    name: str, tmp_path: Path
) -> None:
    server = program(name)
    options = [*recommended(), *users(server, tmp_path)]
    with running(server, tmp_path, *options):
        say(Guarded(tmp_path).url("producer"))
    with running(server, tmp_path, *options, ends_by=signal.SIGKILL) as admin:
        assert admin.llen(QUEUE) == len(SAID)
    with running(server, tmp_path, *options):
        with (
            redis.Redis(unix_socket_path=str(tmp_path / "socket")) as nobody,
            pytest.raises(redis.AuthenticationError),
        ):
            nobody.ping()
        assert stored(tmp_path) == SAID


def test_an_upgrade_through_every_server_loses_no_operation(tmp_path: Path) -> None:
    in_order = sorted(map(program, names()), key=version)
    for number, server in enumerate(in_order):
        with running(server, tmp_path, *recommended(), *users(server, tmp_path)) as admin:
            assert admin.llen(QUEUE) == number * len(SAID), server
            say(Guarded(tmp_path).url("producer"))
    with running(server, tmp_path, *recommended(), *users(server, tmp_path)):
        assert stored(tmp_path) == SAID * len(in_order)


@pytest.mark.parametrize("name", names())
def test_the_compose_files_command_line_keeps_everything_over_a_restart(
    name: str, tmp_path: Path
) -> None:
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    _, *options = compose["services"]["valkey"]["command"].split()
    server = program(name)
    with running(server, tmp_path, *options):
        say(f"unix://{tmp_path / 'socket'}")
    with running(server, tmp_path, *options) as client:
        assert client.llen(QUEUE) == len(SAID)


OWN_LINE: Final = "user default off ~* &* +@all\n"


@pytest.mark.parametrize("line", ["user default off\n", "user default off ~* &* +@all -xadd\n"])
def test_check_finds_a_default_user_by_which_a_restart_loses_operations(
    line: str, tmp_path: Path
) -> None:
    server, guarded = program(AFFECTED), Guarded(tmp_path)
    assert FILE.startswith(OWN_LINE)
    faulty = FILE.replace(OWN_LINE, line)
    with running(server, tmp_path, *recommended(), *users(server, tmp_path)) as admin:
        assert look_at_default_user(guarded, "worker")["level"] == "ok"
        users(server, tmp_path, faulty)
        admin.acl_load()
        for user in ("worker", "dashboard", "operator"):
            found = look_at_default_user(guarded, user)
            assert found["level"] == "problem"
            assert "user default off ~* &* +@all" in found["advice"]
        users(server, tmp_path, faulty.replace("+acl|dryrun ", ""))  # as an earlier version's file
        admin.acl_load()
        assert look_at_default_user(guarded, "worker")["level"] == "warning"


def test_check_is_silent_of_the_default_user_where_nothing_depends_on_it(tmp_path: Path) -> None:
    server, guarded = program(FIXED), Guarded(tmp_path)
    text = FILE.replace(OWN_LINE, "user default off\n")
    with running(server, tmp_path, *recommended(), *users(server, tmp_path, text)):
        say(guarded.url("producer"))
        assert look_at_default_user(guarded, "worker") == {}
    with running(server, tmp_path, *recommended(), *users(server, tmp_path, text)) as admin:
        assert admin.llen(QUEUE) == len(SAID)


def test_check_asks_of_everything_that_a_transaction_of_the_file_can_hold(tmp_path: Path) -> None:
    server, guarded, log = program(AFFECTED), Guarded(tmp_path), tmp_path / "worker.log"
    with running(server, tmp_path, *recommended(), *users(server, tmp_path)) as admin:
        with (
            running_worker(guarded.settings("worker"), admin, log) as process,
            Producer(guarded.url("producer"), timeout_seconds=60) as producer,
        ):
            for _ in range(2):
                producer.append("k", ChatMessage.user("hi"), dedup_key="1", ack="stored")
            producer.load("k")
            producer.cleanup(1)
            put_bad_jobs(guarded, "bad", data='["?", null, [], {"key": "k"}]')
            producer.erase(key="k")
            assert stop(process) == 0
        held = {one for each in files_of(tmp_path) for one in in_transactions(each.read_bytes())}
        assert {"rpush", "ltrim", "zadd", "zrem", "srem"} <= {command for command, _ in held}
        assert held <= {(each[0], kind_of(each[1])) for each in _written("backscroll")}
        for command in {each[0] for each in _written("backscroll")}:
            admin.acl_setuser("default", categories=["+@all"], commands=[f"-{command}"])
            assert command in (missing_right(admin, "backscroll") or ""), command
        admin.acl_setuser("default", categories=["+@all"])
        assert missing_right(admin, "backscroll") is None


def files_of(directory: Path) -> list[Path]:
    return list(directory.glob("appendonlydir/*.incr.aof"))


def in_transactions(content: bytes) -> Iterator[tuple[str, str]]:
    """Each command between MULTI and EXEC, with its first key."""
    is_inside, file = False, BytesIO(content)
    while line := file.readline():
        words = [file.read(int(file.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
        command = words[0].lower().decode()
        if command in ("multi", "exec"):
            is_inside = command == "multi"
        elif is_inside:
            yield command, kind_of(words[1].decode())


def kind_of(key: str) -> str:
    return re.sub(r"^(rq:(?:job|results|worker):|.*:cron:).*", r"\1", key)


def look_at_default_user(guarded: Guarded, user: str) -> dict[str, str]:
    result = run(guarded.settings(user), "check", "--skip-verify", "--json")
    assert result.exit_code == ExitCode.FAILED  # as no worker runs
    checks = orjson.loads(result.stdout)
    found = [check for check in checks if check["name"] == "default user"]
    return found[0] if found else {}


@pytest.mark.parametrize("name", names())
def test_the_server_quotes_nothing_of_what_was_erased(name: str, tmp_path: Path) -> None:
    server, guarded = program(name), Guarded(tmp_path)
    with_commandlog = FILE
    if version(server) >= (True, 8, 1, 0):
        with_commandlog = as_readme_says(tmp_path, FILE, "users-valkey.acl")
    options = [*recommended(), "--slowlog-log-slower-than", "0"]
    with running(server, tmp_path, *options, *users(server, tmp_path, with_commandlog)) as admin:
        with Producer(guarded.url("producer"), timeout_seconds=60) as producer:
            producer.append("zebra", ChatMessage.user("quagga " * 20_000))
            producer.append("zebra", ChatMessage.user("quagga"))
        with (
            running_worker(guarded.settings("worker"), admin, tmp_path / "worker.log"),
            Producer(guarded.url("producer"), timeout_seconds=60) as producer,
        ):
            tails = own_key("backscroll", "tails")
            wait_for(lambda: producer.load("zebra", 1) and admin.hexists(tails, "hzebra"), "a tail")
            assert "quagga" in str(admin.hgetall(tails))
            assert producer.erase(key="zebra").messages == 2
            assert "quagga" not in str(admin.hgetall(tails))
        assert "does not let this user" not in (tmp_path / "worker.log").read_text()
        assert b"quagga" not in repr(admin.slowlog_get(1000)).encode()


def test_a_worker_that_may_not_empty_them_says_so(tmp_path: Path) -> None:
    server, guarded = program(OWN), Guarded(tmp_path)
    text = FILE.replace("+slowlog|reset ", "")
    log = tmp_path / "worker.log"
    with (
        running(server, tmp_path, *recommended(), *users(server, tmp_path, text)) as admin,
        running_worker(guarded.settings("worker"), admin, log),
        Producer(guarded.url("producer"), timeout_seconds=60) as producer,
    ):
        producer.erase(key="zebra")
        wait_for(lambda: "SLOWLOG RESET: that log may quote" in log.read_text(), "its log's line")
