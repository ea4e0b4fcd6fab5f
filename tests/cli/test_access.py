"""Whom a reading command asks, and what it says about that."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from backscroll import ChatMessage
from backscroll_worker.ops.exit_codes import ExitCode
from backscroll_worker.settings import Settings
from backscroll_worker.testing.stores import open_tested
from tests.cli.command import done, run
from tests.processes import running_worker, wait_for

READING = "reading the store directly"


@pytest.fixture
def stored(settings: Settings) -> Settings:
    with open_tested(settings.store) as store:
        store.append("k", ChatMessage.user("hello"))
    return settings


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "hello", "--limit", "0"),
        ("search", "hello", "--cursor", "nonsense"),
        ("load", "k", "--before", "unknown"),
        ("load", "", "--limit", "5"),
        ("sessions", "--limit", "5000"),
        ("sessions", "--cursor", "nonsense"),
    ],
)
def test_that_the_store_is_read_is_said_only_when_it_is(
    stored: Settings, arguments: tuple[str, ...]
) -> None:
    result = run(stored, *arguments)
    assert result.exit_code in (ExitCode.USAGE, ExitCode.REFUSED)
    assert result.stderr.count("\n") == 1
    assert READING not in result.stderr


def test_a_store_that_was_not_asked_is_named(
    stored: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    elsewhere = replace(stored, store=f"sqlite://{tmp_path}/elsewhere/x.db")
    with running_worker(stored, client, log):
        wait_for(lambda: READING not in run(stored, "sessions").stderr, "the worker")
        assert run(stored, "sessions").stderr == ""
        for arguments in (("sessions",), ("load", "k"), ("search", "hello", "--json")):
            result = run(elsewhere, *arguments)
            assert result.exit_code == ExitCode.OK
            assert result.stderr.splitlines()[0] == (
                f"backscroll: the worker that answered stores into {stored.store}, "
                f"not {elsewhere.store}"
            )
        assert "k" in done(elsewhere, "sessions")


def test_the_same_store_by_another_path_is_the_same(
    stored: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    linked = replace(stored, store=f"sqlite://{tmp_path}/link/backscroll.db")
    with running_worker(linked, client, log):
        for each in (stored, linked):
            assert run(each, "load", "k").stderr == ""


def test_a_data_directory_names_no_store(
    stored: Settings, client: redis.Redis, log: Path, tmp_path: Path
) -> None:
    elsewhere = replace(
        stored, data_dir=tmp_path / "b", store=f"sqlite://{tmp_path / 'b' / 'backscroll.db'}"
    )
    with running_worker(stored, client, log):
        assert run(elsewhere, "load", "k").stderr == ""


def test_a_store_that_is_not_there_is_named(settings: Settings, tmp_path: Path) -> None:
    elsewhere = replace(settings, store=f"jsonl://{tmp_path}/nowhere")
    for arguments in (("sessions",), ("load", "k"), ("search", "x"), ("export",)):
        result = run(elsewhere, *arguments)
        assert result.exit_code == ExitCode.NOT_CONFIRMED
        assert f"there is no store at {tmp_path}/nowhere" in result.stderr
    assert not (tmp_path / "nowhere").exists()


def test_a_command_that_needs_a_worker_starts_no_server(stored: Settings) -> None:
    embedded = replace(stored, redis_url=None)
    for arguments in (("compact",), ("cleanup",), ("append", "k", "user", "x", "--wait")):
        result = run(embedded, *arguments)
        assert result.exit_code == ExitCode.NOT_CONFIRMED
    assert not (embedded.data_dir / "server").exists()


@pytest.fixture(params=["unreachable", "refusing", "no server's"])
def without_server(request: pytest.FixtureRequest, stored: Settings) -> Settings:
    urls = {
        "unreachable": "redis://127.0.0.1:1",
        "refusing": f"{stored.redis_url}".replace("unix://", "unix://nobody:wrong@"),
        "no server's": "redis://backscroll.invalid:6379",
    }
    return replace(stored, redis_url=urls[request.param])


@pytest.mark.parametrize(
    "arguments", [("load", "k"), ("sessions",), ("search", "hello"), ("export", "k")]
)
def test_without_the_server_the_store_on_this_machine_is_read(
    without_server: Settings, arguments: tuple[str, ...]
) -> None:
    result = run(without_server, *arguments)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert result.stdout.count("\n") >= 2
    if arguments[0] != "export":
        assert READING in result.stderr
        assert "wrong" not in result.stderr


def test_without_server_and_store_the_server_is_to_blame(
    without_server: Settings, tmp_path: Path
) -> None:
    elsewhere = replace(without_server, store=f"sqlite://{tmp_path}/nowhere.db")
    assert run(elsewhere, "load", "k").exit_code == ExitCode.SERVER


def test_stats_shows_the_store_though_the_server_is_unreachable(stored: Settings) -> None:
    result = run(replace(stored, redis_url="redis://127.0.0.1:1"), "stats")
    assert result.exit_code == ExitCode.SERVER
    assert stored.store in result.stdout
