"""A store that fails, or is none: the worker pauses or refuses, and loses nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
import redis

from backscroll import ChatMessage, Producer
from backscroll_worker.settings import Settings
from tests.processes import (
    burst,
    contents,
    depth,
    in_flight,
    running_worker,
    stop,
    wait_for,
    workers,
)


def test_a_locked_store_pauses_the_worker_which_then_continues(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log) as process:
        producer.append("k", ChatMessage.user("a"), ack="stored")
        other = apsw.Connection(settings.store.removeprefix("sqlite://"))
        other.set_busy_timeout(60_000)  # the worker may be writing
        other.execute("BEGIN IMMEDIATE")
        producer.append("k", ChatMessage.user("b"))
        (key,) = workers(client)
        error = wait_for(lambda: client.hget(key.decode(), "store_error"), "the pause")
        assert b"one writer" in error
        assert client.zcard("rq:failed:backscroll") == 0
        other.execute("ROLLBACK")
        wait_for(lambda: depth(client) == 0, "the job")
        wait_for(lambda: not client.hexists(key.decode(), "store_error"), "the all-clear")
        assert stop(process) == 0
    assert contents(settings, "k") == ["a", "b"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a megabyte."""
    directory = tmp_path / "disk"
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("this user may not mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_pauses_the_worker_and_loses_nothing(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path, small_disk: Path
) -> None:
    settings = settings.with_options(store=f"sqlite://{small_disk / 'backscroll.db'}")
    with running_worker(settings, client, log) as process:
        producer.append("k", ChatMessage.user("first"), ack="stored")
        ballast = small_disk / "ballast"
        with pytest.raises(OSError, match="No space"):
            ballast.write_bytes(b"x" * 2_000_000)
        for number in range(20):
            producer.append("k", ChatMessage.user(f"{number} " + "y" * 4000))
        (key,) = workers(client)
        error = wait_for(lambda: client.hget(key.decode(), "store_error"), "the pause")
        assert b"Free some space" in error
        ballast.unlink()
        wait_for(lambda: depth(client) == 0, "the jobs")
        assert stop(process) == 0
    assert client.zcard("rq:failed:backscroll") == 0
    assert [text.split()[0] for text in contents(settings, "k")] == [
        "first",
        *map(str, range(20)),
    ]


def test_stopping_while_the_store_fails_puts_the_jobs_back(
    settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    with running_worker(settings, client, log) as process:
        producer.append("k", ChatMessage.user("a"), ack="stored")
        other = apsw.Connection(settings.store.removeprefix("sqlite://"))
        other.set_busy_timeout(60_000)  # the worker may be writing
        other.execute("BEGIN IMMEDIATE")
        receipt = producer.append("k", ChatMessage.user("b"))
        (key,) = workers(client)
        wait_for(lambda: client.hget(key.decode(), "store_error"), "the pause")
        stop(process)
        assert client.lrange("rq:queue:backscroll", 0, -1) == [receipt.op_id.encode()]
        assert in_flight(client) == []
        other.execute("ROLLBACK")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: path.write_bytes(b"not a database" * 100), "not a database"),
        (lambda path: path.mkdir(), "is not a file"),
        (
            lambda path: apsw.Connection(str(path)).execute("CREATE TABLE t(x)"),
            "not a Backscroll store",
        ),
        (
            lambda path: apsw.Connection(str(path)).execute(
                "PRAGMA application_id = 1114329955; PRAGMA user_version = 999; CREATE TABLE t(x)"
            ),
            "newer",
        ),
    ],
    ids=["not a database", "a directory", "another program's", "from a newer version"],
)
def test_a_store_that_is_none_is_refused_and_no_job_is_touched(
    prepare: Any, words: str, settings: Settings, producer: Producer, client: redis.Redis, log: Path
) -> None:
    prepare(Path(settings.store.removeprefix("sqlite://")))
    receipt = producer.append("k", ChatMessage.user("a"))
    assert burst(settings, log) != 0
    said = log.read_text()
    assert words in said
    assert "Traceback" not in said
    assert client.lrange("rq:queue:backscroll", 0, -1) == [receipt.op_id.encode()]
